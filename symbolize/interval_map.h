/* Address ranges that may overlap, flattened once so that every address has at most one owner.
 *
 * Symbols overlap (aliases, nested entry points), scopes nest, JIT entries get replaced: all three
 * say who wins by a priority. Building costs O(n log n), a look-up one binary search, whatever a
 * hostile file makes of its ranges. Ownership: the map owns its segments; item numbers mean
 * something to the owner only. Threads: none.
 */
#ifndef SYMBOLIZE_INTERVAL_MAP_H
#define SYMBOLIZE_INTERVAL_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* One range [start, limit) on its way into a map; empty ones are ignored. */
struct interval {
    uint64_t start;
    uint64_t limit;
    uint64_t priority; /* where ranges overlap, the largest wins; equal ones in any order */
    uint32_t item;
};

/* A piece of the flattened map: [start, limit) belongs to `item`. */
struct interval_segment {
    uint64_t start;
    uint64_t limit;
    uint32_t item;
};

struct interval_map {
    struct interval_segment *segments; /* sorted, not overlapping */
    size_t num_segments;
};

/* Flattens `num_intervals` ranges, sorting the array in place; it stays owned by the caller.
 * map_ret: to be given to interval_map_deinit(). Returns: NULL or error_no_memory. */
struct error *interval_map_build(struct interval *intervals, size_t num_intervals,
                                 struct interval_map *map_ret) MUST_CHECK;

/* Frees the segments. A zeroed map is fine. */
void interval_map_deinit(struct interval_map *map);

/* Finds the owner of `elf_addr`. Returns: its segment, valid as long as the map; NULL when there is
 * none. */
const struct interval_segment *interval_map_find(const struct interval_map *map, uint64_t elf_addr);

#endif
