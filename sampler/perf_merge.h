/* The order of things: merges the records of many rings into one stream of events by time.
 *
 * Each ring is in order by itself but for tiny inversions (a record whose time was taken just
 * before an interrupt that wrote another); those are delivered in ring order. Records newer than
 * the limit stay in their rings, so that across calls the order holds too. Records of sideband
 * rings come before samples of the same time. Nothing is copied but records that wrap around.
 * Ownership: rings are borrowed. Threads: one reader. Source: design.md 4 (Order across CPUs).
 */
#ifndef SAMPLER_PERF_MERGE_H
#define SAMPLER_PERF_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "profile/loss.h"
#include "profile/sample.h"
#include "sampler/perf_record.h"
#include "sampler/perf_ring.h"
#include "sampler/perf_rings.h"

/* One ring with what is known of its first record. */
struct perf_stream {
    struct perf_ring *ring;
    const struct perf_record_format *format;
    struct perf_event_header header; /* of the first record */
    uint64_t key_ns;                 /* its time, never less than that of the one before */
};

struct perf_merge {
    struct perf_stream *streams;
    size_t num_streams, capacity;
    size_t *heap; /* streams that have a record, the earliest first; room for all */
    size_t heap_length;
    uint64_t *scratch; /* PERF_RING_MAX_RECORD_BYTES, for records that wrap around */
    uint64_t last_ns;  /* time of the last event delivered */
    struct loss loss;  /* what LOSS events have told so far */
};

/* Says whether a decoded record is to be delivered, and may complete it by what the engine knows.
 * context: as given to perf_merge_drain(). */
typedef bool perf_merge_accept_fn(void *context, struct perf_record *record);

/* Where events go. */
struct perf_merge_sink {
    event_handler_fn *handler;
    void *handler_context;
    perf_merge_accept_fn *accept; /* NULL: all */
    void *accept_context;
};

/* Makes a merge without rings in the caller's storage. Returns: NULL or error_no_memory. */
struct error *perf_merge_init(struct perf_merge *merge) MUST_CHECK;

/* Frees its memory; the rings stay. A zeroed merge is fine. */
void perf_merge_deinit(struct perf_merge *merge);

/* Adds a ring; add sideband rings first, they are looked at first. ring, format: borrowed until
 * perf_merge_deinit(). Returns: NULL or error_no_memory. */
struct error *perf_merge_add(struct perf_merge *merge, struct perf_ring *ring,
                             const struct perf_record_format *format) MUST_CHECK;

/* Adds all rings of a sampler, sideband first. Formats: borrowed. Returns: NULL or error_no_memory.
 */
struct error *perf_merge_add_rings(struct perf_merge *merge, struct perf_rings *rings,
                                   const struct perf_record_format *data_format,
                                   const struct perf_record_format *sideband_format) MUST_CHECK;

/* Delivers what the rings held at the start of the call, up to records of time `limit_ns`
 * (UINT64_MAX: all). Take the time for the limit before the call.
 * Returns: how many samples were delivered. */
size_t perf_merge_drain(struct perf_merge *merge, uint64_t limit_ns,
                        const struct perf_merge_sink *sink);

/* Delivers a loss that no record told: `count` of `kind`, at the time of the last event. */
void perf_merge_deliver_loss(struct perf_merge *merge, enum loss_kind kind, uint64_t count,
                             const struct perf_merge_sink *sink);

/* Delivers, as one loss, what `total` counts beyond what records of this kind have told so far. */
void perf_merge_deliver_rest(struct perf_merge *merge, enum loss_kind kind, uint64_t total,
                             const struct perf_merge_sink *sink);

#endif
