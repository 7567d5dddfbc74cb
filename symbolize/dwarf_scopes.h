/* The functions of one compilation unit around the places that are asked for, and what was inlined
 * into them: one walk over its DIEs that enters only what covers a place.
 *
 * libdw's own dwarf_getscopes() is not used: it skips namespaces, goes on in the abstract tree
 * behind an inlined function, and walks the unit for every address. Ownership: the caller owns the
 * scopes; they borrow the units. Threads: none. Source: DWARF 5 sections 3.3 (subprograms,
 * inlined subroutines) and 2.17 (code ranges).
 */
#ifndef SYMBOLIZE_DWARF_SCOPES_H
#define SYMBOLIZE_DWARF_SCOPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "symbolize/dwarf_places.h"
#include "symbolize/dwarf_unit.h"

#define DWARF_SCOPE_NONE UINT32_MAX

/* A function, or one inlined instance of one. */
struct dwarf_scope {
    struct dwarf_unit *unit;
    uint64_t die;    /* its offset in .debug_info */
    uint32_t parent; /* the scope it was inlined into; DWARF_SCOPE_NONE for physical functions */
    struct dwarf_function *function; /* NULL until asked for (dwarf_names.h) */
};

struct dwarf_scopes {
    struct dwarf_scope *scopes;
    size_t num, capacity;
};

/* The innermost scope at a place. */
struct dwarf_found_scope {
    uint32_t scope; /* DWARF_SCOPE_NONE: none */
    uint32_t rank;  /* how deep it is; 0: none */
};

/* Walks a unit, adding to `scopes` what covers any of the places.
 * unit: holds the functions. found: [places.num], filled in, as far as the budget allowed.
 * Returns: NULL or error_no_memory. */
struct error *dwarf_scopes_walk(struct dwarf_scopes *scopes, struct dwarf_abbrevs_cache *cache,
                                struct dwarf_unit *unit, struct dwarf_places places,
                                struct dwarf_found_scope *found) MUST_CHECK;

/* Tells whether code in this language is C or C++. language: DW_LANG_*. */
bool dwarf_language_is_c_family(int language);

/* Frees the scopes. */
void dwarf_scopes_deinit(struct dwarf_scopes *scopes);

#endif
