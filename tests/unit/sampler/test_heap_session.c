/* The heap's engine by one link of session uprobes for each module. */
#include "heap_tests.h"

static struct fixture fixture;

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(every_call_is_counted_sampled_and_freed, &fixture),
        cmocka_unit_test_prestate(realloc_is_free_and_malloc, &fixture),
        cmocka_unit_test_prestate(all_threads_are_sampled, &fixture),
        cmocka_unit_test_prestate(a_forked_process_is_told_and_probed, &fixture),
        cmocka_unit_test_prestate(what_is_kept_stays_in_use, &fixture),
        cmocka_unit_test_prestate(letting_go_keeps_what_is_in_use, &fixture),
        cmocka_unit_test_prestate(sampling_off_is_counting_only, &fixture),
        cmocka_unit_test_prestate(a_calling_range_is_skipped, &fixture),
        cmocka_unit_test_prestate(a_large_call_that_may_throw_is_told_at_the_call, &fixture),
        cmocka_unit_test_prestate(a_full_table_is_counted, &fixture),
        cmocka_unit_test_prestate(nonsense_is_refused, &fixture),
        cmocka_unit_test_prestate(no_process_is_gone, &fixture),
        cmocka_unit_test_prestate(our_sudden_death_leaves_no_breakpoint, &fixture),
        cmocka_unit_test_prestate(the_end_of_the_keeper_is_told, &fixture),
        cmocka_unit_test_prestate(a_child_of_ours_does_not_hold_up_the_end, &fixture),
        cmocka_unit_test_prestate(a_process_that_may_do_nothing_lives_on, &fixture),
        cmocka_unit_test_prestate(costs_are_measured, &fixture),
    };

    if (!heap_tests_prepare(HEAP_MECHANISM_SESSION, &fixture))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
