/* Files for the mappings of a profile that was read back, and names from them. */
#include "base/log.h"
#include "symbolize/mapping_files.h"
#include "tests/unit/symbolize/fixture.h"

#include "tests/unit/alloc_fault.h"
#include "tests/unit/skip.h"

#define NUM_BIASES 50

static unsigned long num_opened; /* times that debug info was looked at */

static void count_opened(enum log_level level, const char *line)
{
    (void)level;
    num_opened += strstr(line, "units with code") != NULL;
}

static int setup(void **state)
{
    if (fixture_setup(state) != 0)
        return -1;
    fixture_write("lib.c", "static inline int inner(int a) { return a * *(volatile int *)&a; }\n"
                           "__attribute__((noinline)) int outer(int a) { return inner(a) + 1; }\n");
    fixture_build("gcc -O2 -g -fPIC -shared -Wl,--build-id lib.c -o lib.so && "
                  "gcc -O1 -g -fPIC -shared -Wl,--build-id lib.c -o other.so");
    return 0;
}

/* A table as it comes from a file: one mapping for each bias, one location in each. */
struct read_table {
    struct stack_table table;
    struct target *target;
    enum mapping_file_status *statuses;
};

static void build_id_of(const char *name, char *hex)
{
    char path[256];
    struct module_table *modules;
    struct module *module;

    snprintf(path, sizeof(path), "%s/%s", fixture_dir, name);
    assert_null(module_table_create(&modules));
    assert_null(module_table_open_path(modules, path, &module));
    module_build_id_text(module, hex);
    module_table_destroy(modules);
}

/* Adds a mapping of the executable segment of lib.so, and the place of outer() in it. */
static struct error *add_place(struct stack_table *table, const char *path, const char *build_id,
                               uint64_t bias, uint64_t elf_addr)
{
    struct mapping mapping = {.start = bias + 0x1000,
                              .limit = bias + 0x2000,
                              .file_off = 0x1000,
                              .module = MAPPING_NO_MODULE};
    struct frame_key key = {.pc = bias + elf_addr};
    uint32_t location;

    RETURN_IF_ERROR(string_table_add(&table->strings, path, &mapping.path));
    RETURN_IF_ERROR(string_table_add(&table->strings, build_id, &mapping.build_id));
    RETURN_IF_ERROR(stack_table_append_mapping(table, &mapping, &key.mapping));
    return stack_table_append_location(table, &key, &location);
}

static void read_table_deinit(struct read_table *read)
{
    free(read->statuses);
    target_destroy(read->target);
    stack_table_deinit(&read->table);
}

static void module_at_many_biases_is_opened_once(void **state)
{
    static const struct mapping_files_options nothing;
    static const struct symbolize_options options = {.scope = SYMBOLIZE_FILES, .inlines = true};
    struct read_table read = {0};
    struct symbolize_result result;
    uint64_t outer = fixture_symbol("lib.so", "outer");
    char build_id[2 * MODULE_MAX_BUILD_ID_BYTES + 1];
    char path[256];

    (void)state;
    build_id_of("lib.so", build_id);
    assert_null(stack_table_init(&read.table));
    assert_null(target_create(&read.table, &read.target));
    for (uint64_t i = 0; i < NUM_BIASES; i++) {
        /* Another name for the same file leads to the same module, too. */
        snprintf(path, sizeof(path), "%s%s/lib.so", fixture_dir, i % 2 ? "/." : "");
        assert_null(add_place(&read.table, path, build_id, i << 20, outer));
    }
    assert_null(mapping_files_find(&read.table, read.target, &nothing, &read.statuses));
    num_opened = 0;
    log_set_sink(count_opened, LOG_DEBUG);
    assert_null(symbolize_table(&read.table, read.target, &options, &result));
    log_set_sink(NULL, LOG_WARNING);
    assert_int_equal(num_opened, 1);
    assert_int_equal(result.num_named, NUM_BIASES);
    assert_int_equal(module_table_count(target_modules(read.target)), 1);
    for (size_t i = 0; i < NUM_BIASES; i++) {
        assert_int_equal(read.statuses[i], MAPPING_FILE_FOUND);
        assert_true(read.table.mappings[i].has_functions);
        assert_int_equal(read.table.locations[i].num_lines, read.table.locations[0].num_lines);
        assert_int_equal(read.table.lines[read.table.locations[i].first_line].function,
                         read.table.lines[read.table.locations[0].first_line].function);
    }
    read_table_deinit(&read);
}

