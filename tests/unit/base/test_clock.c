/* Clocks go forward in the unit they promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>

#include "base/clock.h"

static void monotonic_goes_forward_in_ns(void **state)
{
    struct timespec wait = {.tv_nsec = 20000000};
    uint64_t begin_ns = clock_monotonic_ns();

    (void)state;
    nanosleep(&wait, NULL);
    uint64_t passed_ns = clock_monotonic_ns() - begin_ns;
    assert_true(passed_ns >= 20000000);
    assert_true(passed_ns < 20000000000ULL);
}

static void realtime_is_after_2023(void **state)
{
    (void)state;
    assert_true(clock_realtime_ns() > 1672531200ULL * 1000000000ULL);
    assert_in_range(clock_realtime_ns() / 1000000000ULL, (uint64_t)time(NULL) - 2,
                    (uint64_t)time(NULL) + 2);
}

static void own_cpu_time_grows_with_work_and_not_with_sleep(void **state)
{
    struct timespec wait = {.tv_nsec = 50000000};
    uint64_t begin_ns = clock_self_cpu_ns();

    (void)state;
    nanosleep(&wait, NULL);
    assert_true(clock_self_cpu_ns() - begin_ns < 40000000);
    uint64_t stop_ns = clock_monotonic_ns() + 2000000000ULL;
    while (clock_self_cpu_ns() - begin_ns < 5000000 && clock_monotonic_ns() < stop_ns)
        ;
    assert_true(clock_self_cpu_ns() - begin_ns >= 5000000);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_goes_forward_in_ns),
        cmocka_unit_test(realtime_is_after_2023),
        cmocka_unit_test(own_cpu_time_grows_with_work_and_not_with_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
