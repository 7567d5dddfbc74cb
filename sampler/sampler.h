/* When to look: turns kernel events into struct event, in order of time.
 *
 * One engine = one `struct sampler_ops`. The session opens a sampler, attaches tasks, starts it,
 * waits on its descriptor, drains it until the end, stops it, drains once more, destroys it. Not
 * here: who the target is (target/), unwinding (unwind/), names. Ownership: the caller owns the
 * sampler; events and what they point to are borrowed during the call. Threads: one reader. Source:
 * perf_event_open(2), design.md 4 (Capture, Where events are opened, Order).
 */
#ifndef SAMPLER_SAMPLER_H
#define SAMPLER_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "profile/sample.h"
#include "sampler/cpu_list.h"
#include "sampler/event_spec.h"

#define SAMPLER_MAX_HZ 10000
#define SAMPLER_DEFAULT_HZ 99
#define SAMPLER_DEFAULT_STACK_BYTES 32768
#define SAMPLER_MAX_EVENTS 7 /* each is a column of the profile, beside the number of samples */

struct sampler; /* each engine has its own */
struct heap_options;

/* Whom to sample. */
enum sampler_scope {
    SAMPLER_PROCESSES, /* attached processes with all their threads */
    SAMPLER_THREADS,   /* attached threads alone */
    SAMPLER_SYSTEM,    /* everything but idling; nothing is attached */
    SAMPLER_CGROUP,    /* all that runs in one cgroup or below it; nothing is attached */
};

/* One event to sample by, and how often. */
struct sampler_event {
    struct event_spec spec;
    uint32_t hz;     /* samples per second; clocks: of CPU time; else at most so many */
    uint64_t period; /* one sample every so many of the event's unit, instead of hz; 0: by hz. All
                        but the clocks of a sampler have one, or none has */
};

struct sampler_options {
    enum sampler_scope scope;
    int cgroup_fd;               /* SAMPLER_CGROUP: directory of the cgroup, borrowed for open() */
    const struct cpu_list *cpus; /* the only CPUs to sample, borrowed; NULL: all online ones */
    uint32_t hz;                 /* samples per second of CPU, 1..SAMPLER_MAX_HZ; of all events */
    const struct sampler_event *events; /* borrowed as long as the sampler lives; NULL: cpu-clock */
    size_t num_events;                  /* 1..SAMPLER_MAX_EVENTS */
    uint32_t stack_bytes;               /* user stack to copy, multiple of 8, < 65536 */
    bool kernel;                        /* sample kernel mode too, with kernel callchain */
    bool follow_children;    /* child processes too (and with SAMPLER_THREADS, threads that they
                              * start; of processes, new threads are always followed) */
    bool enable_on_exec;     /* launched command: count from its execve on, not before */
    bool urgent_sideband;    /* wake at each mmap, comm, fork and exit: somebody must act on them */
    uint64_t max_ring_bytes; /* for all rings together; 0 = the default of 64 MB */
    const struct heap_options *heap; /* sampler_heap only (sampler/heap.h), borrowed for open() */
};

/* What an engine tells about itself, for the summary and the profile's comments. */
struct sampler_info {
    const char *engine;  /* "perf (cpu-wide)", "perf (per-task)" */
    uint64_t period_ns;  /* exact period of the first event, when it is a clock; else 0 */
    size_t num_events;   /* perf events open */
    uint64_t ring_bytes; /* all rings together */
    bool ring_is_small;  /* rings had to shrink for RLIMIT_MEMLOCK */
    bool has_kernel;     /* kernel mode is really sampled */
    bool counts_kernel;  /* samples stand for kernel time, too, whatever they show */
    bool has_exact;      /* exact is known (where events count nothing else) */
    uint64_t exact[SAMPLER_MAX_EVENTS]; /* what each event counted, sampled or not, in its unit */
};

struct sampler_ops {
    const char *name; /* "cpu-wide", "per-task": as forced by --engine */

    /* Opens what needs no task yet. options: copied. sampler_ret: owned by the caller.
     * Returns: NULL; ERROR_PERMISSION or ERROR_UNSUPPORTED (with the remedy as hint) when this host
     * or user does not allow this engine: the caller may try the next. */
    struct error *(*open)(const struct sampler_options *options, struct sampler **sampler_ret);

    /* Adds thread `tid` of process `pid` (and all that it will start). With SAMPLER_PROCESSES,
     * cpu-wide engines add the whole process; calling it for every thread is fine. Not for
     * SAMPLER_SYSTEM and SAMPLER_CGROUP. Returns: NULL; ERROR_GONE when the thread is gone. */
    struct error *(*attach)(struct sampler *sampler, pid_t pid, pid_t tid);

    /* Starts counting (with enable_on_exec: arms). Returns: NULL or an error. */
    struct error *(*start)(struct sampler *sampler);

    /* Tells an epoll(7) descriptor that is readable when there is something worth draining; owned
     * by the sampler. The caller may add what else it waits for; the sampler's own have a data.fd
     * >= 0. */
    int (*wait_fd)(const struct sampler *sampler);

    /* Hands all events up to now to `handler` in order of time, sideband before samples of equal
     * time. Samples newer than the last drained sideband stay in the ring unless `final`.
     * num_samples_ret: how many samples were handed over. Returns: NULL or an error. */
    struct error *(*drain)(struct sampler *sampler, bool final, event_handler_fn *handler,
                           void *context, size_t *num_samples_ret);

    /* Stops counting; what is in the rings stays. Never fails. */
    void (*stop)(struct sampler *sampler);

    /* Tells about the engine; valid after start. */
    void (*info)(const struct sampler *sampler, struct sampler_info *info_ret);

    /* Closes everything. NULL is fine. */
    void (*destroy)(struct sampler *sampler);
};

/* CPU-wide events, filtered in the kernel by a BPF program to the target's processes or
 * threads; needs CAP_PERFMON and CAP_BPF. Costs the target nothing at a context switch. For the
 * whole system there is no filter, for a cgroup the kernel's own: both without CAP_BPF. */
extern const struct sampler_ops sampler_cpu_wide;

/* One inherited event for each attached thread and CPU; works unprivileged. Knows
 * processes and threads only: other scopes are ERROR_UNSUPPORTED. */
extern const struct sampler_ops sampler_per_task;

/* No perf events: stops running threads one by one, 50 times a second at most, and copies registers
 * and stack by ptrace. For hosts and containers where perf_event_open is refused. Never interrupts
 * a blocked thread. Kernel code is seen as the system call that the thread is in. Knows processes
 * only: other scopes, and a list of CPUs, are ERROR_UNSUPPORTED. */
extern const struct sampler_ops sampler_ptrace;

#endif
