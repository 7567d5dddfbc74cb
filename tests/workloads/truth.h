/* What every workload shares: clocks, work of a known amount, and the truth printed at the end.
 *
 * The truth is one JSON object on the last line of stdout. "cpu_ns" is getrusage of the process and
 * of its waited-for children; per-function figures come from CLOCK_THREAD_CPUTIME_ID around the
 * calls. Threads: burn_rounds() is pure; truth_* are called by the main thread. Source:
 * getrusage(2), clock_gettime(2).
 */
#ifndef WORKLOADS_TRUTH_H
#define WORKLOADS_TRUTH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* No inlining, no cloning, no merging of equal bodies: the function is itself in every profile. */
#define APART __attribute__((noipa))

/* Tells a clock in ns. */
static inline uint64_t clock_now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Tells the CPU time of the calling thread in ns. */
static inline uint64_t thread_cpu_ns(void)
{
    return clock_now_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* Does `rounds` dependent multiplications (about 1.5 ns each); `salt` makes bodies differ. */
static inline __attribute__((always_inline)) uint64_t burn_rounds(uint64_t x, long rounds,
                                                                  uint64_t salt)
{
    for (long i = 0; i < rounds; i++)
        x = (x ^ (x >> 29)) * (0x9e3779b97f4a7c15u + salt) + (uint64_t)i;
    return x;
}

/* Steps a small generator: rounds vary, so that no rhythm of ours meets the rhythm of the samples.
 */
static inline uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Reads a number from argv[index], or takes the default. */
static inline double argument(int argc, char **argv, int index, double otherwise)
{
    return index < argc ? strtod(argv[index], NULL) : otherwise;
}

/* Sums user and system time of RUSAGE_SELF or RUSAGE_CHILDREN in ns. */
static inline uint64_t rusage_ns(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
}

/* Opens the truth: CPU time and a result that depends on all the work. More members may follow. */
static inline void truth_begin(uint64_t result)
{
    printf("{\"result\": \"%016llx\", \"cpu_ns\": %llu, \"children_ns\": %llu",
           (unsigned long long)result, (unsigned long long)rusage_ns(RUSAGE_SELF),
           (unsigned long long)rusage_ns(RUSAGE_CHILDREN));
}

/* Adds a number to the truth. */
static inline void truth_number(const char *name, uint64_t value)
{
    printf(", \"%s\": %llu", name, (unsigned long long)value);
}

/* Closes the truth. */
static inline void truth_end(void)
{
    puts("}");
    fflush(stdout);
}

#endif
