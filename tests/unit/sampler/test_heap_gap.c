/* The gaps between samples, as the kernel draws them: their mean is the rate, and they are
 * distributed as those of a Poisson process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "sampler/bpf/heap_gap.h"

#define NUM_STEPS (1u << 22)

static void the_logarithm_is_exact_to_its_digits(void **state)
{
    const double one = (double)(1u << HEAP_GAP_LOG_BITS);

    (void)state;
    for (uint64_t value = 1; value < 1ull << 33; value += value / 1009 + 1) {
        double error = (double)heap_gap_log2(value) - log2((double)value) * one;

        assert_true(error <= 0.01);
        assert_true(error > -1.01);
    }
    assert_int_equal(heap_gap_log2(1), 0);
    for (unsigned bit = 1; bit < 34; bit++) {
        assert_int_equal(heap_gap_log2(1ull << bit), (uint64_t)bit << HEAP_GAP_LOG_BITS);
        assert_int_equal(heap_gap_log2((1ull << bit) - 1) >> HEAP_GAP_LOG_BITS, bit - 1);
    }
}

/* The mean over evenly spread random numbers is that over all of them, but for the spread's
 * fineness: there is no luck in it. */
static void the_mean_gap_is_the_rate(void **state)
{
    static const uint64_t rates[] = {1000, 65536, 512 << 10, 1000003, HEAP_GAP_MAX_RATE_BYTES};

    (void)state;
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        const uint32_t step = UINT32_MAX / NUM_STEPS + 1;
        double sum = 0;
        double squares = 0;
        double mean;

        for (uint32_t j = 0; j < NUM_STEPS; j++) {
            double gap = (double)heap_gap(j * step + step / 2, rates[i]) / (double)rates[i];

            sum += gap;
            squares += gap * gap;
        }
        mean = sum / NUM_STEPS;
        assert_true(fabs(mean - 1) < 0.001);
        assert_true(fabs(squares / NUM_STEPS - mean * mean - 1) < 0.003); /* variance 1, too */
    }
}

static void gaps_are_exponential(void **state)
{
    (void)state;
    /* One in e is longer than the mean, one in e^5 longer than five times that: the random numbers
     * below 2^32 / e^k. */
    for (int k = 1; k <= 10; k++) {
        double bound = 4294967296.0 * exp(-k);
        uint64_t gap = heap_gap((uint32_t)bound, 1 << 30);

        assert_true(fabs((double)gap / (1 << 30) - k) < 0.0005 * k + 0.00005);
    }
}

static void the_longest_and_the_shortest_gap_are_sane(void **state)
{
    (void)state;
    assert_true(heap_gap(0, 512 << 10) / (512 << 10) == 22); /* 32 ln 2 */
    assert_int_equal(heap_gap(UINT32_MAX, 512 << 10), 0);
    assert_true(heap_gap(0, HEAP_GAP_MAX_RATE_BYTES) / HEAP_GAP_MAX_RATE_BYTES == 22);
    assert_int_equal(heap_gap(12345, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_logarithm_is_exact_to_its_digits),
        cmocka_unit_test(the_mean_gap_is_the_rate),
        cmocka_unit_test(gaps_are_exponential),
        cmocka_unit_test(the_longest_and_the_shortest_gap_are_sane),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