static void what_is_no_file_or_another_build_is_told_apart(void **state)
{
    static const struct {
        const char *path; /* relative to the directory, or "[vdso]" and the like */
        const char *build_id;
        enum mapping_file_status status;
    } cases[] = {
        {"other.so", "00112233445566778899aabbccddeeff00112233", MAPPING_FILE_OTHER_BUILD},
        {"missing.so", "00112233445566778899aabbccddeeff00112233", MAPPING_FILE_MISSING},
        {"lib.c", "00112233445566778899aabbccddeeff00112233", MAPPING_FILE_MISSING},
        {"lib.so", "", MAPPING_FILE_NO_BUILD_ID},
        {"lib.so", "no hex", MAPPING_FILE_NO_BUILD_ID},
        {"lib.so", "abc", MAPPING_FILE_NO_BUILD_ID},
        {"[vdso]", "00112233", MAPPING_FILE_NONE},
        {"//anon", "", MAPPING_FILE_NONE},
        {"", "", MAPPING_FILE_NONE},
    };
    static const struct mapping_files_options nothing;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct read_table read = {0};
        char path[256];
        bool is_name = strchr(cases[i].path, '.') != NULL;

        snprintf(path, sizeof(path), "%s%s%s", is_name ? fixture_dir : "", is_name ? "/" : "",
                 cases[i].path);
        assert_null(stack_table_init(&read.table));
        assert_null(target_create(&read.table, &read.target));
        assert_null(add_place(&read.table, path, cases[i].build_id, 0, 0x1000));
        assert_null(mapping_files_find(&read.table, read.target, &nothing, &read.statuses));
        assert_int_equal(read.statuses[0], cases[i].status);
        assert_int_equal(read.table.mappings[0].module, MAPPING_NO_MODULE);
        read_table_deinit(&read);
    }
}

/* What is to be found, and named. */
struct wanted {
    char build_id[2 * MODULE_MAX_BUILD_ID_BYTES + 1];
    uint64_t place;
};

static struct error *find_and_name(void *context)
{
    const struct wanted *wanted = context;
    static const struct symbolize_options names = {.scope = SYMBOLIZE_FILES};
    const struct mapping_files_options options = {.debug_dir = fixture_dir};
    struct read_table read = {0};
    struct symbolize_result result;
    struct error *err = stack_table_init(&read.table);

    if (!err)
        err = target_create(&read.table, &read.target);
    if (!err)
        err = add_place(&read.table, "/nowhere/file", wanted->build_id, 0, wanted->place);
    if (!err)
        err = mapping_files_find(&read.table, read.target, &options, &read.statuses);
    if (!err)
        err = symbolize_table(&read.table, read.target, &names, &result);
    read_table_deinit(&read);
    return err;
}

static void every_failed_allocation_is_an_error_or_a_loss(void **state)
{
    struct wanted wanted = {.place = fixture_symbol("lib.so", "outer")};

    (void)state;
    if (!ALLOC_FAULT_POSSIBLE)
        SKIP("allocations of this build can't be made to fail");
    build_id_of("lib.so", wanted.build_id);
    assert_true(alloc_fault_each(find_and_name, &wanted) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(module_at_many_biases_is_opened_once),
        cmocka_unit_test(what_is_no_file_or_another_build_is_told_apart),
        cmocka_unit_test(every_failed_allocation_is_an_error_or_a_loss),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
