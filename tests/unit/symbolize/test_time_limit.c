/* What a time limit costs: debug info that takes too long, or is too large, does not take the names
 * of other modules away, and is told. */
#include "tests/unit/symbolize/fixture.h"

/* Debug info that is slow to read: 400 inlined functions within each other, each of which needs a
 * walk over 16 million DIEs to find out what namespace it is in. The section that is but announced
 * raises the budget of steps, which would end it within a second. */
static const char slow_source[] =
    ".text\n.globl slow\n.type slow, @function\nslow:\n  nop\n  ret\n.size slow, .-slow\n"
    ".section .debug_abbrev,\"\",@progbits\n"
    /* unit: language, low_pc, high_pc; DIE of nothing; function: name, low_pc, high_pc; inlined */
    "  .byte 1,0x11,1, 0x13,0x0b, 0x11,1, 0x12,7, 0,0\n"
    "  .byte 2,0x24,0, 0,0\n"
    "  .byte 3,0x2e,1, 3,8, 0x11,1, 0x12,7, 0,0\n"
    "  .byte 4,0x1d,1, 3,8, 0x11,1, 0x12,7, 0,0\n"
    "  .byte 0\n"
    ".section .debug_info,\"\",@progbits\n"
    "  .long 2f-1f\n1:\n  .value 4\n  .long 0\n  .byte 8\n"
    "  .byte 1, 4\n  .quad slow, 2\n"
    "  .fill 16000000, 1, 2\n"
    "  .byte 3\n  .asciz \"f\"\n  .quad slow, 2\n"
    "  .rept 400\n  .byte 4\n  .asciz \"g\"\n  .quad slow, 2\n  .endr\n"
    "  .fill 402, 1, 0\n2:\n"
    ".section .xdebug_ranges,\"\",@progbits\n"
    "  .ascii \"ZLIB\"\n  .byte 0,0,0,0, 0x3b,0x9a,0xca,0\n  .fill 1000000, 1, 0\n"
    ".section .note.GNU-stack,\"\",@progbits\n";

/* Debug info that announces to be of 1 GB. */
static const char huge_source[] =
    ".text\n.globl slow\n.type slow, @function\nslow:\n  nop\n  ret\n.size slow, .-slow\n"
    ".section .xdebug_info,\"\",@progbits\n"
    "  .ascii \"ZLIB\"\n  .byte 0,0,0,0, 0x3b,0x9a,0xca,0\n  .fill 1000000, 1, 0\n"
    ".section .note.GNU-stack,\"\",@progbits\n";

/* Adds the mappings of one more module: fixture_add() finds these only. */
static void open_more(struct fixture *fixture, const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", fixture_dir, name);
    assert_null(module_table_open_path(target_modules(fixture->target), path, &fixture->module));
    fixture->num_mappings = 0;
    fixture_add_mappings(fixture);
}

/* Makes slow.so of `source`. The linker knows .zdebug_*, and would not take ours. */
static void build_slow(const char *source)
{
    fixture_write("slow.s", source);
    fixture_build("gcc -shared -Wl,--build-id=none -o slow.x slow.s && "
                  "LC_ALL=C sed 's/\\.xdebug_/.zdebug_/g' slow.x > slow.so");
}

/* Makes quick.so, which has debug info, and opens it. Returns: the place of its function. */
static uint32_t open_quick(struct fixture *fixture)
{
    fixture_write("quick.c", "int quick(int a) { return a * a; }\n");
    fixture_build("gcc -g -O1 -fPIC -shared -Wl,--build-id=none -o quick.so quick.c");
    fixture_open(fixture, "quick.so");
    return fixture_add(fixture, fixture_symbol("quick.so", "quick"));
}

static uint32_t add_slow(struct fixture *fixture)
{
    open_more(fixture, "slow.so");
    return fixture_add(fixture, fixture_symbol("slow.so", "slow"));
}

static void slow_debug_info_leaves_time_for_the_symbols_of_all(void **state)
{
    static const uint64_t weights[] = {1, 2}; /* the slow one comes first */
    static const struct symbolize_options options = {
        .inlines = true, .timeout_ns = 4000000000, .location_weights = weights};
    struct fixture fixture;
    uint32_t quick, slow;

    (void)state;
    build_slow(slow_source);
    quick = open_quick(&fixture);
    slow = add_slow(&fixture);
    fixture_symbolize(&fixture, &options);
    assert_int_equal(fixture.result.loss.counts[LOSS_SYMBOL_TIMEOUT], 0);
    assert_int_equal(fixture.result.loss.counts[LOSS_DEBUG_INFO_TIMEOUT], 2);
    assert_int_equal(fixture.result.num_named, 2);
    assert_int_equal(fixture_num_lines(&fixture, slow), 1);
    assert_string_equal(fixture_name(&fixture, slow, 0), "slow");
    assert_string_equal(fixture_name(&fixture, quick, 0), "quick");
    assert_string_equal(fixture_path(&fixture, quick, 0), "");
    fixture_close(&fixture);
}

static void lines_that_are_there_outlive_a_try_without_time(void **state)
{
    static const uint64_t weights[] = {1, 2};
    struct symbolize_options options = {
        .inlines = true, .timeout_ns = 4000000000, .location_weights = weights};
    struct fixture fixture;
    uint32_t quick;

    (void)state;
    build_slow(slow_source);
    quick = open_quick(&fixture);
    fixture_symbolize(&fixture, &options);
    assert_non_null(strstr(fixture_path(&fixture, quick, 0), "quick.c"));
    add_slow(&fixture);
    options.again = true;
    fixture_symbolize(&fixture, &options);
    assert_int_equal(fixture.result.loss.counts[LOSS_DEBUG_INFO_TIMEOUT], 2);
    assert_non_null(strstr(fixture_path(&fixture, quick, 0), "quick.c"));
    fixture_close(&fixture);
}

static void expect_huge(const struct symbolize_options *options, uint64_t num_cut)
{
    struct fixture fixture;
    uint32_t place;

    build_slow(huge_source);
    fixture_open(&fixture, "slow.so");
    place = fixture_add(&fixture, fixture_symbol("slow.so", "slow"));
    fixture_symbolize(&fixture, options);
    assert_string_equal(fixture_name(&fixture, place, 0), "slow");
    assert_int_equal(fixture.result.loss.counts[LOSS_DEBUG_INFO_TIMEOUT], num_cut);
    fixture_close(&fixture);
}

static void debug_info_that_is_too_large_is_told(void **state)
{
    static const struct symbolize_options options = {.inlines = true};

    (void)state;
    expect_huge(&options, 1);
}

static void who_asks_for_names_only_misses_nothing(void **state)
{
    static const struct symbolize_options options = {.inlines = false};

    (void)state;
    expect_huge(&options, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_debug_info_leaves_time_for_the_symbols_of_all),
        cmocka_unit_test(lines_that_are_there_outlive_a_try_without_time),
        cmocka_unit_test(debug_info_that_is_too_large_is_told),
        cmocka_unit_test(who_asks_for_names_only_misses_nothing),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
