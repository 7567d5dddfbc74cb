/* The table of contents of a DWARF package: which bytes of each section belong to which unit.
 *
 * Pure functions over bytes of a hostile file. Ownership: borrows all bytes. Threads: none.
 * Source: DWARF 5 section 7.3.5.3 (version 5); https://gcc.gnu.org/wiki/DebugFissionDWP (2).
 */
#ifndef SYMBOLIZE_DWP_INDEX_H
#define SYMBOLIZE_DWP_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/split_files.h"

/* A .debug_cu_index (or .debug_tu_index), header read. */
struct dwp_index {
    const uint8_t *bytes;
    size_t num_bytes;
    unsigned int version; /* 2 (GNU) or 5 */
    uint32_t num_columns, num_units, num_slots;
};

/* A piece of a section. */
struct dwp_range {
    uint32_t off;
    uint32_t num_bytes;
};

/* Reads the header. index_ret: borrows `bytes`. Returns: false when it is of no known version or
 * its tables do not fit into the bytes. */
bool dwp_index_parse(const uint8_t *bytes, size_t num_bytes, struct dwp_index *index_ret);

/* Finds the unit with the signature `dwo_id`.
 * ranges_ret: [SPLIT_NUM_SECTIONS], zero for sections that the package tells nothing of (SPLIT_STR
 * always). Returns: false when it is not there. */
bool dwp_index_find(const struct dwp_index *index, uint64_t dwo_id, struct dwp_range *ranges_ret);

#endif
