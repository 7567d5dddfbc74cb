/* Every allocation of a names-only symbolization fails once in turn. (With debug info libdw
 * allocates, too, and ends the program when it cannot: libdw's dwarf_new_oom_handler.) */
#include "tests/unit/symbolize/fixture.h"

#include "tests/unit/alloc_fault.h"
#include "tests/unit/skip.h"

static int setup(void **state)
{
    if (fixture_setup(state) != 0)
        return -1;
    fixture_write("lib.cc",
                  "namespace ns { __attribute__((noinline)) int exported(int a)\n"
                  "{ return a * 3; } }\nint other(int a) { return ns::exported(a) + 1; }\n");
    fixture_build("g++ -O2 -g -fPIC -shared -Wl,--build-id lib.cc -o lib.so");
    return 0;
}

/* What is to be named. */
struct wanted {
    char path[128];
    uint64_t pc;
};

static struct error *run(void *context)
{
    const struct wanted *wanted = context;
    static const struct symbolize_options names_only = {.inlines = false};
    struct symbolize_result result;
    struct stack_table table = {0};
    struct target *target = NULL;
    struct module *module = NULL;
    struct mapping mapping = {.start = 0, .limit = 0x10000, .kind = MAPPING_FILE};
    struct frame_key key = {.pc = wanted->pc};
    uint32_t location;
    struct error *err = stack_table_init(&table);

    if (!err)
        err = target_create(&table, &target);
    if (!err)
        err = module_table_open_path(target_modules(target), wanted->path, &module);
    if (!err) {
        mapping.module = module->id;
        mapping.file_off = module->num_segments > 1 ? module->segments[1].file_off : 0;
        mapping.start = module->num_segments > 1 ? module->segments[1].elf_addr : 0;
        err = stack_table_add_mapping(&table, &mapping, &key.mapping);
    }
    if (!err)
        err = stack_table_add_location(&table, &key, &location);
    if (!err)
        err = symbolize_table(&table, target, &names_only, &result);
    stack_table_deinit(&table);
    target_destroy(target);
    return err;
}

static void every_failed_allocation_is_an_error_or_a_loss(void **state)
{
    struct wanted wanted;

    (void)state;
    if (!ALLOC_FAULT_POSSIBLE)
        SKIP("allocations of this build can't be made to fail");
    snprintf(wanted.path, sizeof(wanted.path), "%s/lib.so", fixture_dir);
    wanted.pc = fixture_symbol("lib.so", "_ZN2ns8exportedEi");
    assert_true(alloc_fault_each(run, &wanted) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failed_allocation_is_an_error_or_a_loss),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
