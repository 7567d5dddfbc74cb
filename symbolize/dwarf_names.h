/* What the DIEs of functions say: names, and where they are declared and called.
 *
 * Follows an inlined instance to its abstract function and that to its declaration, into other
 * units and the dwz file. Ownership: results live in the caller's arena. Threads: none.
 * Source: DWARF 5 sections 2.13.2, 3.3.5 and 3.3.8.
 */
#ifndef SYMBOLIZE_DWARF_NAMES_H
#define SYMBOLIZE_DWARF_NAMES_H

#include <stdint.h>

#include "base/arena.h"
#include "symbolize/dwarf_index.h"
#include "symbolize/dwarf_lines.h"
#include "symbolize/dwarf_unit.h"

/* What is known of a function, and of its call when it was inlined. Strings are never NULL. */
struct dwarf_function {
    const char *name;         /* DW_AT_name; "" unknown */
    const char *linkage_name; /* "" unknown */
    const char *decl_path;    /* "" unknown */
    const char *call_path;    /* inlined: file of the call; "" unknown */
    int64_t decl_line;
    int64_t call_line;
};

/* Reads a function.
 * unit, die: where it is. arena: where the result goes.
 * Returns: the function; NULL when out of memory. */
struct dwarf_function *dwarf_function_read(struct dwarf_index *index, struct dwarf_unit *unit,
                                           uint64_t die, struct arena *arena);

/* Finds the line table that file numbers of a unit's DIEs mean: its own, or that of `skeleton` for
 * a split unit without one. Returns: NULL when there is none. */
struct dwarf_line_table *dwarf_unit_lines(struct dwarf_unit *unit);

#endif
