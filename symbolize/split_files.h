/* Split DWARF: where the other half of a skeleton unit is. A package (NAME.dwp) beside the module
 * or its debug file (NAME or NAME.debug), or in the debug directory; else the .dwo file that the
 * skeleton names, in its compilation directory or, when files were moved, beside the module or in
 * the debug directory.
 *
 * What is found is proven by the unit's dwo_id, never by its name. Looked for below the target's
 * root first, then below our own. Packages may be of the GNU version 2 (DWARF 4) or of DWARF 5.
 * Not a reader of units: it gives bytes, and how far they go; the bytes are hostile.
 * Ownership: the caller owns the struct; bytes are valid as long as it lives. Threads: none.
 * Source: DWARF 5 sections 7.3.2 and 7.3.5; https://gcc.gnu.org/wiki/DebugFissionDWP.
 */
#ifndef SYMBOLIZE_SPLIT_FILES_H
#define SYMBOLIZE_SPLIT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "symbolize/debug_files.h"
#include "symbolize/dwarf_file.h"

/* The sections of a split unit. */
enum split_section {
    SPLIT_INFO,
    SPLIT_ABBREV,
    SPLIT_LINE, /* file names only */
    SPLIT_STR_OFFSETS,
    SPLIT_RNGLISTS,
    SPLIT_STR, /* shared by all units of a package */
    SPLIT_NUM_SECTIONS,
};

/* Bytes of one section that belong to the unit; NULL and 0 when there are none. */
struct split_bytes {
    const uint8_t *bytes;
    uint64_t num_bytes;
};

/* One split unit. Offsets inside of it count from the start of each of these ranges. */
struct split_unit {
    struct split_bytes sections[SPLIT_NUM_SECTIONS];
    uint64_t unit_off; /* of the unit's header in sections[SPLIT_INFO] */
};

/* What the skeleton says. */
struct split_request {
    uint64_t dwo_id;
    const char *name;     /* DW_AT_dwo_name or DW_AT_GNU_dwo_name; may be NULL */
    const char *comp_dir; /* DW_AT_comp_dir; may be NULL */
};

struct split_files;

/* Makes a finder for the units of one module; opens nothing yet.
 * files, budget: outlive it. split_ret: owned by the caller. Returns: NULL or error_no_memory. */
struct error *split_files_create(const struct debug_files *files, struct dwarf_budget *budget,
                                 struct split_files **split_ret) MUST_CHECK;

/* Closes all files. NULL is fine. */
void split_files_destroy(struct split_files *split);

/* Finds a unit. A package or .dwo file is opened once and kept.
 * unit_ret: borrowed bytes. is_found_ret: false when no file has a unit of that dwo_id.
 * Returns: NULL or error_no_memory. */
struct error *split_files_find(struct split_files *split, const struct split_request *request,
                               struct split_unit *unit_ret, bool *is_found_ret) MUST_CHECK;

DEFINE_CLEANUP(split_files_destroy, struct split_files *)

#endif
