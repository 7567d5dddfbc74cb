/* Attribute values of DIEs: how many bytes a form takes, and what it says.
 *
 * A value is raw: strings, addresses and references are looked up by whoever knows the unit
 * (dwarf_unit.h). Ownership: values point into the sections. Threads: values.
 * Source: DWARF 5 sections 7.5.5 and 7.5.6; GNU DebugFission (GNU_addr_index, GNU_str_index); dwz
 * (GNU_ref_alt, GNU_strp_alt).
 */
#ifndef SYMBOLIZE_DWARF_FORM_H
#define SYMBOLIZE_DWARF_FORM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dwarf_bytes.h"

#define DWARF_ADDRESS_BYTES 8 /* x86-64 only */

/* What decides about the size of forms. */
struct dwarf_format {
    uint8_t version;
    uint8_t offset_bytes; /* 4 or 8 */
};

struct dwarf_value {
    uint16_t form;        /* DW_FORM_*; 0: there is no such attribute */
    uint64_t number;      /* constant, offset, index or address */
    const uint8_t *bytes; /* DW_FORM_string only */
};

/* Size of forms that have a fixed one. Returns: the number of bytes, -1 for the others. */
int dwarf_form_bytes(unsigned form, struct dwarf_format format);

/* Moves over a value. Returns: false when the section ends before, or for an unknown form. */
bool dwarf_form_skip(struct dwarf_bytes *bytes, unsigned form, struct dwarf_format format);

/* Reads a value. implicit: what the abbreviation holds for DW_FORM_implicit_const.
 * Returns: as above; blocks leave number 0. */
bool dwarf_form_read(struct dwarf_bytes *bytes, unsigned form, int64_t implicit,
                     struct dwarf_format format, struct dwarf_value *value_ret);

#endif
