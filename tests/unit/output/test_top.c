#include "output/top.h"
#include "output/top_name.h"
#include "tests/unit/output/pprof_file.h"

/* What top_print() prints; heap memory. */
static char *print_top(const struct profile *profile, enum top_order order, size_t max_rows)
{
    char *text = NULL;
    size_t num_bytes;
    FILE *stream = open_memstream(&text, &num_bytes);

    assert_non_null(stream);
    assert_no_error(
        top_print(profile, 1, &(struct top_options){.order = order, .max_rows = max_rows}, stream));
    assert_int_equal(fclose(stream), 0);
    return text;
}

static const struct top_row *find_row(const struct sample_profile *sample,
                                      const struct top_row *rows, size_t num_rows, const char *name)
{
    for (size_t i = 0; i < num_rows; i++)
        if (strcmp(string_table_get(&sample->table.strings, rows[i].name), name) == 0)
            return &rows[i];
    fail_msg("no row %s", name);
    return NULL;
}

static void rows_have_flat_and_cumulative_values(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(free) struct top_row *rows = NULL;
    size_t num_rows;

    sample_profile_init(&sample);
    assert_no_error(top_compute(&sample.profile, 0, &rows, &num_rows));
    assert_int_equal(num_rows, 5);
    assert_string_equal(string_table_get(&sample.table.strings, rows[0].name), "leaf_inlined");
    assert_int_equal(rows[0].flat, 30);
    assert_int_equal(find_row(&sample, rows, num_rows, "work")->flat, 0);
    assert_int_equal(find_row(&sample, rows, num_rows, "work")->cum, 30);
    assert_int_equal(find_row(&sample, rows, num_rows, "main")->cum, 40);
    assert_int_equal(find_row(&sample, rows, num_rows, "helper")->flat, 11);
    assert_int_equal(find_row(&sample, rows, num_rows, "[truncated]")->cum, 1);
}

static void recursion_counts_once(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(free) struct top_row *rows = NULL;
    size_t num_rows;

    sample_profile_init(&sample);
    sample.profile.num_samples = 0;
    hash_index_clear(&sample.profile.sample_index);
    sample.chain.num_frames = 0;
    for (size_t i = 0; i < 100; i++)
        callchain_push(&sample.chain, 0x400200, sample.main_mapping, REASON_NONE);
    sample_add_chain(&sample, 0, 7);
    assert_no_error(top_compute(&sample.profile, 0, &rows, &num_rows));
    assert_int_equal(num_rows, 1);
    assert_int_equal(rows[0].flat, 7);
    assert_int_equal(rows[0].cum, 7);
}

static void empty_profile_has_no_rows(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(free) struct top_row *rows = NULL;
    CLEANUP(free) char *text = NULL;
    size_t num_rows = 99;

    sample_profile_init(&sample);
    sample.profile.num_samples = 0;
    assert_no_error(top_compute(&sample.profile, 0, &rows, &num_rows));
    assert_int_equal(num_rows, 0);
    assert_null(rows);
    text = print_top(&sample.profile, TOP_BY_FLAT, 0);
    assert_non_null(strstr(text, "Showing nodes accounting for 0, 0% of 0 total\n"));
}

static void frames_without_names_show_their_file(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(free) struct top_row *rows = NULL;
    size_t num_rows;

    sample_profile_init(&sample);
    sample.chain.num_frames = 0;
    callchain_push(&sample.chain, 0x7f0000000099, sample.lib_mapping, REASON_NONE);
    callchain_push(&sample.chain, 0x99, 0, REASON_NONE);
    sample_add_chain(&sample, 0, 100);
    assert_no_error(top_compute(&sample.profile, 0, &rows, &num_rows));
    assert_int_equal(find_row(&sample, rows, num_rows, "[libhelp.so.1]")->flat, 100);
    assert_int_equal(find_row(&sample, rows, num_rows, "<unknown>")->cum, 100);
}

