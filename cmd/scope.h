/* Whom a recording samples: a launched command, processes, threads, a cgroup or the whole system;
 * on which CPUs; whether they are still there; and how much CPU time the kernel says they used.
 *
 * Not how they are sampled (sampler/), not what they have mapped (target/).
 * Ownership: the caller owns the scope; a session borrows it. Threads: none.
 */
#ifndef CMD_SCOPE_H
#define CMD_SCOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "sampler/cpu_list.h"
#include "sampler/sampler.h"
#include "target/cgroup.h"

enum scope_kind {
    SCOPE_COMMAND,   /* the launched command */
    SCOPE_PROCESSES, /* of -p */
    SCOPE_THREADS,   /* of -t */
    SCOPE_SYSTEM,    /* -a */
    SCOPE_CGROUP,    /* --cgroup */
};

/* A process or thread to attach to. */
struct scope_task {
    pid_t pid;
    pid_t tid; /* of a process: its pid */
    int pidfd; /* of a process; -1: none */
    bool has_ended;
    bool has_cpu; /* cpu_before_ns is known */
    uint64_t cpu_before_ns;
};

struct scope {
    enum scope_kind kind;
    struct scope_task *tasks; /* SCOPE_PROCESSES, SCOPE_THREADS: each once, in the order given */
    size_t num_tasks, capacity;
    struct cgroup cgroup;    /* SCOPE_CGROUP */
    struct cpu_list cpus;    /* the only CPUs to sample; none: all */
    uint64_t start_ns;       /* SCOPE_SYSTEM: CLOCK_MONOTONIC of scope_begin(); 0: idle unknown */
    uint64_t idle_before_ns; /* SCOPE_SYSTEM: time its CPUs were idle, at the start */
};

/* Makes the scope of a command on all CPUs. Returns: it. */
struct scope scope_command(void);

/* Frees all; a scope_command() is fine. */
void scope_deinit(struct scope *scope);

DEFINE_CLEANUP(scope_deinit, struct scope *)

/* Adds the processes of one -p: "PID[,PID...]" or names. Returns: NULL; ERROR_USAGE;
 * ERROR_NOT_FOUND (no process so named). */
struct error *scope_add_processes(struct scope *scope, const char *list) MUST_CHECK;

/* Adds the threads of one -t: "TID[,TID...]". Returns: NULL; ERROR_USAGE; ERROR_GONE; why one may
 * not be looked at. */
struct error *scope_add_threads(struct scope *scope, const char *list) MUST_CHECK;

/* Makes it the scope of a cgroup (target/cgroup.h). Returns: NULL or an error. */
struct error *scope_set_cgroup(struct scope *scope, const char *name) MUST_CHECK;

/* Restricts it to the CPUs of a list such as "0,2-3". Returns: NULL; ERROR_USAGE; ERROR_NOT_FOUND
 * when one is not online. */
struct error *scope_set_cpus(struct scope *scope, const char *list) MUST_CHECK;

/* Checks that the tasks exist and may be profiled, and holds on to them (pidfds).
 * Returns: NULL, or why one may not. */
struct error *scope_hold(struct scope *scope) MUST_CHECK;

/* Tells what the sampler wants to know. Returns: an enum sampler_scope. */
enum sampler_scope scope_for_sampler(const struct scope *scope);

/* Tells whether all that runs is looked at as it shows up, rather than attached to. */
bool scope_is_open(const struct scope *scope);

/* Notes how much CPU time was used up to now; call it when sampling starts. */
void scope_begin(struct scope *scope);

/* Tells how much CPU time was used since scope_begin() by the kernel's accounting; of a command,
 * launch_wait() knows. due_ns_ret: the time. Returns: false when that is not known. */
bool scope_due_ns(const struct scope *scope, uint64_t *due_ns_ret);

/* Looks whether there is still anything to record (a system always is; of a command the launch
 * knows). Marks tasks that have ended. */
bool scope_is_alive(struct scope *scope);

/* Tells a descriptor that polls readable when the only task has ended; -1: there is none. */
int scope_wait_fd(const struct scope *scope);

/* Tells what it is for a file name: "redis-server-1234", "system"; not of a command.
 * text: room for `text_bytes`; any bytes but NUL. */
void scope_name(const struct scope *scope, char *text, size_t text_bytes);

/* Tells the kind in one word for JSON: "processes". */
const char *scope_kind_name(const struct scope *scope);

#endif
