#include "base/clock.h"

#include <sys/resource.h>
#include <time.h>

#define NS_PER_S 1000000000ULL
#define NS_PER_US 1000ULL

static uint64_t clock_read_ns(clockid_t id)
{
    struct timespec now = {0};

    clock_gettime(id, &now); /* cannot fail for these two clocks (clock_gettime(2)) */
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_realtime_ns(void)
{
    return clock_read_ns(CLOCK_REALTIME);
}

static uint64_t timeval_ns(struct timeval time)
{
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_usec * NS_PER_US;
}

uint64_t clock_self_cpu_ns(void)
{
    struct rusage usage = {0};

    getrusage(RUSAGE_SELF, &usage);
    return timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime);
}
