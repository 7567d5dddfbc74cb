/* The addresses that a DIE covers: low and high pc, or a list of ranges.
 *
 * Ownership: the iterator borrows the unit. Threads: none.
 * Source: DWARF 5 section 2.17, 7.28; DWARF 4 section 2.17.3 (.debug_ranges).
 */
#ifndef SYMBOLIZE_DWARF_RANGES_H
#define SYMBOLIZE_DWARF_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#include "symbolize/dwarf_unit.h"

struct dwarf_ranges {
    const struct dwarf_unit *unit;
    struct dwarf_bytes bytes; /* the rest of the list */
    uint64_t base;
    uint64_t start, limit; /* the one range of a DIE without a list */
    bool is_list;
};

/* Starts over the ranges of a DIE. code: as its attributes say.
 * Returns: whether it says anything: false for declarations and types. */
bool dwarf_ranges_start(struct dwarf_ranges *ranges, const struct dwarf_unit *unit,
                        const struct dwarf_code *code);

/* Tells the next range. Code that the linker threw away (at address 0, as linkers leave it) and
 * empty ranges are left out. Returns: false at the end. */
bool dwarf_ranges_next(struct dwarf_ranges *ranges, uint64_t *start_ret, uint64_t *limit_ret);

#endif
