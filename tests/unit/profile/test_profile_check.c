/* Every invariant a writer relies on is found when it is broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "profile/profile.h"

static struct stack_table table;
static struct profile profile;

/* A profile that is right in every way: one stack of two locations, labels, a comment. */
static int profile_setup(void **state)
{
    struct callchain *chain = calloc(1, sizeof(*chain));
    struct mapping mapping = {.start = 0x1000, .limit = 0x2000};
    struct function function = {0};
    struct label label = {.num = 1};
    struct line line = {0, 5};
    static const int64_t values[] = {1, 10};
    uint32_t id;
    uint32_t set;

    (void)state;
    assert_null(stack_table_init(&table));
    assert_null(profile_init_cpu(&profile, &table, 10));
    assert_null(stack_table_add_mapping(&table, &mapping, &id));
    assert_null(string_table_add(&table.strings, "main", &function.name));
    assert_null(string_table_add(&table.strings, "pid", &label.key));
    assert_null(stack_table_add_function(&table, &function, &id));
    callchain_push(chain, 0x1500, 1, REASON_NONE);
    callchain_push(chain, 0x1600, 1, REASON_NONE);
    assert_null(stack_table_intern(&table, chain, &id));
    assert_null(stack_table_set_lines(&table, 0, &line, 1));
    assert_null(stack_table_set_lines(&table, 1, &line, 1));
    assert_null(stack_table_add_label_set(&table, &label, 1, &set));
    assert_null(profile_add(&profile, id, set, values));
    assert_null(profile_add_comment(&profile, "c"));
    free(chain);
    return 0;
}

static int profile_teardown(void **state)
{
    (void)state;
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return 0;
}

static void assert_broken(const char *words)
{
    CLEANUP(error_destroy) struct error *err = profile_check(&profile, true);

    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_FAILED);
    if (!strstr(err->message, words))
        fail_msg("\"%s\" does not tell \"%s\"", err->message, words);
}

static void a_good_profile_passes(void **state)
{
    (void)state;
    assert_null(profile_check(&profile, true));
    assert_null(profile_check(&profile, false));
}

static void an_empty_profile_passes(void **state)
{
    (void)state;
    profile.num_samples = 0;
    assert_null(profile_check(&profile, true));
}

static void value_types_need_names(void **state)
{
    (void)state;
    profile.value_types[1].type = 0;
    assert_broken("value type 1");
    profile.value_types[1].type = 999;
    assert_broken("value type 1");
    profile.num_value_types = 0;
    assert_broken("0 value types");
}

static void strings_must_exist(void **state)
{
    (void)state;
    table.mappings[0].path = 999;
    assert_broken("mapping 1");
    table.mappings[0].path = 0;
    table.functions[0].name = 0;
    assert_broken("function 0");
    table.functions[0].name = 1;
    table.functions[0].filename = 999;
    assert_broken("function 0");
    table.functions[0].filename = 0;
    profile.period_type.unit = 999;
    assert_broken("period type");
    profile.period_type.unit = 0;
    profile.comments[0] = 999;
    assert_broken("comment 0");
}

static void stacks_and_locations_must_exist(void **state)
{
    (void)state;
    profile.samples[0].stack = 1;
    assert_broken("stack 1");
    profile.samples[0].stack = 0;
    table.stacks[0].num_locations = 0;
    assert_broken("stack 0 has no locations");
    table.stacks[0].num_locations = 3;
    assert_broken("stack 0 has no locations");
    table.stacks[0].num_locations = 2;
    table.stack_locations[1] = 2;
    assert_broken("location 2");
    table.stack_locations[1] = 1;
    table.locations[1].key.mapping = 2;
    assert_broken("names no mapping");
    table.locations[1].key.mapping = 0;
    table.locations[1].first_line = UINT32_MAX;
    assert_broken("lines of location 1");
}

static void lines_are_needed_on_demand(void **state)
{
    (void)state;
    assert_null(stack_table_set_lines(&table, 1, NULL, 0));
    assert_broken("location 1 has no line");
    assert_null(profile_check(&profile, false));
    table.lines[0].function = 1;
    assert_broken("has no function");
}

static void values_must_be_positive_and_fit_a_double(void **state)
{
    int64_t *values = profile.samples[0].values;

    (void)state;
    values[0] = -1;
    assert_broken("value 0 of sample 0");
    values[0] = (int64_t)1 << 53;
    assert_broken("value 0 of sample 0");
    values[0] = ((int64_t)1 << 53) - 1;
    assert_null(profile_check(&profile, true));
    values[0] = 0;
    assert_null(profile_check(&profile, true));
    values[1] = 0;
    assert_broken("all zero");
}

static void labels_must_be_one_thing(void **state)
{
    (void)state;
    table.labels[0].str = 1;
    assert_broken("string and number");
    table.labels[0].str = 0;
    table.labels[0].key = 0;
    assert_broken("no key");
    profile.samples[0].label_set = 2;
    assert_broken("label set 2");
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_good_profile_passes, profile_setup, profile_teardown),
        cmocka_unit_test_setup_teardown(an_empty_profile_passes, profile_setup, profile_teardown),
        cmocka_unit_test_setup_teardown(value_types_need_names, profile_setup, profile_teardown),
        cmocka_unit_test_setup_teardown(strings_must_exist, profile_setup, profile_teardown),
        cmocka_unit_test_setup_teardown(stacks_and_locations_must_exist, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(lines_are_needed_on_demand, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(values_must_be_positive_and_fit_a_double, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(labels_must_be_one_thing, profile_setup, profile_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
