/* One mmap'd perf ring: records that the kernel writes and we read in place.
 *
 * Reading goes in three steps: perf_ring_snapshot() fixes how far this round reads,
 * perf_ring_front() looks at the first record, perf_ring_pop() gives its room back to the kernel.
 * Bytes are borrowed from the ring until perf_ring_pop(); a record that wraps around the end is
 * copied first. What is in the ring is hostile: sizes are checked against what was written. Not
 * decoding (sampler/perf_record.h). Ownership: the ring owns descriptor and mapping. Threads: one
 * reader. Source: perf_event_open(2) ("MMAP layout"), linux/perf_event.h (data_head, data_tail).
 */
#ifndef SAMPLER_PERF_RING_H
#define SAMPLER_PERF_RING_H

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A record's size field has 16 bits. */
#define PERF_RING_MAX_RECORD_BYTES 65536

struct perf_ring {
    int fd;                            /* of the event that owns the ring; -1: none */
    struct perf_event_mmap_page *page; /* control page; the data pages follow it */
    uint8_t *data;
    uint64_t data_bytes; /* a power of two */
    uint64_t tail;       /* first byte not given back */
    uint64_t limit;      /* end of what this round reads, as of the snapshot */
    void *mapping;       /* NULL when the memory is not ours (tests) */
    size_t mapping_bytes;
};

/* Maps the ring of event `fd`, which is taken over on success.
 * data_bytes: a power of two, at least a page. ring_ret: owned by the caller (perf_ring_deinit()).
 * Returns: NULL; ERROR_PERMISSION when locked memory is used up (EPERM: try a smaller one). */
struct error *perf_ring_init(int fd, size_t data_bytes, struct perf_ring *ring_ret) MUST_CHECK;

/* Makes a ring over memory that somebody else owns (tests, fuzzers).
 * page: control page with data_head and data_tail. data: 8-byte aligned. data_bytes: a power of two
 * >= 8. */
void perf_ring_init_memory(struct perf_event_mmap_page *page, void *data, size_t data_bytes,
                           struct perf_ring *ring_ret);

/* Unmaps, closes. A zeroed ring with fd -1 is fine. */
void perf_ring_deinit(struct perf_ring *ring);

/* Fixes how far the coming calls read: all that the kernel has published by now.
 * Returns: false when head or tail make no sense; then the ring counts as empty up to its head. */
bool perf_ring_snapshot(struct perf_ring *ring);

/* Looks at the header of the first record before the limit.
 * header_ret: a copy. Returns: 1 there is one; 0 there is none; -1 the bytes make no sense, and all
 * up to the limit was given up (resynchronising is not possible). */
int perf_ring_front(struct perf_ring *ring, struct perf_event_header *header_ret);

/* Reads the 8-byte word at `offset` (multiple of 8, within the record) of the first record. */
uint64_t perf_ring_front_word(const struct perf_ring *ring, size_t offset);

/* Tells the bytes of the first record, `num_bytes` as in its header, in one piece, 8-byte aligned.
 * scratch: PERF_RING_MAX_RECORD_BYTES bytes, 8-byte aligned, used when the record wraps around.
 * Returns: a pointer into the ring or to `scratch`. */
const void *perf_ring_front_bytes(const struct perf_ring *ring, size_t num_bytes, void *scratch);

/* Gives the room of the first record, `num_bytes` as in its header, back to the kernel. */
void perf_ring_pop(struct perf_ring *ring, size_t num_bytes);

#endif
