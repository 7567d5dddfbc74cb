/* From -e, -F and -c to events, columns, words and scaled values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cmd/events.h"

static struct event_list list;

static struct error *choose(const char *word, uint32_t hz, uint64_t period)
{
    struct option_list words = {.values = {word}, .num_values = word ? 1 : 0};

    return events_choose(&words, hz, period, true, &list);
}

static void describes(const char *word, uint32_t hz, uint64_t period, const char *text,
                      uint32_t ring_hz)
{
    char description[EVENTS_TEXT_BYTES];

    assert_null(choose(word, hz, period));
    events_describe(&list, list.events[0].hz, description);
    assert_string_equal(description, text);
    assert_int_equal(events_ring_hz(&list), ring_hz);
}

static void says_how_often_in_words(void **state)
{
    (void)state;
    describes(NULL, 0, 0, "99 Hz", 99);
    describes(NULL, 499, 0, "499 Hz", 499);
    describes("page-faults", 0, 0, "page-faults at up to 4000 Hz", 4000);
    describes("cpu-clock,cycles:u", 0, 0, "cpu-clock at 99 Hz, cycles:u at up to 99 Hz", 198);
    describes("cs", 0, 1, "all context-switches", 1000);
    describes("cs", 0, 100, "1 in 100 context-switches", 1000);
    describes("cpu-clock", 0, 10000000, "every 10000000 ns of cpu-clock", 100);
    describes("cpu-clock", 0, 5000000000, "every 5000000000 ns of cpu-clock", 1);
    describes("cs,faults,minor-faults", 10000, 0,
              "context-switches at up to 10000 Hz, page-faults at up to 10000 Hz, "
              "minor-faults at up to 10000 Hz",
              10000);
}

static void knows_clocks_and_what_is_counted(void **state)
{
    (void)state;
    assert_null(choose("page-faults,task-clock", 0, 0));
    assert_int_equal(events_find_clock(&list), 1);
    assert_true(events_want_per_task(&list));
    assert_null(choose("cycles", 0, 0));
    assert_int_equal(events_find_clock(&list), 1);
    assert_false(events_want_per_task(&list));
}

static const char *type_name(const struct profile *profile, size_t column)
{
    return string_table_get(&profile->table->strings, profile->value_types[column].type);
}

static void gives_each_event_a_column(void **state)
{
    struct stack_table table;
    struct profile profile;
    int64_t values[PROFILE_MAX_VALUES];

    (void)state;
    assert_null(choose("cpu-clock,task-clock,cycles", 0, 0));
    assert_null(stack_table_init(&table));
    assert_null(events_init_profile(&list, &table, &profile));
    assert_int_equal(profile.num_value_types, 4);
    assert_string_equal(type_name(&profile, 0), "samples");
    assert_string_equal(type_name(&profile, 1), "cpu");
    assert_string_equal(type_name(&profile, 2), "task_clock");
    assert_string_equal(type_name(&profile, 3), "cycles");
    assert_int_equal(profile.default_type, profile.value_types[1].type);
    assert_int_equal(profile.period, 1000000000 / 99);
    events_set_values(&list, 2, 7, values);
    assert_int_equal(values[0], 1);
    assert_int_equal(values[1], 0);
    assert_int_equal(values[2], 0);
    assert_int_equal(values[3], 7);
    profile_deinit(&profile);
    stack_table_deinit(&table);
}

/* Adds `num_samples` stacks with these values and settles; returns the sum of the column. */
static int64_t settled_sum(uint64_t exact, uint64_t period, const int64_t *weights,
                           size_t num_samples, int64_t *period_ret)
{
    struct sampler_info info = {.has_exact = exact != 0, .exact = {exact}};
    struct event_tally tally = {0};
    struct stack_table table;
    struct profile profile;
    int64_t sum;

    assert_null(choose("page-faults", 0, period));
    assert_null(stack_table_init(&table));
    assert_null(events_init_profile(&list, &table, &profile));
    for (size_t i = 0; i < num_samples; i++) {
        int64_t values[] = {1, weights[i]};

        assert_null(profile_add(&profile, (uint32_t)i, 0, values));
        tally.num_samples++;
        tally.weight += (uint64_t)weights[i];
    }
    events_settle(&list, &info, &tally, &profile);
    sum = profile_total(&profile, 1);
    assert_int_equal(sum, tally.weight);
    for (size_t i = 0; i < profile.num_samples; i++)
        assert_true(profile.samples[i].values[1] >= 0);
    *period_ret = profile.period;
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return sum;
}

static void scales_to_the_kernels_count(void **state)
{
    static const int64_t weights[] = {1, 1, 1, 100, 300, 7, 2000};
    int64_t period;

    (void)state;
    assert_int_equal(settled_sum(777, 0, weights, 7, &period), 777);
    assert_int_equal(period, 111);
    assert_int_equal(settled_sum(1000001, 0, weights, 7, &period), 1000001);
    assert_int_equal(settled_sum(3, 0, weights, 7, &period), 3);
    assert_int_equal(period, 1);
    assert_int_equal(settled_sum(0, 0, weights, 7, &period), 2410);
    assert_int_equal(period, 344);
    assert_int_equal(settled_sum(777, 10, weights, 7, &period), 2410); /* -c is never scaled */
    assert_int_equal(period, 10);
    assert_int_equal(settled_sum(777, 0, weights, 0, &period), 0);
}

static void refuses(const char *word, uint32_t hz, uint64_t period, bool kernel,
                    const char *message)
{
    struct option_list words = {.values = {word}, .num_values = 1};
    struct error *err = events_choose(&words, hz, period, kernel, &list);

    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_USAGE);
    if (!strstr(err->message, message))
        fail_msg("'%s' instead of '%s'", err->message, message);
    error_destroy(err);
}

static void refuses_what_makes_no_sense(void **state)
{
    (void)state;
    refuses("cs,cs", 0, 0, true, "context-switches twice");
    refuses("r1,r2,r3,r4,r5,r6,r7,r8", 0, 0, true, "more than 7 events");
    refuses("cycles:k", 0, 0, false, "--no-kernel is against it");
    refuses("task-clock", 0, 99999, true, "too often for task-clock");
    refuses("cs,,cpu-clock", 0, 0, true, "no event ''");
}

/* Two profiles of one sampler: clocks keep their frequency beside events by count, others can't. */
static void joined_lists_are_clocks_and_events_by_count(void **state)
{
    struct option_list faults = {.values = {"page-faults"}, .num_values = 1};
    struct option_list none = {0};
    struct event_list joined = {0}, clock, counted, frequent;
    struct error *err;

    (void)state;
    assert_null(events_choose(&none, 0, 0, true, &clock));
    assert_null(events_choose(&faults, 0, 16, true, &counted));
    assert_null(events_choose(&faults, 0, 0, true, &frequent));
    assert_null(events_join(&joined, &clock));
    assert_null(events_join(&joined, &counted));
    assert_int_equal(joined.num_events, 2);
    assert_int_equal(joined.events[0].hz, 99);
    assert_int_equal(joined.events[1].period, 16);
    err = events_join(&joined, &frequent);
    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_USAGE);
    error_destroy(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joined_lists_are_clocks_and_events_by_count),
        cmocka_unit_test(says_how_often_in_words),
        cmocka_unit_test(knows_clocks_and_what_is_counted),
        cmocka_unit_test(gives_each_event_a_column),
        cmocka_unit_test(scales_to_the_kernels_count),
        cmocka_unit_test(refuses_what_makes_no_sense),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
