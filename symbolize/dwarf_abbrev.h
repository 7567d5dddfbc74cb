/* Abbreviations: what attributes the DIEs of a unit have, compiled for walking fast over those that
 * do not matter.
 *
 * Ownership: the caller owns the table. Threads: none. Source: DWARF 5 section 7.5.3.
 */
#ifndef SYMBOLIZE_DWARF_ABBREV_H
#define SYMBOLIZE_DWARF_ABBREV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/dwarf_bytes.h"
#include "base/error.h"
#include "symbolize/dwarf_file.h"
#include "symbolize/dwarf_form.h"

struct dwarf_abbrev_attr {
    uint16_t name;    /* DW_AT_* */
    uint16_t form;    /* DW_FORM_* */
    int32_t implicit; /* of DW_FORM_implicit_const: what fits, else 0 */
};

/* The attributes that a walk keeps. */
enum dwarf_scan_slot {
    DWARF_SCAN_SIBLING,
    DWARF_SCAN_LOW,
    DWARF_SCAN_HIGH,
    DWARF_SCAN_RANGES,
    DWARF_SCAN_NUM_SLOTS,
    DWARF_SCAN_SKIP, /* num_bytes bytes */
    DWARF_SCAN_SKIP_ULEB,
    DWARF_SCAN_SKIP_FORM,
};

/* One step of walking over the attributes of a DIE. */
struct dwarf_scan_step {
    uint8_t kind; /* enum dwarf_scan_slot */
    uint16_t form;
    int32_t number; /* bytes to skip, or the implicit value */
};

struct dwarf_abbrev {
    uint64_t code;
    uint16_t tag;
    bool has_children;
    uint32_t first_attr, num_attrs;
    uint32_t first_step, num_steps;
};

struct dwarf_abbrevs {
    struct dwarf_abbrev *abbrevs; /* by code - 1 when is_dense, else sorted by code */
    struct dwarf_abbrev_attr *attrs;
    struct dwarf_scan_step *steps;
    size_t num, capacity;
    size_t num_attrs, attrs_capacity;
    size_t num_steps, steps_capacity;
    bool is_dense;
    uint64_t offset; /* of the table in its section, and for what it was compiled */
    const struct dwarf_file *file;
    struct dwarf_format format;
};

/* Reads the head of the next abbreviation of a table.
 * Returns: false at the end of the table. */
bool dwarf_abbrev_next(struct dwarf_bytes *bytes, uint64_t *code_ret, uint64_t *tag_ret,
                       bool *has_children_ret);

/* Reads one attribute specification. Returns: false at the end of the list. */
bool dwarf_abbrev_next_attr(struct dwarf_bytes *bytes, struct dwarf_abbrev_attr *attr_ret);

/* Reads the table at an offset of .debug_abbrev.
 * abbrevs_ret: owned by the caller; as much as the budget allowed. Returns: NULL; error_no_memory.
 */
struct error *dwarf_abbrevs_create(struct dwarf_file *file, uint64_t offset,
                                   struct dwarf_format format,
                                   struct dwarf_abbrevs **abbrevs_ret) MUST_CHECK;

/* Frees a table. NULL is fine. */
void dwarf_abbrevs_destroy(struct dwarf_abbrevs *abbrevs);

/* Finds an abbreviation that is not in the usual order; see dwarf_abbrevs_find().
 * Returns: NULL when there is none. */
const struct dwarf_abbrev *dwarf_abbrevs_search(const struct dwarf_abbrevs *abbrevs, uint64_t code);

/* Finds an abbreviation by its code. Returns: NULL when there is none. */
static inline const struct dwarf_abbrev *dwarf_abbrevs_find(const struct dwarf_abbrevs *abbrevs,
                                                            uint64_t code)
{
    if (abbrevs->is_dense)
        return code - 1 < abbrevs->num ? &abbrevs->abbrevs[code - 1] : NULL;
    return dwarf_abbrevs_search(abbrevs, code);
}

DEFINE_CLEANUP(dwarf_abbrevs_destroy, struct dwarf_abbrevs *)

#define DWARF_ABBREVS_CACHED 32

/* The tables used last: units may share one, and references go back and forth. */
struct dwarf_abbrevs_cache {
    struct dwarf_abbrevs *tables[DWARF_ABBREVS_CACHED];
    size_t next; /* to be replaced */
};

/* Finds or reads a table. cache: keeps it until DWARF_ABBREVS_CACHED others were read.
 * Returns: the table; NULL when out of memory. */
const struct dwarf_abbrevs *dwarf_abbrevs_get(struct dwarf_abbrevs_cache *cache,
                                              struct dwarf_file *file, uint64_t offset,
                                              struct dwarf_format format);

/* Frees all tables. A zeroed cache is fine. */
void dwarf_abbrevs_cache_deinit(struct dwarf_abbrevs_cache *cache);

#endif
