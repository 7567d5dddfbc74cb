/* Which processes have their allocators probed, and where: keeps the breakpoints of a heap
 * recording in step with what processes map.
 *
 * Each process that starts, maps a file or executes another program is looked at again after the
 * events that told so: which of its modules has the allocator that its code calls
 * (target/allocator.h), and where in it the breakpoints go (sampler/probe_site.h). Processes with
 * the same modules share the answer.
 * Not the samples (cmd/heap.h). Ownership: the caller owns the probes; they borrow target and
 * sampler. Threads: none.
 */
#ifndef CMD_HEAP_PROBES_H
#define CMD_HEAP_PROBES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/hash_index.h"
#include "sampler/heap.h"
#include "sampler/probe_site.h"
#include "target/allocator.h"
#include "target/target.h"

/* A process that is to be probed. */
struct heap_process {
    uint32_t pid;
    bool is_root;           /* the command, or one of -p: not a child of these */
    bool is_dirty;          /* to be looked at */
    bool awaits_exec;       /* the command before its execve: probed by what it is going to map */
    bool has_other_program; /* its breakpoints are those of the program before */
    bool was_probed;        /* by whatever program it ran then */
    bool has_ended;
    size_t num_parts, parts_capacity;
    uint32_t *parts;          /* of the probes, that breakpoints were set for */
    uint64_t attach_bytes;    /* anonymous memory when we came; 0: it started later */
    uint64_t inherited_bytes; /* anonymous memory of its parent's, by fork, until it execs */
};

/* The functions of one module that are probed where it is mapped; of another choice, another part.
 */
struct heap_part {
    const struct module *module;
    struct heap_sites sites;
    uint32_t num_processes; /* that have breakpoints there, or had */
};

/* What is probed in processes with a certain list of modules. */
struct heap_plan {
    uint32_t *modules; /* ids, in the order of the search */
    size_t num_modules, modules_capacity;
    uint32_t *parts;
    size_t num_parts, parts_capacity;
};

/* The allocator functions of a module, once looked for. */
struct heap_module {
    bool is_known;
    struct allocator_set set;
};

struct heap_probes {
    struct target *target;
    struct sampler *sampler;
    bool follows_children;
    struct heap_process *processes; /* in the order in which they came */
    size_t num_processes, processes_capacity;
    struct hash_index process_index; /* by pid, the one that lives */
    struct heap_module *modules;     /* by module id */
    size_t num_modules, modules_capacity;
    struct heap_part *parts;
    size_t num_parts, parts_capacity;
    struct heap_plan *plans;
    size_t num_plans, plans_capacity;
    uint32_t *dirty; /* numbers of the processes to be looked at */
    size_t num_dirty, dirty_capacity;
    size_t num_alive;   /* processes that have breakpoints and live */
    size_t most_alive;  /* the most of them since heap_budget looked last */
    size_t num_probed;  /* processes with breakpoints, now or before */
    size_t num_refused; /* processes that the kernel refused breakpoints in, or not all */
    char *refusal;      /* why the first of them */
    bool sees_python;   /* CPython is among them: small objects come from its arenas */
    bool sees_go;       /* a Go program: its own heap is none of malloc's */
    bool has_let_go;    /* all breakpoints are gone, and no new ones come */
};

/* Makes probes without a process. target, sampler: borrowed. */
void heap_probes_init(struct heap_probes *probes, struct target *target, struct sampler *sampler,
                      bool follows_children);

/* Frees; breakpoints are the sampler's. A zeroed one is fine. */
void heap_probes_deinit(struct heap_probes *probes);

/* Adds a process that was asked for; it is probed by the next heap_probes_follow().
 * attach_bytes: its anonymous memory now. Returns: NULL or error_no_memory. */
struct error *heap_probes_add_root(struct heap_probes *probes, pid_t pid,
                                   uint64_t attach_bytes) MUST_CHECK;

/* Probes a launched command before it runs, in what it is going to map. path: what is executed.
 * Returns: NULL (even when nothing was found); ERROR_UNSUPPORTED when this can be told to be in
 * vain: a program without libraries and known allocator; other errors. */
struct error *heap_probes_add_launched(struct heap_probes *probes, pid_t pid,
                                       const char *path) MUST_CHECK;

/* Takes note of an event; call after target_handle_event(). drop_ret: the pid of a process whose
 * memory is gone with this event (it ended, or executed another program), else 0.
 * Returns: NULL or error_no_memory. */
struct error *heap_probes_note(struct heap_probes *probes, const struct event *event,
                               uint32_t *drop_ret) MUST_CHECK;

/* Sets the breakpoints in all processes that events told news of. Returns: NULL or an error. */
struct error *heap_probes_follow(struct heap_probes *probes) MUST_CHECK;

/* Takes all breakpoints away, for good. */
void heap_probes_let_go(struct heap_probes *probes);

/* Finds a process that lives. Returns: valid until the next one is added; NULL when unknown. */
struct heap_process *heap_probes_find(struct heap_probes *probes, uint32_t pid);

/* Tells why nothing is probed: an error with the remedy. Call when num_probed is 0. */
struct error *heap_probes_missing(const struct heap_probes *probes) MUST_CHECK;

#endif
