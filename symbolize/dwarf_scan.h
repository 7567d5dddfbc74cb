/* Moving over the DIEs of a unit in the order they are written, keeping of each only what tells
 * where its subtree ends and which code it has.
 *
 * Ownership: the caller's struct; borrows the unit. Threads: none. Source: DWARF 5 sections 2.3,
 * 7.5.2 and 7.5.3.
 */
#ifndef SYMBOLIZE_DWARF_SCAN_H
#define SYMBOLIZE_DWARF_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "symbolize/dwarf_abbrev.h"
#include "symbolize/dwarf_unit.h"

struct dwarf_scan {
    const struct dwarf_unit *unit;
    const struct dwarf_abbrevs *abbrevs; /* from the cache: read no other tables meanwhile */
    const uint8_t *section;              /* offset 0 of .debug_info */
    struct dwarf_bytes bytes;            /* at the next DIE */
    struct dwarf_value kept[DWARF_SCAN_NUM_SLOTS]; /* of the DIE just read; form 0: not there */
};

/* Starts at the root of a unit. Returns: false when it cannot be read. */
bool dwarf_scan_start(struct dwarf_scan *scan, struct dwarf_abbrevs_cache *cache,
                      const struct dwarf_unit *unit);

/* Reads the next DIE, be it a child, a sibling, or one further up.
 * die_ret: its offset. abbrev_ret: NULL for the end of a list of siblings.
 * Returns: false at the end of the unit, of what makes sense, or of the budget. */
bool dwarf_scan_next(struct dwarf_scan *scan, uint64_t *die_ret,
                     const struct dwarf_abbrev **abbrev_ret);

/* Moves over all children of the DIE just read, which has some. Returns: as above. */
bool dwarf_scan_skip_children(struct dwarf_scan *scan);

/* Tells where the subtree of the DIE just read ends. Returns: the offset of its next sibling, 0
 * when it does not tell. */
uint64_t dwarf_scan_sibling(const struct dwarf_scan *scan);

#endif
