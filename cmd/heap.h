/* A heap profile by breakpoints on the allocator, while it is recorded: joins the processes that
 * are probed, the samples that come of it, what is still in use, and what it may cost.
 *
 *     event -> heap_note() -> heap_follow(): breakpoints in new processes and modules
 *     sample -> heap_add_sample() -> profile (what was allocated) + live set (what may be in use)
 *     each second: heap_look(): rate, budget
 *     at a snapshot: heap_begin_snapshot(), drain, heap_end_snapshot(): what is in use
 *
 * Not the growth mode (cmd/growth.h), not unwinding (cmd/session.h).
 * Ownership: the caller owns the heap; it borrows what the session owns. Threads: none.
 * Source: docs/adr (heap recordings), profile/heap.h.
 */
#ifndef CMD_HEAP_H
#define CMD_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "cmd/heap_budget.h"
#include "cmd/heap_probes.h"
#include "cmd/labels.h"
#include "cmd/recorder.h"
#include "profile/heap.h"
#include "profile/live_set.h"
#include "sampler/heap.h"

/* What the user wants. */
struct heap_settings {
    uint64_t rate_bytes;  /* mean distance of samples; 0: the default */
    double budget;        /* share of the target's CPU time; 0: no limit */
    uint64_t snapshot_ns; /* a numbered profile each so often; 0: none */
    bool keeps_allocator; /* frames of the allocator stay in the stacks */
};

/* What a heap borrows of its session. */
struct heap_context {
    const struct heap_settings *settings;
    struct target *target;
    struct stack_table *table;
    const struct label_keys *keys;
    struct engine *engine; /* open: sampler_heap */
    struct recorder *recorder;
    bool follows_children;
};

struct heap {
    struct heap_context context;
    struct heap_probes probes;
    struct heap_budget budget;
    struct live_set live;
    struct heap_live ids; /* between begin and end of a snapshot */
    uint64_t snapshot_time_ns;
    struct heap_counts counts; /* when it was looked at last */
    uint64_t window_start_ns;  /* of the samples below */
    uint64_t window_samples;
    uint32_t num_doublings; /* of the distance between samples */
    uint64_t rate_bytes;    /* that distance, when it was looked at last */
    int64_t in_use_bytes;   /* by the estimate, at the last snapshot */
    int64_t in_use_objects;
    uint32_t num_snapshots;         /* numbered ones that were written */
    uint32_t num_skipped_snapshots; /* since the one before was not ready */
    const char *snapshots_failure;  /* why they ended, borrowed; NULL: they did not */
    struct heap_rest rest;          /* of all processes, at the last snapshot */
    bool are_probes_lost;           /* the process of ours that held them was killed */
    bool is_frozen;                 /* the probes were let go: what is in use stays as of then */
    bool is_by_count; /* without BPF: one call in so many, and nothing known to be in use */
    bool is_open;
};

/* Opens the sampler. engine: empty. has_sideband: no other sampler tells of processes.
 * Returns: NULL; ERROR_PERMISSION or ERROR_UNSUPPORTED with the remedy. */
struct error *heap_open_engine(const struct heap_settings *settings, bool has_sideband,
                               struct engine *engine) MUST_CHECK;

/* Makes a recorder of allocations with its empty profile. Returns: NULL or error_no_memory. */
struct error *heap_init_recorder(const struct heap_settings *settings, struct stack_table *table,
                                 struct recorder *recorder) MUST_CHECK;

/* Makes a heap without processes, and measures what breakpoints cost here. context: copied.
 * Returns: NULL or an error. */
struct error *heap_init(struct heap *heap, const struct heap_context *context) MUST_CHECK;

/* Frees; a zeroed heap is fine. */
void heap_deinit(struct heap *heap);

/* Probes the launched command, which is still held before its execve. path: what it executes.
 * Returns: NULL or an error. */
struct error *heap_add_launched(struct heap *heap, pid_t pid, const char *path) MUST_CHECK;

/* Adds a running process; heap_admit() probes it. Returns: NULL or an error. */
struct error *heap_add_process(struct heap *heap, pid_t pid) MUST_CHECK;

/* Probes the processes added, with sampling off until it is known what that costs. Returns: NULL;
 * an error when there is nothing to probe, or when it costs more than the budget. */
struct error *heap_admit(struct heap *heap) MUST_CHECK;

/* Takes note of an event that the target has taken over. Returns: NULL or error_no_memory. */
struct error *heap_note(struct heap *heap, const struct event *event) MUST_CHECK;

/* Sets breakpoints where events told of something new. Returns: NULL or an error. */
struct error *heap_follow(struct heap *heap) MUST_CHECK;

/* Puts the allocator's own frame in front of a stack, where frames of it are kept. */
void heap_complete_chain(const struct heap *heap, const struct process *process,
                         const struct sample *sample, struct callchain *chain);

/* Adds a sample. stack, label_set: its ids. Returns: NULL or error_no_memory. */
struct error *heap_add_sample(struct heap *heap, const struct sample *sample,
                              const struct callchain *chain, uint32_t stack,
                              uint32_t label_set) MUST_CHECK;

/* Samples less where there are too many, and lets go where it costs too much. To be called often;
 * looks once a second. */
void heap_look(struct heap *heap);

/* Tells whether a snapshot is due for want of memory: old rows pile up. */
bool heap_needs_snapshot(const struct heap *heap);

/* Reads which samples are in use now. The caller drains the sampler before heap_end_snapshot().
 * Returns: NULL or an error. */
struct error *heap_begin_snapshot(struct heap *heap) MUST_CHECK;

/* Sets what is in use in the profile, as of heap_begin_snapshot(). Returns: NULL or an error. */
struct error *heap_end_snapshot(struct heap *heap) MUST_CHECK;

/* Ends sampling: takes the last counts and all breakpoints away; what is in use stays known as of
 * now. command_cpu_ns: of a command that has ended; 0: as /proc tells. */
void heap_end(struct heap *heap, uint64_t command_cpu_ns);

/* Completes the profile before it is written: allocator's frames, comments. May be called for each
 * snapshot of a copy. Returns: NULL or an error. */
struct error *heap_finish(struct heap *heap) MUST_CHECK;

#endif
