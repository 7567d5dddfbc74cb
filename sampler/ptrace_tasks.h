/* The processes and threads that the ptrace engine samples, kept up to date from /proc: who started
 * and ended, who ran another program, whose mappings changed, who used CPU time since the last
 * look. What the other engines hear from the kernel's events, this one tells as events itself.
 *
 * Not stopping anybody (sampler/ptrace_stop.h). A child process is found while it lives: one that
 * is shorter than the time between two scans is missed. Ownership: the caller owns the tasks.
 * Threads: one. Source: proc(5) (task, children, schedstat, stat, statm, syscall).
 */
#ifndef SAMPLER_PTRACE_TASKS_H
#define SAMPLER_PTRACE_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "profile/sample.h"

/* What identifies a program in memory; changes with every execve(2). */
struct ptrace_image {
    uint64_t start_code;
    uint64_t start_stack;
    uint64_t env_start;
};

struct ptrace_process {
    pid_t pid;
    struct ptrace_image image;
    bool is_waiting;    /* a launched command before its execve: not sampled yet */
    bool is_new;        /* its image was not told yet */
    uint64_t num_pages; /* statm: another number tells that mappings changed */
    uint64_t told_at_ns;
    uint64_t looked_at_ns; /* its image; once in a round is enough for all its threads */
    size_t
        num_threads; /* links of /proc/PID/task: another number tells that threads came or went */
    uint64_t scanned_at_ns;
    bool is_alive;
};

struct ptrace_thread {
    pid_t pid;
    pid_t tid;
    int schedstat_fd;      /* kept open; -1: opened each time */
    uint64_t cpu_ns;       /* on-CPU time when last looked at */
    uint64_t cpu_taken_ns; /* of which samples stand for */
    bool is_pending;       /* interrupted, has not stopped yet */
    bool is_seen;          /* by the scan that is under way */
};

struct ptrace_tasks {
    struct ptrace_process *processes;
    size_t num_processes, processes_capacity;
    struct ptrace_thread *threads; /* in no order */
    size_t num_threads, threads_capacity;
    size_t num_open; /* schedstat descriptors */
    bool follow_children;
    uint64_t cpu_ns; /* on-CPU time of all threads while they were watched */
};

/* Where events go. */
struct ptrace_sink {
    event_handler_fn *handler; /* NULL: nobody listens yet */
    void *context;
    uint64_t now_ns;
};

/* Makes empty tasks in the caller's storage. */
void ptrace_tasks_init(struct ptrace_tasks *tasks, bool follow_children);

/* Frees. */
void ptrace_tasks_deinit(struct ptrace_tasks *tasks);

/* Adds a process with the thread `tid` (others: by scans or by calling again). is_waiting: it is
 * our launched command before its execve. Returns: NULL; ERROR_GONE; error_no_memory. */
struct error *ptrace_tasks_add(struct ptrace_tasks *tasks, pid_t pid, pid_t tid,
                               bool is_waiting) MUST_CHECK;

/* Looks for threads and child processes that came or went, as often as is worth it, and tells them.
 * Returns: NULL or error_no_memory. */
struct error *ptrace_tasks_scan(struct ptrace_tasks *tasks,
                                const struct ptrace_sink *sink) MUST_CHECK;

/* Tells a new program or new mappings of the process, if any. Returns: whether it is to be sampled:
 * it lives, and runs the command. */
bool ptrace_tasks_tell_image(struct ptrace_tasks *tasks, pid_t pid, const struct ptrace_sink *sink);

/* Reads the on-CPU time of a thread. used_ns_ret: what it used beyond cpu_taken_ns, ns.
 * Returns: false when it is gone. */
bool ptrace_thread_read_cpu(struct ptrace_tasks *tasks, struct ptrace_thread *thread,
                            uint64_t *used_ns_ret);

/* Tells whether the thread is on a CPU or waits for one: only such a thread may be interrupted, for
 * others a system call would fail with EINTR. Source: /proc/PID/task/TID/syscall, "running". */
bool ptrace_thread_is_running(const struct ptrace_thread *thread);

#endif
