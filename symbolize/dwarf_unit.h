/* One compilation unit: its header, what its root DIE says of the whole unit, and the attributes
 * of its DIEs, with strings and addresses looked up.
 *
 * Not which unit covers an address (dwarf_index.h). Ownership: a unit borrows its files.
 * Threads: none. Source: DWARF 5 sections 3.1 and 7.5.1; GNU DebugFission.
 */
#ifndef SYMBOLIZE_DWARF_UNIT_H
#define SYMBOLIZE_DWARF_UNIT_H

#include <stdbool.h>
#include <stdint.h>

#include "symbolize/dwarf_abbrev.h"
#include "symbolize/dwarf_file.h"
#include "symbolize/dwarf_form.h"

struct dwarf_line_table;

/* The code attributes of a DIE, as found. */
struct dwarf_code {
    struct dwarf_value low, high, ranges;
};

struct dwarf_unit {
    struct dwarf_file *file;      /* whose .debug_info it is in */
    struct dwarf_file *addr_file; /* has the addresses: that of the skeleton for a split unit */
    struct dwarf_file *alt;       /* dwz file, NULL = none */
    uint64_t offset, root, limit; /* in .debug_info: header, root DIE, end */
    uint64_t abbrev_offset;
    struct dwarf_format format;
    uint8_t type; /* DW_UT_* */
    bool is_split;
    uint64_t dwo_id;

    /* Said by the root DIE. */
    struct dwarf_code code;
    uint64_t low_pc;
    uint64_t addr_base, str_offsets_base, rnglists_base;
    uint64_t ranges_base; /* GNU's split DWARF 4: what its offsets into .debug_ranges start from */
    uint64_t line_offset;
    bool has_line;
    int language; /* DW_LANG_*, -1 unknown */
    struct dwarf_value comp_dir, dwo_name, name;

    struct dwarf_unit *skeleton; /* of a split unit; NULL else */

    /* Filled in by others. */
    struct dwarf_unit *split; /* has the functions when this is a skeleton; NULL = none found */
    bool is_split_searched;
    struct dwarf_line_table *lines; /* NULL = not read yet, or none (dwarf_lines.h) */
    bool is_lines_read;
    bool is_resolved; /* its places were looked up (dwarf.c) */
};

/* Reads the header at an offset of .debug_info. unit_ret: only the fields up to dwo_id are set.
 * Returns: false when there is no unit that we understand; limit is set even then when it is known,
 * else 0. */
bool dwarf_unit_read_header(struct dwarf_file *file, uint64_t offset, struct dwarf_unit *unit_ret);

/* Reads the root DIE; header and files are set. Returns: false when it is damaged. */
bool dwarf_unit_read_root(struct dwarf_unit *unit);

/* Takes over what a skeleton says for its split unit, before the root of that is read. */
void dwarf_unit_join(struct dwarf_unit *split, struct dwarf_unit *skeleton);

/* Makes a cursor from `offset` to the end of the unit. Returns: a bad one when the offset is not in
 * it. */
struct dwarf_bytes dwarf_unit_bytes(const struct dwarf_unit *unit, uint64_t offset);

/* Tells the string of a value. length_ret: without the NUL, which another process may have
 * overwritten by now: copy that many bytes. Returns: NULL when there is none. */
const char *dwarf_unit_string(const struct dwarf_unit *unit, const struct dwarf_value *value,
                              size_t *length_ret);

/* Tells the address of a value. Returns: false when it is none. */
bool dwarf_unit_address(const struct dwarf_unit *unit, const struct dwarf_value *value,
                        uint64_t *addr_ret);

/* Tells the address at an index of .debug_addr. Returns: false when it is outside. */
bool dwarf_unit_indexed_address(const struct dwarf_unit *unit, uint64_t index, uint64_t *addr_ret);

#endif
