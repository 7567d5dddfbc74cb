/* The units of a module's debug info: which one covers a place, and which one holds a DIE.
 *
 * .debug_aranges is used as a hint only, to find the unit of a place without unpacking all of
 * .debug_info: clang and Go write none, and what it does not know is looked for in the ranges that
 * the units themselves tell. Ownership: the caller owns the index; it borrows the Elf handles.
 * Threads: none. Source: DWARF 5 sections 6.1.2, 3.1.1 and 7.3; GNU DebugFission; dwz(1).
 */
#ifndef SYMBOLIZE_DWARF_INDEX_H
#define SYMBOLIZE_DWARF_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "symbolize/debug_files.h"
#include "symbolize/dwarf_abbrev.h"
#include "symbolize/dwarf_places.h"
#include "symbolize/dwarf_unit.h"

/* The units of one file, by offset. */
struct dwarf_unit_list {
    struct dwarf_file file;
    uint64_t *offsets;         /* ascending */
    struct dwarf_unit **units; /* read on first use; NULL before */
    size_t num, capacity, units_capacity;
    bool is_full; /* offsets has all units, not only those that .debug_aranges named */
};

struct dwarf_split;
struct split_files;

struct dwarf_index {
    struct dwarf_unit_list main;
    struct dwarf_unit_list alt; /* dwz file; no sections when there is none */
    bool has_alt;
    const struct debug_files *files;
    struct split_files *split_files; /* finds .dwo files and packages; NULL until asked for */
    struct dwarf_split *splits;      /* the split units read so far */
    struct dwarf_abbrevs_cache abbrevs;
};

/* Makes an index in the caller's storage, zeroed before; reads nothing yet.
 * files: loaded, with DWARF; outlive the index, as does the budget. */
void dwarf_index_init(struct dwarf_index *index, const struct debug_files *files,
                      struct dwarf_budget *budget);

/* Frees the units and closes the split files. A zeroed index is fine. */
void dwarf_index_deinit(struct dwarf_index *index);

/* Finds the units of places.
 * units: [places.num], zeroed; filled in for each place that a unit covers. Where units overlap
 * (identical code folding), the one with the smallest range wins: a unit that claims the whole
 * program does not hide the others. Returns: NULL or error_no_memory. */
struct error *dwarf_index_find(struct dwarf_index *index, struct dwarf_places places,
                               struct dwarf_unit **units) MUST_CHECK;

/* Finds the unit that holds an offset of .debug_info, in the file of `unit`, or in its dwz file.
 * Returns: the unit, valid as long as the index; NULL when there is none (or no memory). */
struct dwarf_unit *dwarf_index_unit_at(struct dwarf_index *index, const struct dwarf_unit *unit,
                                       bool is_alt, uint64_t offset);

/* Finds the unit that holds the functions: the split one for a skeleton, else `unit` itself.
 * Returns: NULL when the split file is missing. */
struct dwarf_unit *dwarf_index_full_unit(struct dwarf_index *index, struct dwarf_unit *unit);

#endif
