/* The filter of CPU-wide events: loads sampler/bpf/filter.bpf.c and tells it whom to let through.
 * A task here is a process with all its threads, or when filtering by thread, one thread.
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

/* Loads the programs and follows tasks from now on (none yet).
 * by_thread: tasks are threads. follow_children: those that a task of ours starts are ours.
 * filter_ret: owned by the caller.
 * Returns: NULL; ERROR_PERMISSION (CAP_BPF, CAP_PERFMON) or ERROR_UNSUPPORTED (no BPF in this build
 * or kernel, no BTF, we run in a pid namespace), with the remedy. */
struct error *bpf_filter_create(bool by_thread, bool follow_children,
                                struct bpf_filter **filter_ret) MUST_CHECK;

/* Unloads all. NULL is fine. */
void bpf_filter_destroy(struct bpf_filter *filter);

/* Puts the filter in front of a sampling event. Returns: NULL or an error. */
struct error *bpf_filter_attach(struct bpf_filter *filter, int perf_event_fd) MUST_CHECK;

/* Lets the samples of a task through. task: a pid, or a tid when filtering by thread.
 * wait_for_exec: from its next execve on. Returns: NULL or an error. */
struct error *bpf_filter_add(struct bpf_filter *filter, pid_t task, bool wait_for_exec) MUST_CHECK;

/* Tells how many children could not be followed for lack of room. */
uint64_t bpf_filter_num_unfollowed(const struct bpf_filter *filter);

#endif
