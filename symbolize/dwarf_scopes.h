/* The functions of one compilation unit and what was inlined into them: one walk over its DIEs,
 * made when the first address of the unit is asked for, flattened into sorted ranges.
 *
 * libdw's own dwarf_getscopes() is not used: it skips namespaces, goes on in the abstract tree
 * behind an inlined function, and walks the unit for every address. Ownership: the caller owns the
 * scopes; they borrow the Dwarf handle. Threads: none. Source: DWARF 5 sections 3.3 (subprograms,
 * inlined subroutines) and 2.17 (code ranges).
 */
#ifndef SYMBOLIZE_DWARF_SCOPES_H
#define SYMBOLIZE_DWARF_SCOPES_H

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "symbolize/dwarf_lines.h"
#include "symbolize/interval_map.h"

#define DWARF_SCOPE_NONE UINT32_MAX

/* What is read of a scope once an address in it was asked for. Strings are never NULL. */
struct dwarf_scope_info {
    const char *name;         /* DW_AT_name; "" unknown */
    const char *linkage_name; /* "" unknown */
    const char *decl_path;    /* "" unknown */
    const char *call_path;    /* inlined: file of the call; "" unknown */
    int64_t decl_line;
    int64_t call_line;
};

/* A function, or one inlined instance of one. */
struct dwarf_scope {
    Dwarf_Die die;
    uint32_t parent; /* the scope it was inlined into; DWARF_SCOPE_NONE for physical functions */
    struct dwarf_scope_info *info; /* NULL until asked for */
};

struct dwarf_scopes {
    struct dwarf_scope *scopes;
    size_t num_scopes, capacity;
    struct interval_map ranges;
};

/* Walks a unit.
 * unit_die: DIE of the unit that holds the functions. max_dies: give up after that many.
 * deadline_ns: CLOCK_MONOTONIC, 0 = none. scopes_ret: owned by the caller; what was found until a
 * limit was hit. Returns: NULL or error_no_memory. */
struct error *dwarf_scopes_create(Dwarf_Die *unit_die, uint64_t max_dies, uint64_t deadline_ns,
                                  struct dwarf_scopes **scopes_ret) MUST_CHECK;

/* Frees the scopes. NULL is fine. */
void dwarf_scopes_destroy(struct dwarf_scopes *scopes);

/* Finds the innermost scope at an address. Returns: its number, or DWARF_SCOPE_NONE. */
uint32_t dwarf_scopes_find(const struct dwarf_scopes *scopes, uint64_t elf_addr);

/* Tells names and places of a scope, reading them on first use.
 * scope: below num_scopes. lines: whose arena gets the result. Returns: NULL when out of memory. */
const struct dwarf_scope_info *dwarf_scopes_info(struct dwarf_scopes *scopes, uint32_t scope,
                                                 struct dwarf_lines *lines);

DEFINE_CLEANUP(dwarf_scopes_destroy, struct dwarf_scopes *)

#endif
