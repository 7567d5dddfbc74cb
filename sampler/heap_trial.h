/* Whether a mechanism of breakpoints works here, by doing it: on a child of our own, which calls
 * functions of ours that do nothing.
 *
 * The child has two threads, since early kernels saw one only; and calls under a seccomp filter,
 * since some kernels kill a filtered process at the return of a probed call (6.11 to 6.13: the
 * return goes through a system call that the filter does not know). What it does is timed.
 * Threads: none. Source: seccomp(2), docs/adr/0023.
 */
#ifndef SAMPLER_HEAP_TRIAL_H
#define SAMPLER_HEAP_TRIAL_H

#include <stdbool.h>

#include "base/error.h"
#include "sampler/heap.h"

struct heap_trial {
    bool is_seccomp_safe; /* returns can be caught in a process with a seccomp filter */
    struct heap_costs costs;
};

/* Tries a mechanism (not HEAP_MECHANISM_AUTO); some 20 ms. Cleaning up goes on behind our back.
 * Returns: NULL when calls and returns are seen in all threads; ERROR_UNSUPPORTED when they are
 * not; ERROR_PERMISSION. */
struct error *heap_trial_run(enum heap_mechanism mechanism,
                             struct heap_trial *trial_ret) MUST_CHECK;

#endif
