/* What target.c, target_range.c, target_events.c and target_procfs.c share: the rows behind struct
 * process, and the one way by which a range gets into an address space.
 *
 * Not for other folders. Ownership and threads: as target/target.h.
 */
#ifndef TARGET_TARGET_INTERNAL_H
#define TARGET_TARGET_INTERNAL_H

#include "base/hash_index.h"
#include "target/target.h"

#define TARGET_MAX_ENDED 4096
/* More ranges than vm.max_map_count allows by default: stale ones (there is no munmap event) pile
 * up. */
#define TARGET_MAX_VMAS 131072

struct process_row {
    struct process process;      /* first: a process of ours is its row */
    uint64_t ended_order;        /* 1.. in order of ending */
    uint32_t parent_pid;         /* as its fork told; 0 unknown */
    uint64_t reread_after_ns;    /* CLOCK_MONOTONIC */
    uint64_t reread_interval_ns; /* grows while re-reading finds nothing */
    bool awaits_main;            /* launched: its next file mapping is the profile's main mapping */
    bool has_leader_ended;
    bool has_status; /* ns_pid and uid were read, not inherited */
};

struct target {
    struct stack_table *table; /* borrowed */
    struct module_table *modules;
    struct process_row **rows;
    size_t num_rows, rows_capacity;
    struct hash_index pid_index;
    size_t num_processes; /* ever */
    size_t num_threads;   /* ever */
    size_t num_ended;
    uint64_t last_ended_order;
    bool follows_all;
    bool has_main;
    bool has_lost_events; /* fork and exit events were lost: don't wait for each thread's exit */
    uint32_t kernel_mapping;
    size_t max_string_bytes; /* no new names of threads beyond; 0: no limit */
    struct loss loss;
};

/* A range as an event or a line of maps tells it. */
struct range {
    uint64_t start;
    uint64_t limit;
    uint64_t file_off;
    uint32_t dev_major, dev_minor;
    uint64_t inode;
    const char *path;
    bool is_main;  /* of the executable of a main process */
    bool is_exact; /* from maps, where holes in a file's text were found already */
};

/* Finds a row by pid. Returns: borrowed; NULL when unknown. */
struct process_row *target_row_find(struct target *target, uint32_t pid);

/* Adds an empty row for `pid`, or empties the one there is (a pid used again).
 * row_ret: borrowed. Returns: NULL or error_no_memory. */
struct error *target_row_reset(struct target *target, uint32_t pid,
                               struct process_row **row_ret) MUST_CHECK;

/* Marks a process as ended; forgets the oldest ended ones when there are too many.
 * Returns: NULL or error_no_memory. */
struct error *target_row_end(struct target *target, struct process_row *row) MUST_CHECK;

/* Makes the row of a process that is not known, from /proc while it lives and may be looked at;
 * else an almost empty one, counted as LOSS_UNSEEN. row_ret: borrowed. Returns: NULL or
 * error_no_memory.
 */
struct error *target_row_see(struct target *target, uint32_t pid,
                             struct process_row **row_ret) MUST_CHECK;

/* Interns the name of a thread, or "[other]" when strings take too much memory already, which is
 * counted. name_ret: string id. Returns: NULL or error_no_memory. */
struct error *target_name_add(struct target *target, const char *name,
                              uint32_t *name_ret) MUST_CHECK;

/* Sets the name of a thread; the name of the leader is the process's too.
 * name: string id. Returns: NULL or error_no_memory. */
struct error *target_thread_set(struct target *target, struct process_row *row, uint32_t tid,
                                uint32_t name) MUST_CHECK;

/* Forgets a thread that ended. */
void target_thread_remove(struct process_row *row, uint32_t tid);

/* Puts an executable range into the address space of a process, unless what is known says the same.
 * has_changed_ret: set to true when something changed, else left alone.
 * Returns: NULL or error_no_memory. */
struct error *target_range_add(struct target *target, struct process_row *row,
                               const struct range *range, bool *has_changed_ret) MUST_CHECK;

/* Reads /proc/PID/maps into the address space of a process. is_main: as in target_add_process().
 * has_changed_ret: as above. Returns: NULL, an error of reading, or error_no_memory. */
struct error *target_maps_read(struct target *target, struct process_row *row, bool is_main,
                               bool *has_changed_ret) MUST_CHECK;

/* Tells a task of the process by which /proc can be asked: the leader, or when it has ended before
 * the others, one of these (a zombie has no maps); 0 when all have ended. */
uint32_t target_row_task(const struct process_row *row);

/* Reads ns_pid and uid from /proc/PID/status, and the root directory, once; a process that is gone
 * keeps what it has. */
void target_status_read(struct target *target, struct process_row *row);

#endif
