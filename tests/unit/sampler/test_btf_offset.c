/* Field offsets out of BTF: as libbpf tells them for the running kernel, as we make them up, and as
 * nobody should write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/btf.h>

#include "base/compiler.h"
#include "sampler/btf_offset.h"
#include "tests/unit/skip.h"

#if HAVE_BPF
#include <bpf/btf.h>
#endif

#define KERNEL_BTF "/sys/kernel/btf/vmlinux"

/* --- made up -------------------------------------------------------------------------------- */

#define INFO(kind, vlen, kind_flag) ((uint32_t)(kind_flag) << 31 | (kind) << 24 | (vlen))

enum { NAME_INT = 1, NAME_TASK = 5, NAME_PID = 10, NAME_TGID = 14, NAME_BITS = 19 };
static const char strings[] = "\0int\0task\0pid\0tgid\0bits";

/* A header and sections as a kernel has them. */
struct made_up {
    struct btf_header header;
    uint32_t types[64];
    char strings[sizeof(strings)];
};

#define INT(name) name, INFO(BTF_KIND_INT, 0, 0), 4, 0x01000020
#define STRUCT(name, vlen, kind_flag, size) name, INFO(BTF_KIND_STRUCT, vlen, kind_flag), size
#define UNION(name, vlen, size) name, INFO(BTF_KIND_UNION, vlen, 0), size
#define MEMBER(name, type, bit) name, type, bit

/* Struct task is there twice: the first lacks a field, and the other has it in an anonymous union
 * of an anonymous struct. */
static const uint32_t types[] = {
    INT(NAME_INT),              /* type 1 */
    STRUCT(NAME_TASK, 1, 0, 4), /* type 2 */
    MEMBER(NAME_PID, 1, 0),
    STRUCT(NAME_TASK, 3, 1, 64), /* type 3 */
    MEMBER(NAME_BITS, 1, 3u << 24),
    MEMBER(NAME_PID, 1, 32),
    MEMBER(0, 4, 64),
    STRUCT(0, 2, 0, 16), /* type 4 */
    MEMBER(NAME_BITS, 1, 0),
    MEMBER(0, 5, 64),
    UNION(0, 1, 4), /* type 5 */
    MEMBER(NAME_TGID, 1, 0),
};
#define INNER_BIT 27  /* where type 4 tells at which bit `bits` is */
#define INNER_TYPE 29 /* and of what type its anonymous member is */

static const char *const names[] = {"pid", "tgid"};

static void make_up(struct made_up *made_up)
{
    *made_up = (struct made_up){
        .header =
            {
                .magic = BTF_MAGIC,
                .version = BTF_VERSION,
                .hdr_len = sizeof(made_up->header),
                .type_len = sizeof(types),
                .str_off = sizeof(made_up->types),
                .str_len = sizeof(strings),
            },
    };
    memcpy(made_up->types, types, sizeof(types));
    memcpy(made_up->strings, strings, sizeof(strings));
}

static struct error *parse(const struct made_up *made_up, uint32_t offsets[2])
{
    return btf_offset_parse(made_up, sizeof(*made_up), "task", names, ARRAY_LENGTH(names), offsets);
}

static void assert_unsupported(struct error *err)
{
    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_UNSUPPORTED);
    assert_non_null(err->hint);
    error_destroy(err);
}

static void finds_direct_and_anonymous_fields(void **state)
{
    struct made_up made_up;
    uint32_t offsets[2];

    (void)state;
    make_up(&made_up);
    assert_null(parse(&made_up, offsets));
    assert_int_equal(offsets[0], 4);
    assert_int_equal(offsets[1], 16);
}

static void bit_fields_and_unknown_names_are_not_found(void **state)
{
    static const char *const bits[] = {"bits"};
    struct made_up made_up;
    uint32_t offset = 77;

    (void)state;
    make_up(&made_up);
    made_up.types[INNER_BIT] = 3;
    assert_unsupported(
        btf_offset_parse(&made_up, sizeof(made_up), "task", bits, ARRAY_LENGTH(bits), &offset));
    assert_unsupported(btf_offset_parse(&made_up, sizeof(made_up), "tas", names, 1, &offset));
    assert_unsupported(btf_offset_parse(&made_up, sizeof(made_up), "pid", names, 1, &offset));
    assert_int_equal(offset, 77);
}

/* An anonymous struct that contains itself, as deep as we would follow it. */
static void loops_end(void **state)
{
    struct made_up made_up;
    uint32_t offsets[2];

    (void)state;
    make_up(&made_up);
    made_up.types[INNER_TYPE] = 4;
    assert_unsupported(parse(&made_up, offsets));
}

