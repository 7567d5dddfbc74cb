/* DWARF expressions: each operation once, and those that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "unwind/arch_x86_64.h"
#include "unwind/expr.h"

/* Memory in which every 8-byte word holds its address + 1. */
static bool read_memory(void *memory, uint64_t addr, size_t num_bytes, uint64_t *value_ret)
{
    (void)memory;
    *value_ret = addr + 1;
    if (num_bytes < 8)
        *value_ret &= (1ULL << (8 * num_bytes)) - 1;
    return addr != 0;
}

static bool run(const uint8_t *expr, size_t num_bytes, uint64_t *value_ret)
{
    uint64_t regs[ARCH_NUM_REGS] = {0}, work = 100000;
    const struct expr_context context = {regs, ARCH_ALL_REGS & ~(1U << 3), read_memory, NULL};

    regs[ARCH_REG_SP] = 0x7000;
    regs[ARCH_REG_BP] = 0x7100;
    regs[ARCH_REG_IP] = 0x40101b;
    return expr_evaluate(expr, num_bytes, &context, true, 0x9000, &work, value_ret);
}

#define assert_value(expected, ...)                      \
    do {                                                 \
        const uint8_t expr_[] = {__VA_ARGS__};           \
        uint64_t value_ = 0;                             \
        assert_true(run(expr_, sizeof(expr_), &value_)); \
        assert_int_equal(value_, (uint64_t)(expected));  \
    } while (0)

#define assert_refused(...)                               \
    do {                                                  \
        const uint8_t expr_[] = {__VA_ARGS__};            \
        uint64_t value_ = 0;                              \
        assert_false(run(expr_, sizeof(expr_), &value_)); \
    } while (0)

static void initial_value_is_on_the_stack(void **state)
{
    (void)state;
    assert_value(0x9000, 0x96);
    assert_value(0x9008, 0x23, 8);
}

static void plt_expression_tells_pushed_words(void **state)
{
    (void)state;
    /* rsp + 8 + ((rip & 15) >= 11) * 8, as ld writes it for .plt */
    assert_value(0x7010, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22);
}

static void constants_are_extended_by_sign(void **state)
{
    (void)state;
    assert_value(0x80, 0x08, 0x80);
    assert_value(-128, 0x09, 0x80);
    assert_value(-2, 0x0b, 0xfe, 0xff);
    assert_value(0xfffffffe, 0x0c, 0xfe, 0xff, 0xff, 0xff);
    assert_value(-2, 0x0d, 0xfe, 0xff, 0xff, 0xff);
    assert_value(0x0807060504030201, 0x0e, 1, 2, 3, 4, 5, 6, 7, 8);
    assert_value(624485, 0x10, 0xe5, 0x8e, 0x26); /* DWARF 5 appendix C */
    assert_value(-127, 0x11, 0x81, 0x7f);
    assert_value(31, 0x4f);
}

static void stack_operations_reorder(void **state)
{
    (void)state;
    assert_value(2, 0x31, 0x32, 0x12, 0x13);
    assert_value(1, 0x31, 0x32, 0x14);
    assert_value(1, 0x31, 0x32, 0x33, 0x15, 2);
    assert_value(1, 0x31, 0x32, 0x16);
    assert_value(2, 0x31, 0x32, 0x33, 0x17);
}

static void arithmetic_wraps_and_is_signed_where_dwarf_says(void **state)
{
    (void)state;
    assert_value(-3, 0x09, 0xf9, 0x32, 0x1b); /* -7 / 2 */
    assert_value(1, 0x37, 0x32, 0x1d);        /* 7 mod 2 */
    assert_value(7, 0x09, 0xf9, 0x19);        /* abs -7 */
    assert_value(-7, 0x37, 0x1f);
    assert_value(~7ULL, 0x37, 0x20);
    assert_value(5, 0x37, 0x32, 0x1c);
    assert_value(14, 0x37, 0x32, 0x1e);
    assert_value(28, 0x37, 0x32, 0x24);
    assert_value(1, 0x37, 0x32, 0x25);
    assert_value(-2, 0x09, 0xf9, 0x32, 0x26);
    assert_value(0, 0x37, 0x08, 64, 0x24);
    assert_value(-1, 0x09, 0xf9, 0x08, 200, 0x26);
    assert_value(5, 0x37, 0x32, 0x27);
    assert_value(1, 0x09, 0xf9, 0x32, 0x2d); /* -7 < 2 */
    assert_value(0, 0x09, 0xf9, 0x32, 0x2b);
}

static void memory_is_read(void **state)
{
    (void)state;
    assert_value(0x70f9, 0x76, 0x78, 0x06); /* *(rbp - 8) */
    assert_value(0xf9, 0x76, 0x78, 0x94, 1);
    assert_refused(0x30, 0x06); /* address 0 can't be read */
    assert_refused(0x76, 0, 0x94, 3);
}

static void branches_stay_inside(void **state)
{
    (void)state;
    assert_value(5, 0x31, 0x28, 1, 0, 0x32, 0x35); /* 1 bra +1, skipping lit2 */
    assert_value(5, 0x2f, 2, 0, 0x06, 0x06, 0x35);
    assert_refused(0x2f, 0xfc, 0xff); /* to before the start */
    assert_refused(0x2f, 1, 0);
}

static void hostile_expressions_are_refused(void **state)
{
    uint8_t flood[EXPR_MAX_STACK + 1];
    uint64_t value;

    (void)state;
    assert_refused(0x2f, 0xfd, 0xff); /* an endless loop */
    assert_refused(0x13, 0x13);       /* more popped than pushed */
    assert_refused(0x13);             /* nothing left */
    assert_refused(0x31, 0x30, 0x1b); /* division by zero */
    assert_refused(0x31, 0x30, 0x1d);
    assert_refused(0x73, 0);       /* rbx is not known */
    assert_refused(0x92, 0x40, 0); /* no such register */
    assert_refused(0x9c);          /* call_frame_cfa is not allowed in CFI */
    assert_refused(0x0e, 1, 2);    /* cut off */
    assert_refused(0x10, 0x80);
    assert_refused(0xff);
    for (size_t i = 0; i < sizeof(flood); i++)
        flood[i] = 0x12;
    assert_false(run(flood, sizeof(flood), &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initial_value_is_on_the_stack),
        cmocka_unit_test(plt_expression_tells_pushed_words),
        cmocka_unit_test(constants_are_extended_by_sign),
        cmocka_unit_test(stack_operations_reorder),
        cmocka_unit_test(arithmetic_wraps_and_is_signed_where_dwarf_says),
        cmocka_unit_test(memory_is_read),
        cmocka_unit_test(branches_stay_inside),
        cmocka_unit_test(hostile_expressions_are_refused),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
