/* A recording session: the only place where the stages meet.
 *
 *     sampler -> struct event -> target (who, what is mapped)
 *                             -> unwind -> struct callchain -> stack_table_intern -> profile_add
 *     at the end: symbolize_table
 *
 * A session records one profile or two (struct recorder) of the same target. They share the target,
 * the unwinder and the stack table, so that a place is named once.
 *
 * Not the command line (record.c), not what is printed (summary.c), not files.
 * Ownership: the caller owns the session. Threads: one.
 */
#ifndef CMD_SESSION_H
#define CMD_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "cmd/events.h"
#include "cmd/growth.h"
#include "cmd/heap.h"
#include "cmd/labels.h"
#include "cmd/recorder.h"
#include "cmd/resident.h"
#include "cmd/scope.h"
#include "profile/profile.h"
#include "sampler/sampler.h"
#include "symbolize/symbolize.h"
#include "target/launch.h"
#include "target/target.h"
#include "unwind/unwind.h"

#define SESSION_MAX_ENGINES 2
#define SESSION_MAX_RECORDERS 2
#define SESSION_NAME_BYTES 128

struct session;

/* Writes the heap profile as it is now. */
typedef void session_snapshot_fn(void *context, struct session *session);

struct session_options {
    char *const *argv;                    /* command to launch, NULL-terminated; NULL: none */
    struct scope *scope;                  /* whom to sample, borrowed */
    const struct event_list *events;      /* of the CPU profile, borrowed; NULL: none is taken */
    const struct growth_settings *growth; /* of a profile of page faults, borrowed; NULL: none */
    const struct heap_settings *heap;     /* of a heap profile by probes, borrowed; NULL: none */
    session_snapshot_fn *snapshot; /* called when heap->snapshot_ns have passed since the last */
    void *snapshot_context;
    bool kernel; /* sample kernel mode where allowed */
    bool follow_children;
    const char *engine;   /* "cpu-wide", "per-task"; NULL: the best that works */
    uint64_t duration_ns; /* 0: until the target ends */
    uint64_t max_memory_bytes;
    uint64_t symbol_timeout_ns; /* 0: none */
    bool inlines;
    bool symbolize;            /* false: name only what nobody can name later */
    const char *debug_dir;     /* more debug directories, see struct symbolize_options; NULL none */
    bool debuginfod;           /* ask servers for debug files */
    symbolize_fetch_fn *fetch; /* told of files on their way; context: options of the caller */
    void *fetch_context;
};

struct session {
    struct session_options options;
    struct stack_table table;
    struct engine engines[SESSION_MAX_ENGINES]; /* by the sideband of the first the target is
                                                 * followed */
    size_t num_engines;
    struct event_list sampled; /* by the first engine */
    struct recorder recorders[SESSION_MAX_RECORDERS];
    size_t num_recorders;
    struct recorder *primary;     /* the first, which summaries begin with */
    struct recorder *cpu;         /* the one of the CPU profile (or of -e); NULL: not recorded */
    struct recorder *growth;      /* the one of page faults; NULL: not recorded */
    struct recorder *allocations; /* the one of the heap; NULL: not recorded */
    struct heap heap;             /* of the latter */
    struct resident resident;     /* looked at with growth */
    uint64_t next_snapshot_ns;    /* CLOCK_MONOTONIC; 0: none */
    struct target *target;
    int epoll_fd;       /* of the first engine, with all else that is waited for added */
    bool has_target_fd; /* it tells the end of the target */
    const struct unwind_ops *unwind_ops;
    struct unwinder *unwinder;
    struct launch *launch;
    struct callchain *chain; /* scratch */
    struct error *failure;   /* first error inside an event handler */
    uint32_t kernel_mapping;
    struct label_keys label_keys;

    uint64_t start_ns;         /* CLOCK_MONOTONIC */
    uint64_t num_missed;       /* files that could not be opened, at the last look */
    uint64_t hurries_until_ns; /* CLOCK_MONOTONIC: looks oftener till then */
    uint64_t duration_ns;
    uint64_t num_recalled;   /* complete stacks, by frames that earlier samples saw (ADR 0014) */
    bool has_clock;          /* an event of the CPU profile is a clock, */
    size_t clock;            /* which */
    bool has_due;            /* due_ns is known, and a clock is sampled */
    uint64_t due_ns;         /* CPU time of the target by the kernel's own accounting */
    uint64_t command_cpu_ns; /* of the command with all its children, when it has ended */
    struct symbolize_result symbols;
    int old_nice; /* our priority before the recording, when has_raised_priority */
    bool has_raised_priority;
    bool command_is_missing; /* it could not be started: not found, or not executable */
    bool command_has_ended;
    int command_status; /* wait status */
};

/* Progress, called about once a second while recording. */
typedef void session_progress_fn(void *context, const struct session *session);

/* Starts: forks the command (held before its execve) or checks the processes, opens the best
 * engine. Nothing runs yet. session: the caller's storage, deinitialised by session_deinit() even
 * on failure. Returns: NULL or the error to show. */
struct error *session_open(struct session *session,
                           const struct session_options *options) MUST_CHECK;

/* Records until the target ends, the time is up, or a signal came. The launched command may run on.
 * Returns: NULL or an error; what was recorded before it stays in the session. */
struct error *session_record(struct session *session, session_progress_fn *progress,
                             void *context) MUST_CHECK;

/* Gives up the priority of recording: for what takes long and is not urgent. */
void session_restore_priority(struct session *session);

/* Names everything and completes the profile: comments, losses, checks. Returns: NULL or an error.
 */
struct error *session_finish(struct session *session) MUST_CHECK;

/* Waits for the launched command to end. Returns: its wait status. */
int session_wait_command(struct session *session);

/* Tells how many samples per second of CPU time were taken: what was asked for, unless the engine
 * takes less; 0 without a CPU profile. */
uint32_t session_hz(const struct session *session);

/* Tells how many samples were taken, of all profiles together. */
uint64_t session_num_samples(const struct session *session);

/* Tells a name for the target as a file name part: "redis-server-1234". text: room for
 * SESSION_NAME_BYTES.
 */
void session_target_name(const struct session *session, char *text);

/* Takes everything of ours away from the target and the kernel; what was recorded stays. */
void session_detach(struct session *session);

/* Detaches and frees everything; a zeroed session is fine. */
void session_deinit(struct session *session);

#endif
