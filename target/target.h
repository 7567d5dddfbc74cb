/* The processes under profile: who they are, their threads' names, what they have mapped. Kept up
 * to date by the sampler's mmap, comm, fork and exit events, and from /proc when attached.
 *
 * Not sampling, not unwinding. A process that ended stays known (its maps are needed for late
 * samples, its namespace pid for perf-PID.map), until TARGET_MAX_ENDED of them; then the oldest go.
 * Ownership: the target owns processes and modules. Threads: none.
 * Source: proc(5), perf_event_open(2).
 */
#ifndef TARGET_TARGET_H
#define TARGET_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "profile/loss.h"
#include "profile/sample.h"
#include "profile/stack_table.h"
#include "target/maps.h"
#include "target/module.h"

struct process {
    uint32_t pid;
    uint64_t start_time_ticks; /* with pid: who it is; 0 when only known from events */
    uint32_t ns_pid; /* its pid in its own innermost pid namespace (perf-PID.map); 0 unknown */
    char *root;      /* as struct module has it: where perf-PID.map is; NULL unknown */
    uint32_t uid;    /* owner of the process; UINT32_MAX unknown */
    struct maps *maps;
    uint32_t comm;           /* string id: name of the process (of its main thread) */
    uint64_t exec_time_ns;   /* CLOCK_MONOTONIC of its last execve seen, 0 none: kernel-mode samples
                              * just after it still carry the user registers of the program before */
    struct module *jit_dump; /* the jitdump that it has mapped as a mark; NULL none */
    bool has_ended;
    bool maps_reread;            /* maps were re-read for the pc that was not found */
    struct thread_name *threads; /* tid -> name, sorted by tid */
    size_t num_threads, threads_capacity;
};

struct thread_name {
    uint32_t tid;
    uint32_t name; /* string id */
};

struct target;

/* Makes a target with no process. table: borrowed; gets the mappings. target_ret: owned by the
 * caller. Returns: NULL or error_no_memory. */
struct error *target_create(struct stack_table *table, struct target **target_ret) MUST_CHECK;

/* Forgets all processes, closes all modules. NULL is fine. */
void target_destroy(struct target *target);

/* Adds a live process from /proc: name, threads' names, executable mappings (merging with what
 * events already told). is_main: its executable becomes the profile's main mapping unless there is
 * one. process_ret: borrowed; may be NULL. Returns: NULL; ERROR_GONE; ERROR_PERMISSION naming pid
 * and owner. */
struct error *target_add_process(struct target *target, pid_t pid, bool is_main,
                                 struct process **process_ret) MUST_CHECK;

/* Takes over an mmap, comm, fork or exit event (others are ignored). A fork from a known process,
 * or any event of a known pid, is followed; events of unknown processes are ignored unless
 * `target_follow_all`. Returns: NULL or error_no_memory. */
struct error *target_handle_event(struct target *target, const struct event *event) MUST_CHECK;

/* Registers the pid of a launched command before its execve, so that its events are taken. The main
 * mapping is the executable of its first execve. Returns: NULL or error_no_memory. */
struct error *target_add_launched(struct target *target, pid_t pid) MUST_CHECK;

/* Bounds the memory of names: when the strings of the table take more than `max_bytes`, threads
 * with names not seen before are called "[other]" and count as LOSS_UNLABELED. */
void target_limit_names(struct target *target, size_t max_bytes);

/* Makes the target follow every process that shows up in events (for a whole system or cgroup). */
void target_follow_all(struct target *target);

/* Finds the process of a sample. When all are followed, one that is not known yet is looked up in
 * /proc, its mappings included; if that is too late or not allowed, nothing is known but its number
 * (and name, when that could be read), and LOSS_UNSEEN counts it. Tasks outside our pid namespace
 * (pid 0 or -1, perf_event_open(2)) are one process without mappings.
 * process_ret: borrowed, valid until the next event; NULL when it is not ours.
 * Returns: NULL or error_no_memory. */
struct error *target_see(struct target *target, uint32_t pid,
                         struct process **process_ret) MUST_CHECK;

/* Finds a process. Returns: borrowed, valid until the next event; NULL when unknown. */
struct process *target_find(struct target *target, uint32_t pid);

/* Tells the name of a thread, falling back to its process's name. Returns: string id. */
uint32_t process_thread_name(const struct process *process, uint32_t tid);

/* Re-reads /proc/PID/maps after a pc was not found; at most once per 10 ms per process.
 * Returns: true when the maps changed. */
bool target_reread_maps(struct target *target, struct process *process);

/* Tells the profile mapping of kernel addresses, making it on first use ([kernel.kallsyms]).
 * mapping_ret: id. Returns: NULL or error_no_memory. */
struct error *target_kernel_mapping(struct target *target, uint32_t *mapping_ret) MUST_CHECK;

/* Tells the module table, for symbolize/. Borrowed. */
struct module_table *target_modules(struct target *target);

/* Tells how many processes were ever added, and threads ever seen. */
void target_counts(const struct target *target, size_t *num_processes_ret, size_t *num_threads_ret);

/* Calls `visit` for each process known, ended ones included. context: passed on. */
void target_each_process(struct target *target,
                         void (*visit)(void *context, struct process *process), void *context);

/* What went wrong for single modules and maps so far (LOSS_UNREADABLE). Borrowed. */
const struct loss *target_loss(const struct target *target);

#endif
