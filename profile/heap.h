/* Heap profiles: what a sampled allocation stands for, and the columns of Go's heap profiles.
 *
 * An allocation of s bytes is sampled with probability 1 - exp(-s/R) when samples lie R bytes apart
 * on average (a Poisson process over allocated bytes); so it stands for 1/(1 - exp(-s/R)) objects
 * of its size. The columns alloc_* grow while recording; inuse_* are made anew for each snapshot,
 * from the rows of the live set.
 *
 * Not sampling (sampler/heap.h), not which allocations are in use (profile/live_set.h).
 * Ownership: profiles, sets and tables are the caller's. Threads: none.
 * Source: Poisson sampling of bytes as in Go's runtime/mprof.go and tcmalloc's heap profiles.
 */
#ifndef PROFILE_HEAP_H
#define PROFILE_HEAP_H

#include <stdint.h>

#include "base/error.h"
#include "profile/live_set.h"
#include "profile/profile.h"

/* Columns of a heap profile, in Go's order. */
enum heap_column {
    HEAP_ALLOC_OBJECTS,
    HEAP_ALLOC_SPACE,
    HEAP_INUSE_OBJECTS,
    HEAP_INUSE_SPACE,
    HEAP_NUM_COLUMNS
};

#define HEAP_LABEL_SIZE "bytes" /* numeric label: size of the objects, in bytes */
#define HEAP_LABEL_RATE "rate"  /* numeric label, in bytes, where the rate is not the period */

/* Tells how many objects of its size a sampled allocation stands for: 1/(1 - exp(-size/rate)).
 * Returns: >= 1; 1 for a rate of 0; what 1 byte stands for, for a size of 0. */
double heap_weight(uint64_t size_bytes, uint64_t rate_bytes);

/* Draws a number from [0, 1). random: state of the generator, any value; changed. Not for secrets.
 */
double heap_random(uint64_t *random);

/* Tells what a sampled allocation stands for in whole numbers, rounded up or down at random such
 * that the mean is right: so sums over any choice of samples are unbiased.
 * random: state of the generator, any value; changed. objects_ret: >= 1. */
void heap_estimate(uint64_t size_bytes, uint64_t rate_bytes, uint64_t *random, int64_t *objects_ret,
                   int64_t *bytes_ret);

/* Makes an empty heap profile: the four columns, default inuse_space, period space/bytes
 * `rate_bytes`. Returns: NULL or error_no_memory. */
struct error *profile_init_heap(struct profile *profile, struct stack_table *table,
                                uint64_t rate_bytes) MUST_CHECK;

/* Makes an empty profile of allocations sampled by count, one in `interval`: alloc_objects/count,
 * alloc_space/bytes, period alloc_objects/count. Returns: NULL or error_no_memory. */
struct error *profile_init_heap_by_count(struct profile *profile, struct stack_table *table,
                                         uint64_t interval) MUST_CHECK;

/* Makes an empty profile of page faults, one in `interval`: faults/count, growth_space/bytes,
 * period faults/count. Returns: NULL or error_no_memory. */
struct error *profile_init_growth(struct profile *profile, struct stack_table *table,
                                  uint64_t interval) MUST_CHECK;

/* Interns the labels of a heap sample: those of `label_set` (of the thread), then the size, then
 * the rate when it is not the profile's period; a size or rate in `label_set` is replaced.
 * label_set_ret: the id. Returns: NULL or error_no_memory. */
struct error *heap_label_set(const struct profile *profile, uint32_t label_set, uint64_t size_bytes,
                             uint64_t rate_bytes, uint32_t *label_set_ret) MUST_CHECK;

/* Adds a sampled allocation: what it stands for to alloc_objects and alloc_space, and itself to the
 * live set. allocation: `objects` and `bytes` need not be set; `label_set` is that of the thread.
 * Returns: NULL or error_no_memory. */
struct error *heap_add(struct profile *profile, struct live_set *live,
                       const struct live_row *allocation) MUST_CHECK;

/* Adds one that was sampled by count, to a profile of profile_init_heap_by_count(): `count`
 * allocations of its size. Returns: NULL or error_no_memory. */
struct error *heap_add_counted(struct profile *profile, uint32_t stack, uint32_t label_set,
                               uint64_t size_bytes, uint64_t count) MUST_CHECK;

/* Sets the columns inuse_* to what is in use as of `before_ns`; what they held before is gone.
 * live: after live_set_retain(). before_ns: CLOCK_MONOTONIC; UINT64_MAX: all rows.
 * Returns: NULL or error_no_memory. */
struct error *heap_set_in_use(struct profile *profile, const struct live_set *live,
                              uint64_t before_ns) MUST_CHECK;

/* Memory of a process that no sampled allocation explains. */
struct heap_rest {
    uint32_t pid;
    uint32_t label_set;       /* in: labels of its rows, 0: none */
    uint64_t attach_bytes;    /* in: its anonymous memory (RssAnon) when we came; 0: launched */
    uint64_t inherited_bytes; /* in: what it got of its parent's by fork: shown there, shared */
    uint64_t now_bytes;       /* in: its anonymous memory now */
    uint64_t in_use_bytes;    /* out: estimate of what is in use of what it allocated since */
    uint64_t before_bytes;    /* out: [allocated before attach], at most */
    uint64_t
        untracked_bytes; /* out: [untracked]: fragments, mmap, stacks, and errors of sampling */
};

/* Computes the out fields of one process from the others and in_use_bytes: what is neither in use
 * by the estimate nor inherited was there before, as far as there was as much before; the rest is
 * untracked. */
void heap_rest_compute(struct heap_rest *rest);

/* Computes them for all processes, and adds to the column inuse_space their rows
 * `[allocated before attach]` and `[untracked]`. Call after heap_set_in_use(), with the same time.
 * rests: of processes that are alive; sorted by pid on return. Returns: NULL or error_no_memory. */
struct error *heap_add_rest(struct profile *profile, const struct live_set *live,
                            uint64_t before_ns, struct heap_rest *rests,
                            size_t num_rests) MUST_CHECK;

#endif
