/* Reading clocks. The clock of the program is CLOCK_MONOTONIC: perf events are opened with
 * use_clockid = CLOCK_MONOTONIC so that their times and ours compare directly.
 *
 * Threads: any. Source: clock_gettime(2), perf_event_open(2) (use_clockid).
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC now, in ns. */
uint64_t clock_monotonic_ns(void);

/* CLOCK_REALTIME now, in ns since 1970. */
uint64_t clock_realtime_ns(void);

/* CPU time of this process so far (user + system, all threads), in ns. Source: getrusage(2). */
uint64_t clock_self_cpu_ns(void);

#endif
