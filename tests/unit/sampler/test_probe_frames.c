/* Which functions have call frame information, on the C libraries of this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sampler/probe_frames.h"
#include "target/allocator.h"

static struct module_table *table;

/* Opens a file and tells where one of its allocator's functions begins. */
static const struct module *open_module(const char *path, enum allocator_role role,
                                        uint64_t *elf_addr_ret)
{
    struct allocator_set set;
    struct module *module;

    assert_null(module_table_open_path(table, path, &module));
    assert_null(allocator_find(module, &set));
    *elf_addr_ret = 0;
    for (size_t i = 0; i < set.num_functions; i++)
        if (set.functions[i].role == role)
            *elf_addr_ret = set.functions[i].elf_addr;
    assert_true(*elf_addr_ret != 0);
    allocator_set_deinit(&set);
    return module;
}

static void glibc_has_frames(void **state)
{
    uint64_t elf_addr;
    const struct module *module =
        open_module("/lib/x86_64-linux-gnu/libc.so.6", ALLOCATOR_CALLOC, &elf_addr);

    (void)state;
    assert_true(probe_has_frames(module, elf_addr));
    assert_false(probe_has_frames(module, elf_addr + 1));
    assert_true(probe_frames_extent(module, elf_addr) > 64);
    assert_true(probe_frames_extent(module, elf_addr) < 65536);
    assert_int_equal(probe_frames_extent(module, elf_addr + 1), 0);
    assert_int_equal(probe_frames_extent(module, UINT64_MAX), 0);
}

static void musl_has_none(void **state)
{
    uint64_t elf_addr;
    const struct module *module =
        open_module("/lib/ld-musl-x86_64.so.1", ALLOCATOR_CALLOC, &elf_addr);

    (void)state;
    assert_false(probe_has_frames(module, elf_addr));
    assert_int_equal(probe_frames_extent(module, elf_addr), 0);
}

static void no_elf_has_none(void **state)
{
    struct module *module;

    (void)state;
    assert_null(module_table_open_path(table, "/etc/passwd", &module));
    assert_false(probe_has_frames(module, 0));
    assert_int_equal(probe_frames_extent(module, 0), 0);
}

static int create_table(void **state)
{
    (void)state;
    return module_table_create(&table) ? -1 : 0;
}

static int destroy_table(void **state)
{
    (void)state;
    module_table_destroy(table);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(glibc_has_frames),
        cmocka_unit_test(musl_has_none),
        cmocka_unit_test(no_elf_has_none),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, create_table, destroy_table);
}