static void refuses_what_is_cut_or_no_btf(void **state)
{
    struct made_up made_up;
    uint32_t offsets[2];

    (void)state;
    make_up(&made_up);
    for (size_t num_bytes = 0; num_bytes < sizeof(made_up); num_bytes++) {
        uint8_t *copy = malloc(num_bytes + !num_bytes); /* exact size: overreads are seen */

        memcpy(copy, &made_up, num_bytes);
        assert_unsupported(btf_offset_parse(copy, num_bytes, "task", names, 2, offsets));
        free(copy);
    }
    made_up.header.magic = 0x9feb;
    assert_unsupported(parse(&made_up, offsets));
    make_up(&made_up);
    made_up.header.type_len = UINT32_MAX;
    assert_unsupported(parse(&made_up, offsets));
    make_up(&made_up);
    made_up.header.hdr_len = 8;
    assert_unsupported(parse(&made_up, offsets));
    make_up(&made_up);
    made_up.types[1] = INFO(31u, 0, 0); /* a kind of the future cannot be passed over */
    assert_unsupported(parse(&made_up, offsets));
}

static void no_file_is_unsupported(void **state)
{
    uint32_t offsets[2];

    (void)state;
    assert_unsupported(btf_offset_find("/nonexistent/btf", "task", names, 2, offsets));
    assert_unsupported(btf_offset_find("/proc", "task", names, 2, offsets));
    assert_unsupported(btf_offset_find("/proc/self/maps", "task", names, 2, offsets));
    assert_unsupported(btf_offset_find("/proc/self/exe", "task", names, 2, offsets));
}

/* --- the running kernel --------------------------------------------------------------------- */

#if HAVE_BPF
/* Finds a field as libbpf sees it, in anonymous members too.
 * NOLINTNEXTLINE(misc-no-recursion) */
static bool libbpf_offset(const struct btf *btf, uint32_t id, const char *name, uint32_t base,
                          uint32_t *offset_ret)
{
    const struct btf_type *type = btf__type_by_id(btf, id);
    const struct btf_member *members = btf_members(type);

    for (uint32_t i = 0; btf_is_composite(type) && i < btf_vlen(type); i++) {
        uint32_t offset = base + btf_member_bit_offset(type, i) / 8;

        *offset_ret = offset;
        if (strcmp(btf__name_by_offset(btf, members[i].name_off), name) == 0)
            return true;
        if (!members[i].name_off && libbpf_offset(btf, members[i].type, name, offset, offset_ret))
            return true;
    }
    return false;
}

static void agrees_with_libbpf(void **state)
{
    static const struct {
        const char *structure;
        const char *names[3];
    } rows[] = {
        {"task_struct", {"pid", "tgid", "mm"}},
        {"task_struct", {"comm", "real_parent", "thread"}},
        {"mm_struct", {"pgd", "mmap_base", "exe_file"}}, /* all in one anonymous struct */
        {"file", {"f_mode", "f_op", "f_inode"}},
        {"sk_buff", {"len", "next", "sk"}}, /* nested anonymous unions */
    };
    struct btf *btf;

    (void)state;
    if (access(KERNEL_BTF, R_OK))
        SKIP(KERNEL_BTF " can't be read");
    btf = btf__parse(KERNEL_BTF, NULL);
    assert_non_null(btf);
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        int32_t id = btf__find_by_name_kind(btf, rows[i].structure, BTF_KIND_STRUCT);
        uint32_t offsets[3];

        assert_true(id > 0);
        assert_null(btf_offset_find(KERNEL_BTF, rows[i].structure, rows[i].names, 3, offsets));
        for (size_t j = 0; j < 3; j++) {
            uint32_t truth;

            assert_true(libbpf_offset(btf, (uint32_t)id, rows[i].names[j], 0, &truth));
            assert_int_equal(offsets[j], truth);
        }
    }
    btf__free(btf);
}
#else
static void agrees_with_libbpf(void **state)
{
    (void)state;
    SKIP("this build leaves BPF out");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_direct_and_anonymous_fields),
        cmocka_unit_test(bit_fields_and_unknown_names_are_not_found),
        cmocka_unit_test(loops_end),
        cmocka_unit_test(refuses_what_is_cut_or_no_btf),
        cmocka_unit_test(no_file_is_unsupported),
        cmocka_unit_test(agrees_with_libbpf),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
