/* The filter of CPU-wide events: loads sampler/bpf/filter.bpf.c and tells it whom to let through.
 *
 * Everything it puts into the kernel hangs on descriptors of ours: when we end, in whatever way, it
 * is gone. Built without BPF (make BPF=0), opening it is ERROR_UNSUPPORTED.
 * Ownership: the caller owns the filter. Threads: none. Source: bpf(2).
 */
#ifndef SAMPLER_BPF_FILTER_H
#define SAMPLER_BPF_FILTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct bpf_filter;

/* Loads the programs and follows processes from now on (none yet).
 * follow_children: child processes of ours are ours. filter_ret: owned by the caller.
 * Returns: NULL; ERROR_PERMISSION (CAP_BPF, CAP_PERFMON) or ERROR_UNSUPPORTED (no BPF in this build
 * or kernel, no BTF, we run in a pid namespace), with the remedy. */
struct error *bpf_filter_create(bool follow_children, struct bpf_filter **filter_ret) MUST_CHECK;

/* Unloads all. NULL is fine. */
void bpf_filter_destroy(struct bpf_filter *filter);

/* Puts the filter in front of a sampling event. Returns: NULL or an error. */
struct error *bpf_filter_attach(struct bpf_filter *filter, int perf_event_fd) MUST_CHECK;

/* Lets the samples of process `pid` through; wait_for_exec: from its next execve on.
 * Returns: NULL or an error. */
struct error *bpf_filter_add(struct bpf_filter *filter, pid_t pid, bool wait_for_exec) MUST_CHECK;

/* Tells how many child processes could not be followed for lack of room. */
uint64_t bpf_filter_num_unfollowed(const struct bpf_filter *filter);

#endif
