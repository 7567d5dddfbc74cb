/* Sums over (stack, label set). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <limits.h>

#include "base/cleanup.h"
#include "profile/profile.h"
#include "tests/unit/alloc_fault.h"
#include "tests/unit/skip.h"

static struct stack_table table;
static struct profile profile;

static int profile_setup(void **state)
{
    (void)state;
    if (stack_table_init(&table) || profile_init_cpu(&profile, &table, 10101010))
        return -1;
    return 0;
}

static int profile_teardown(void **state)
{
    (void)state;
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return 0;
}

static const char *string_of(uint32_t id)
{
    return string_table_get(&table.strings, id);
}

static void cpu_profile_has_the_types_of_go(void **state)
{
    (void)state;
    assert_int_equal(profile.num_value_types, 2);
    assert_string_equal(string_of(profile.value_types[0].type), "samples");
    assert_string_equal(string_of(profile.value_types[0].unit), "count");
    assert_string_equal(string_of(profile.value_types[1].type), "cpu");
    assert_string_equal(string_of(profile.value_types[1].unit), "nanoseconds");
    assert_string_equal(string_of(profile.period_type.type), "cpu");
    assert_string_equal(string_of(profile.period_type.unit), "nanoseconds");
    assert_int_equal(profile.period, 10101010);
    assert_int_equal(profile.default_type, 0);
}

static void equal_pairs_are_summed(void **state)
{
    static const int64_t values[] = {1, 10};

    (void)state;
    for (int i = 0; i < 3; i++) {
        for (uint32_t stack = 0; stack < 100; stack++) {
            for (uint32_t set = 0; set < 10; set++)
                assert_null(profile_add(&profile, stack, set, values));
        }
    }
    assert_int_equal(profile.num_samples, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(profile.samples[i].values[0], 3);
        assert_int_equal(profile.samples[i].values[1], 30);
        assert_int_equal(profile.samples[i].values[2], 0);
    }
    assert_int_equal(profile_total(&profile, 0), 3000);
    assert_int_equal(profile_total(&profile, 1), 30000);
}

static void sums_saturate(void **state)
{
    static const int64_t values[] = {1, INT64_MAX - 1};

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_null(profile_add(&profile, 0, 0, values));
    assert_null(profile_add(&profile, 1, 0, values));
    assert_true(profile.samples[0].values[1] == INT64_MAX);
    assert_true(profile_total(&profile, 1) == INT64_MAX);
    assert_int_equal(profile_total(&profile, 0), 4);
}

static void known_pair_needs_no_memory(void **state)
{
    static const int64_t values[] = {1, 10};

    (void)state;
    if (!alloc_fault_is_possible())
        SKIP("allocations of this build can't be made to fail");
    assert_null(profile_add(&profile, 0, 0, values));
    alloc_fault_arm(ULONG_MAX);
    assert_null(profile_add(&profile, 0, 0, values));
    unsigned long count = alloc_fault_count();
    alloc_fault_disarm();
    assert_int_equal(count, 0);
}

static void value_types_are_limited(void **state)
{
    (void)state;
    for (int i = 2; i < PROFILE_MAX_VALUES; i++)
        assert_null(profile_add_value_type(&profile, "t", "u"));
    CLEANUP(error_destroy) struct error *err = profile_add_value_type(&profile, "t", "u");
    assert_int_equal(err->kind, ERROR_FAILED);
    assert_int_equal(profile.num_value_types, PROFILE_MAX_VALUES);
}

static void comments_are_kept_in_order(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        assert_null(profile_add_comment(&profile, "line %d", i));
    assert_int_equal(profile.num_comments, 20);
    assert_string_equal(string_of(profile.comments[13]), "line 13");
}

static void zeroed_profile_can_be_freed(void **state)
{
    struct profile zero = {0};

    (void)state;
    profile_deinit(&zero);
    assert_null(profile_init(&zero, &table));
    assert_int_equal(zero.num_value_types, 0);
    assert_ptr_equal(zero.table, &table);
    profile_deinit(&zero);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cpu_profile_has_the_types_of_go, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(equal_pairs_are_summed, profile_setup, profile_teardown),
        cmocka_unit_test_setup_teardown(sums_saturate, profile_setup, profile_teardown),
        cmocka_unit_test_setup_teardown(known_pair_needs_no_memory, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(value_types_are_limited, profile_setup, profile_teardown),
        cmocka_unit_test_setup_teardown(comments_are_kept_in_order, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(zeroed_profile_can_be_freed, profile_setup,
                                        profile_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
