/* Opening perf events: what is asked of the kernel, and from a refusal to its cause and remedy.
 *
 * Not the rings (sampler/perf_ring.h), not the records (sampler/perf_record.h).
 * Ownership: descriptors are returned to the caller, close-on-exec. Threads: none.
 * Source: perf_event_open(2), linux/perf_event.h, concurrency.md 6 (what each refusal means).
 */
#ifndef SAMPLER_PERF_EVENT_H
#define SAMPLER_PERF_EVENT_H

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "sampler/sampler.h"

/* What read(2) on an event gives, with the read_format that perf_event_attr_*() set. */
struct perf_event_count {
    uint64_t value; /* in the event's unit, inherited children included */
    uint64_t lost;  /* records that found no room in the ring; 0 on kernels before 6.0 */
};

/* Fills `attr` for a sampling event: user registers and stack, kernel callchain when asked for; by
 * fixed period (clocks always) or by frequency. Disabled at first. inherit: new threads (and
 * processes, when options->follow_children) get it too; else neither. */
void perf_event_attr_sampling(const struct sampler_options *options,
                              const struct sampler_event *event, bool inherit,
                              struct perf_event_attr *attr);

/* Fills `attr` for the sideband event: counts nothing, tells executable mmaps, comm, fork and exit.
 * Enabled at once. inherit: as above. */
void perf_event_attr_sideband(const struct sampler_options *options, bool inherit,
                              struct perf_event_attr *attr);

/* Fills `attr` for an event that does nothing but own a ring for others to write into. */
void perf_event_attr_owner(struct perf_event_attr *attr);

/* Fills `attr` for an event that a BPF program writes samples through: user registers and
 * `stack_bytes` of user stack, with what the program tells as PERF_SAMPLE_RAW. Enabled at once. */
void perf_event_attr_bpf_output(uint32_t stack_bytes, struct perf_event_attr *attr);

/* Fills `attr` for a breakpoint (uprobe) in a file, once file and offset are set (config1,
 * config2): user registers and `stack_bytes` of user stack, one hit in sample_period. Enabled at
 * once. Returns: NULL; ERROR_UNSUPPORTED when this kernel has no such events. */
struct error *perf_event_attr_uprobe(uint32_t stack_bytes, struct perf_event_attr *attr) MUST_CHECK;

/* perf_event_open(2), close-on-exec, no group. pid, cpu: as there (-1: every task, every CPU).
 * Returns: the descriptor, or a negative errno value. */
int perf_event_open(const struct perf_event_attr *attr, pid_t pid, int cpu);

/* Opens an event on one CPU for the tasks of a cgroup, and of those below it, only.
 * cgroup_fd: directory of the cgroup. Returns: the descriptor, or a negative errno value. Source:
 * perf_event_open(2), PERF_FLAG_PID_CGROUP. */
int perf_event_open_cgroup(const struct perf_event_attr *attr, int cgroup_fd, int cpu);

/* Opens an event once (on ourselves, or on the whole CPU when pid is -1) and closes it again,
 * taking from `attr` what this kernel does not know (PERF_FORMAT_LOST, inherit_thread) or does not
 * allow us (kernel mode, when `may_drop_kernel`; a higher frequency), so that all later openings
 * are alike. Returns: NULL, or why it is refused, with the remedy. */
struct error *perf_event_probe(struct perf_event_attr *attr, pid_t pid, int cpu,
                               bool may_drop_kernel) MUST_CHECK;

/* The same for a sampling event, whose refusals have causes of their own: no such counter in this
 * processor, no processor counters in this machine, an event of the kernel that we may not see. */
struct error *perf_event_probe_sampling(const struct event_spec *spec, struct perf_event_attr *attr,
                                        pid_t pid, int cpu, bool may_drop_kernel) MUST_CHECK;

/* Says why the kernel refuses us perf events altogether. err: a positive errno value. is_cpu_wide:
 * a whole CPU was asked for, which takes more privilege. Returns: an error that names the cause
 * (paranoid level, seccomp, ...) and one remedy. */
struct error *perf_event_refusal(int err, bool is_cpu_wide) MUST_CHECK;

/* Says why one task could not be opened though we may open events in general.
 * err: a positive errno value. num_open: events open already (for RLIMIT_NOFILE). Returns: an
 * error; ERROR_GONE when the task has ended. */
struct error *perf_event_task_refusal(int err, pid_t pid, pid_t tid, size_t num_open) MUST_CHECK;

/* Reads value and lost of an event. Returns: false when it can't be read. */
bool perf_event_read(int fd, const struct perf_event_attr *attr,
                     struct perf_event_count *count_ret);

/* Raises our soft limit of open files to the hard one (a launched command gets its own back). */
void perf_event_raise_nofile(void);

#endif
