/* The compilation units of a file by address, from the ranges that the units themselves tell.
 *
 * .debug_aranges is never used: clang and Go write none, and libdw then finds nothing.
 * Ownership: the caller owns the index; it borrows the Dwarf handle. Threads: none.
 * Source: DWARF 5 sections 3.1.1 and 2.17.
 */
#ifndef SYMBOLIZE_DWARF_UNITS_H
#define SYMBOLIZE_DWARF_UNITS_H

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "symbolize/dwarf_scopes.h"
#include "symbolize/interval_map.h"

struct dwarf_unit {
    Dwarf_Die die;      /* of the unit, or of the skeleton of a split one: has the line table */
    Dwarf_Die full_die; /* has the functions; same as die unless split */
    uint64_t num_bytes; /* length in .debug_info: no walk visits more DIEs than that */
    int language;       /* DW_LANG_*, -1 unknown */
    bool is_skeleton;
    bool is_loaded;              /* full_die, language and scopes are filled in */
    struct dwarf_scopes *scopes; /* NULL: not loaded, or not readable */
};

struct dwarf_units {
    struct dwarf_unit *units;
    size_t num_units, capacity;
    struct interval_map ranges;
    uint64_t deadline_ns;
};

/* Makes the index. dwarf: outlives it. deadline_ns: CLOCK_MONOTONIC, 0 = none; units not seen by
 * then are left out. units_ret: owned by the caller. Returns: NULL or error_no_memory. */
struct error *dwarf_units_create(Dwarf *dwarf, uint64_t deadline_ns,
                                 struct dwarf_units **units_ret) MUST_CHECK;

/* Frees the index and all scopes. NULL is fine. */
void dwarf_units_destroy(struct dwarf_units *units);

/* Finds the unit that covers an address and loads its functions.
 * Returns: the unit, valid as long as the index; NULL when none covers it. */
struct dwarf_unit *dwarf_units_find(struct dwarf_units *units, uint64_t elf_addr);

DEFINE_CLEANUP(dwarf_units_destroy, struct dwarf_units *)

#endif
