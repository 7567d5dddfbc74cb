/* The --heap options: what words mean, and which need which. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cmd/heap_options.h"

static struct heap_choice choice;

static void refuses(const struct heap_options_given *given, const char *words)
{
    struct error *err = heap_options_read(given, 0, &choice);

    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_USAGE);
    assert_non_null(err->hint);
    if (!strstr(err->message, words))
        fail_msg("%s", err->message);
    error_destroy(err);
}

static void accepts(const struct heap_options_given *given)
{
    assert_null(heap_options_read(given, 0, &choice));
}

static void nothing_is_chosen_without_a_file(void **state)
{
    (void)state;
    accepts(&(struct heap_options_given){0});
    assert_false(choice.has_probes || choice.has_growth);
    refuses(&(struct heap_options_given){.rate = 1}, "--heap-rate needs --heap FILE");
    refuses(&(struct heap_options_given){.budget = "5"}, "--heap-budget needs --heap FILE");
    refuses(&(struct heap_options_given){.snapshot_seconds = 1}, "--heap-snapshot needs");
    refuses(&(struct heap_options_given){.mode = "fast"}, "no heap mode 'fast'");
}

static void a_budget_is_percent_or_none(void **state)
{
    struct heap_options_given given = {.path = "x"};
    static const char *const wrong[] = {"",    "0",   "-1", "nan",   "inf", "5 %",
                                        "5%%", "1e9", "x",  "none ", "%"};

    (void)state;
    accepts(&given);
    assert_true(choice.has_probes && choice.probes.budget == HEAP_DEFAULT_BUDGET);
    given.budget = "none";
    accepts(&given);
    assert_true(choice.probes.budget == 0);
    given.budget = "12.5%";
    accepts(&given);
    assert_true(choice.probes.budget == 0.125);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        given.budget = wrong[i];
        refuses(&given, "--heap-budget takes percent");
    }
}

static void growth_samples_by_bytes_or_by_count(void **state)
{
    struct heap_options_given given = {.path = "x", .mode = "growth"};

    (void)state;
    accepts(&given);
    assert_true(choice.has_growth && !choice.has_probes);
    assert_int_equal(choice.growth.events.events[0].period, 16);
    given.rate = 1;
    accepts(&given);
    assert_int_equal(choice.growth.events.events[0].period, 1);
    assert_null(heap_options_read(&given, 7, &choice));
    assert_int_equal(choice.growth.events.events[0].period, 7);
    given.keeps_allocator = true;
    refuses(&given, "--heap-keep-allocator is for --heap-mode probes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_chosen_without_a_file),
        cmocka_unit_test(a_budget_is_percent_or_none),
        cmocka_unit_test(growth_samples_by_bytes_or_by_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
