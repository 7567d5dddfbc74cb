/* The sampled allocations that may still be in use: one row for each, by its id.
 *
 * Frees are not told one by one: whoever holds the list of ids in use (the kernel's table, read at
 * a snapshot) gives it to live_set_retain(), and rows that are not in it go. Until then rows pile
 * up; live_set_has_grown() tells when it is time. Rows name stacks and label sets of the shared
 * stack table: when that is compacted, live_set_mark_* and live_set_renumber() keep them right.
 *
 * Not the estimate (profile/heap.h), not the program's memory itself. No I/O.
 * Ownership: the set owns its rows; pointers to them are valid until the next call that changes it.
 * Threads: none.
 */
#ifndef PROFILE_LIVE_SET_H
#define PROFILE_LIVE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash_index.h"

/* One sampled allocation. `objects` and `bytes` are what it stands for, as they were added to the
 * columns of what was allocated: so what is in use is never more than what was allocated. */
struct live_row {
    uint64_t id;         /* given by the sampler; of one recording, never used twice */
    uint64_t time_ns;    /* CLOCK_MONOTONIC */
    uint64_t size_bytes; /* asked for */
    uint64_t rate_bytes; /* mean distance of samples when it was taken */
    int64_t objects;
    int64_t bytes;
    uint32_t stack;     /* stack id */
    uint32_t label_set; /* label set id */
    uint32_t pid;
};

/* A process that ended or became another program: what it allocated before holds nothing. */
struct live_end {
    uint64_t before_ns;
    uint32_t pid;
};

struct live_set {
    struct live_row *rows;
    size_t num_rows, rows_capacity;
    struct hash_index row_index; /* by id */
    struct live_end *ends;
    size_t num_ends, ends_capacity;
    struct hash_index end_index;  /* by pid */
    size_t num_rows_after_retain; /* for live_set_has_grown() */
    uint64_t random;              /* state of the generator, for heap_estimate() and thinning */
    uint64_t num_ended;           /* rows dropped since their process ended: a count to be shown */
    uint64_t num_thinned;         /* rows given up by live_set_thin(): the same */
};

/* Makes an empty set in the caller's storage; allocates nothing. */
void live_set_init(struct live_set *set);

/* Frees the rows. A zeroed set is fine. */
void live_set_deinit(struct live_set *set);

/* Adds a row, or replaces the row of the same id. Constant time. A row of a process that ended
 * after the row's time is not added, only counted: samples may come after the news of the end.
 * Returns: NULL or error_no_memory. */
struct error *live_set_put(struct live_set *set, const struct live_row *row) MUST_CHECK;

/* Notes that what process `pid` allocated before `before_ns` (CLOCK_MONOTONIC) is gone: it ended,
 * or became another program. Constant time; its rows go at the next live_set_retain() or
 * live_set_settle(). Returns: NULL or error_no_memory. */
struct error *live_set_drop(struct live_set *set, uint32_t pid, uint64_t before_ns) MUST_CHECK;

/* Keeps, of the rows of before `before_ns`, those whose id is in `ids`; later ones stay, since the
 * list may be older than they are. Applies live_set_drop() as well.
 * ids: ascending. before_ns: the time when reading the list began. */
void live_set_retain(struct live_set *set, const uint64_t *ids, size_t num_ids, uint64_t before_ns);

/* Removes the rows of processes that ended: live_set_drop() takes effect. */
void live_set_settle(struct live_set *set);

/* Tells whether so many rows were added since the last live_set_retain() that it is time for
 * another one: then the set stays within a few times what is in use. */
bool live_set_has_grown(const struct live_set *set);

/* Looks at one row. Returns: NULL, or an error that ends the walk. */
typedef struct error *live_set_visit_fn(void *context, const struct live_row *row);

/* Visits all rows in use as of `before_ns`: those of before it, of processes that did not end;
 * UINT64_MAX: all. Returns: NULL or the error of `visit`. */
struct error *live_set_visit(const struct live_set *set, uint64_t before_ns,
                             live_set_visit_fn *visit, void *context) MUST_CHECK;

/* Tells the memory held, in bytes. */
size_t live_set_bytes(const struct live_set *set);

/* Sets the flag of each stack that a row names. keep: one flag for each stack of the table. */
void live_set_mark_stacks(const struct live_set *set, bool *keep);

/* Gives all rows their new ids. stack_map, label_set_map: by old id, NULL: unchanged. */
void live_set_renumber(struct live_set *set, const uint32_t *stack_map,
                       const uint32_t *label_set_map);

/* Gives up about half of the rows of small allocations, at random, such that the estimate stays
 * unbiased: as if they had been sampled at twice their rate. The rate of all rows doubles, and what
 * they stand for is estimated anew. The label `rate`, if any, is not changed. */
void live_set_thin(struct live_set *set);

#endif
