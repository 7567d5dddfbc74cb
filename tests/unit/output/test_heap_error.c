/* Errors of heap profiles: what is told is how far estimates really scatter. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "output/heap_error.h"
#include "profile/heap.h"

#define RATE (64 << 10)

static struct stack_table table;
static struct profile profile;
static struct live_set live;

static int error_setup(void **state)
{
    (void)state;
    assert_null(stack_table_init(&table));
    assert_null(profile_init_heap(&profile, &table, RATE));
    live_set_init(&live);
    live.random = 11;
    return 0;
}

static int error_teardown(void **state)
{
    (void)state;
    live_set_deinit(&live);
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return 0;
}

/* Allocates the same objects as ever, samples them as the kernel does, and sums one column. */
static void run_once(const uint64_t *sizes, size_t num_sizes, size_t num_objects, size_t column,
                     double *value_ret, double *variance_ret)
{
    static const struct callchain chain = {.num_frames = 1, .frames = {{.pc = 1}}};
    struct heap_error *errors;
    double left = 0;
    uint32_t stack;

    live_set_retain(&live, NULL, 0, UINT64_MAX);
    assert_null(stack_table_intern(&table, &chain, &stack));
    left = -log(1 - heap_random(&live.random)) * RATE;
    for (size_t i = 0; i < num_objects; i++) {
        struct live_row row = {
            .id = i, .size_bytes = sizes[i % num_sizes], .rate_bytes = RATE, .stack = stack};

        left -= (double)row.size_bytes;
        if (left > 0)
            continue;
        left = -log(1 - heap_random(&live.random)) * RATE;
        assert_null(heap_add(&profile, &live, &row));
    }
    assert_null(heap_set_in_use(&profile, &live, UINT64_MAX));
    assert_null(heap_error_compute(&profile, column, &errors));
    *value_ret = (double)profile_total(&profile, column);
    *variance_ret = 0;
    for (size_t i = 0; i < profile.num_samples; i++)
        *variance_ret += errors[i].variance;
    free(errors);
}

/* The mean of the variances that are told is the variance of the values. */
static void assert_told_variance_is_true(const uint64_t *sizes, size_t num_sizes,
                                         size_t num_objects, size_t column)
{
    enum { NUM_RUNS = 1000 };
    double sum = 0, sum_of_squares = 0, told = 0;

    for (int run = 0; run < NUM_RUNS; run++) {
        double value, variance;

        run_once(sizes, num_sizes, num_objects, column, &value, &variance);
        sum += value;
        sum_of_squares += value * value;
        told += variance;
    }
    told /= NUM_RUNS;
    double scatter = sum_of_squares / NUM_RUNS - sum / NUM_RUNS * (sum / NUM_RUNS);
    /* The scatter of 1000 values is known to sqrt(2/1000) = 4.5 %; the generator has a fixed seed.
     */
    assert_true(told > 0.75 * scatter && told < 1.25 * scatter);
}

static void errors_are_those_of_small_objects(void **state)
{
    static const uint64_t sizes[] = {64, 500};

    (void)state;
    assert_told_variance_is_true(sizes, ARRAY_LENGTH(sizes), 10000, HEAP_INUSE_SPACE);
}

static void errors_are_those_of_mixed_sizes(void **state)
{
    static const uint64_t sizes[] = {100, 3000, 40000, 100000, 700000};

    (void)state;
    assert_told_variance_is_true(sizes, ARRAY_LENGTH(sizes), 500, HEAP_INUSE_SPACE);
    assert_told_variance_is_true(sizes, ARRAY_LENGTH(sizes), 500, HEAP_INUSE_OBJECTS);
}

static void only_sampled_columns_have_errors(void **state)
{
    struct profile cpu;

    (void)state;
    for (size_t column = 0; column < HEAP_NUM_COLUMNS; column++)
        assert_true(heap_error_is_known(&profile, column));
    profile.period = 1; /* every byte */
    assert_false(heap_error_is_known(&profile, HEAP_INUSE_SPACE));
    assert_null(profile_init_cpu(&cpu, &table, 10));
    assert_false(heap_error_is_known(&cpu, 1));
    profile_deinit(&cpu);
    assert_null(profile_init_heap_by_count(&cpu, &table, 10));
    assert_false(heap_error_is_known(&cpu, 1));
    profile_deinit(&cpu);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(errors_are_those_of_small_objects, error_setup,
                                        error_teardown),
        cmocka_unit_test_setup_teardown(errors_are_those_of_mixed_sizes, error_setup,
                                        error_teardown),
        cmocka_unit_test_setup_teardown(only_sampled_columns_have_errors, error_setup,
                                        error_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