static void table_is_that_of_go_pprof(void **state UNUSED)
{
    static const struct {
        const char *flags;
        enum top_order order;
        size_t max_rows;
    } views[] = {
        {"-top", TOP_BY_FLAT, 0}, {"-top -cum", TOP_BY_CUM, 0}, {"-top -nodecount=2", 0, 2}};
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy file;

    setenv("TZ", "UTC", 1);
    sample_profile_init(&sample);
    pprof_file_copy_init(&file, &sample.profile);
    for (size_t i = 0; i < ARRAY_LENGTH(views); i++) {
        CLEANUP(free) char *theirs = run_go_pprof(views[i].flags, file.path);
        CLEANUP(free) char *ours = print_top(&sample.profile, views[i].order, views[i].max_rows);
        const char *their_rest = strstr(theirs, "Duration:");

        assert_non_null(their_rest);
        assert_non_null(strstr(ours, "Time: 2023-11-14 22:13:20 UTC\n"));
        assert_string_equal(strstr(ours, "Duration:"), their_rest);
    }
}

static void control_characters_do_not_reach_the_terminal(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(free) char *text = NULL;

    sample_profile_init(&sample);
    sample_name(&sample, 0x400200, sample.main_mapping, "evil\033[2J\n\xff", NULL);
    assert_no_error(profile_add_comment(&sample.profile, "%s", "also\033evil"));
    text = print_top(&sample.profile, TOP_BY_CUM, 0);
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "evil\xef\xbf\xbd[2J\xef\xbf\xbd\xef\xbf\xbd\n"));
}

static void full_disk_is_an_error(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(fclose) FILE *stream = fopen("/dev/full", "w");
    CLEANUP(error_destroy) struct error *err = NULL;

    assert_non_null(stream);
    sample_profile_init(&sample);
    err = top_print(&sample.profile, 0, NULL, stream);
    assert_non_null(err);
    assert_int_equal(err->errno_value, ENOSPC);
}

static void column_is_found_by_name_or_number(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    size_t column = 9;

    sample_profile_init(&sample);
    assert_int_equal(top_default_column(&sample.profile), 1);
    assert_true(top_find_column(&sample.profile, "samples", &column));
    assert_int_equal(column, 0);
    assert_true(top_find_column(&sample.profile, "inuse_cpu", &column));
    assert_int_equal(column, 1);
    assert_true(top_find_column(&sample.profile, "0", &column));
    assert_int_equal(column, 0);
    assert_false(top_find_column(&sample.profile, "2", &column));
    assert_false(top_find_column(&sample.profile, "1x", &column));
    assert_false(top_find_column(&sample.profile, "heap", &column));
    sample.profile.default_type = sample_string(&sample, "samples");
    assert_int_equal(top_default_column(&sample.profile), 0);
    sample.profile.default_type = sample_string(&sample, "nonsense");
    assert_int_equal(top_default_column(&sample.profile), 1);
}

/* Names that no one demangled, as pprof shows them. */
static void parameters_and_templates_are_cut(void **state UNUSED)
{
    static const char *const names[][2] = {
        {"ns::f(int)", "ns::f"},
        {"std::map<std::pair<a, b> >::find(c (*)(d))", "std::map::find"},
        {"<core::iter as x>::next", "::next"},
        {"plain", "plain"},
        {"f(int)", "f(int)"},
        {"main.(*T[...]).M(x)", "main.(*T[...]).M(x)"},
        {"a.<init>(x)", "a.<init>(x)"},
        {"ns::bad)name(x)", "ns::bad)name(x)"},
        {"ns::open(name", "ns::open(name"},
    };
    CLEANUP(sample_profile_deinit) struct sample_profile sample;

    sample_profile_init(&sample);
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        struct function function = {.name = sample_string(&sample, names[i][0])};
        uint32_t name;

        function.system_name = function.name;
        assert_no_error(top_name_of_function(&sample.table.strings, &function, &name));
        assert_string_equal(string_table_get(&sample.table.strings, name), names[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_have_flat_and_cumulative_values),
        cmocka_unit_test(recursion_counts_once),
        cmocka_unit_test(empty_profile_has_no_rows),
        cmocka_unit_test(frames_without_names_show_their_file),
        cmocka_unit_test(table_is_that_of_go_pprof),
        cmocka_unit_test(control_characters_do_not_reach_the_terminal),
        cmocka_unit_test(full_disk_is_an_error),
        cmocka_unit_test(column_is_found_by_name_or_number),
        cmocka_unit_test(parameters_and_templates_are_cut),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
