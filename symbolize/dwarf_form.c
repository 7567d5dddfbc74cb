#include "symbolize/dwarf_form.h"

#include <dwarf.h>
#include <string.h>

#define INDIRECT_MAX 4 /* DW_FORM_indirect may name itself */

static int offset_form_bytes(unsigned form, struct dwarf_format format)
{
    switch (form) {
    case DW_FORM_strp:
    case DW_FORM_sec_offset:
    case DW_FORM_line_strp:
    case DW_FORM_strp_sup:
    case DW_FORM_GNU_ref_alt:
    case DW_FORM_GNU_strp_alt:
        return format.offset_bytes;
    case DW_FORM_ref_addr: /* an address in DWARF 2 */
        return format.version <= 2 ? DWARF_ADDRESS_BYTES : format.offset_bytes;
    default:
        return -1;
    }
}

int dwarf_form_bytes(unsigned form, struct dwarf_format format)
{
    switch (form) {
    case DW_FORM_flag_present:
    case DW_FORM_implicit_const:
        return 0;
    case DW_FORM_data1:
    case DW_FORM_flag:
    case DW_FORM_ref1:
    case DW_FORM_strx1:
    case DW_FORM_addrx1:
        return 1;
    case DW_FORM_data2:
    case DW_FORM_ref2:
    case DW_FORM_strx2:
    case DW_FORM_addrx2:
        return 2;
    case DW_FORM_strx3:
    case DW_FORM_addrx3:
        return 3;
    case DW_FORM_data4:
    case DW_FORM_ref4:
    case DW_FORM_ref_sup4:
    case DW_FORM_strx4:
    case DW_FORM_addrx4:
        return 4;
    case DW_FORM_addr:
    case DW_FORM_data8:
    case DW_FORM_ref8:
    case DW_FORM_ref_sig8:
    case DW_FORM_ref_sup8:
        return 8;
    case DW_FORM_data16:
        return 16;
    default:
        return offset_form_bytes(form, format);
    }
}

/* Size of a block, read from its start. Returns: false for other forms. */
static bool block_bytes(struct dwarf_bytes *bytes, unsigned form, uint64_t *num_ret)
{
    switch (form) {
    case DW_FORM_block1:
        *num_ret = dwarf_bytes_read(bytes, 1);
        return true;
    case DW_FORM_block2:
        *num_ret = dwarf_bytes_read(bytes, 2);
        return true;
    case DW_FORM_block4:
        *num_ret = dwarf_bytes_read(bytes, 4);
        return true;
    case DW_FORM_block:
    case DW_FORM_exprloc:
        *num_ret = dwarf_bytes_read_uleb(bytes);
        return true;
    default:
        return false;
    }
}

/* The forms of no fixed size. */
static bool read_variable(struct dwarf_bytes *bytes, unsigned form, struct dwarf_value *value)
{
    const uint8_t *end;
    uint64_t num_bytes;

    switch (form) {
    case DW_FORM_sdata:
        value->number = (uint64_t)dwarf_bytes_read_sleb(bytes);
        break;
    case DW_FORM_udata:
    case DW_FORM_ref_udata:
    case DW_FORM_strx:
    case DW_FORM_addrx:
    case DW_FORM_loclistx:
    case DW_FORM_rnglistx:
    case DW_FORM_GNU_addr_index:
    case DW_FORM_GNU_str_index:
        value->number = dwarf_bytes_read_uleb(bytes);
        break;
    case DW_FORM_string:
        end = memchr(bytes->at, 0, dwarf_bytes_left(bytes));
        if (!end)
            return dwarf_bytes_fail(bytes);
        value->bytes = bytes->at;
        value->number = (uint64_t)(end - bytes->at);
        bytes->at = end + 1;
        break;
    default:
        if (!block_bytes(bytes, form, &num_bytes))
            return dwarf_bytes_fail(bytes);
        dwarf_bytes_skip(bytes, num_bytes);
    }
    return !bytes->is_bad;
}

bool dwarf_form_read(struct dwarf_bytes *bytes, unsigned form, int64_t implicit,
                     struct dwarf_format format, struct dwarf_value *value_ret)
{
    int num_bytes;

    for (int i = 0; form == DW_FORM_indirect && i < INDIRECT_MAX; i++)
        form = (unsigned)dwarf_bytes_read_uleb(bytes);
    *value_ret = (struct dwarf_value){.form = (uint16_t)form};
    if (form > UINT16_MAX)
        return dwarf_bytes_fail(bytes);
    num_bytes = dwarf_form_bytes(form, format);
    if (num_bytes < 0)
        return read_variable(bytes, form, value_ret);
    if (num_bytes > (int)sizeof(value_ret->number))
        return dwarf_bytes_skip(bytes, (uint64_t)num_bytes);
    value_ret->number = form == DW_FORM_implicit_const ? (uint64_t)implicit
                        : form == DW_FORM_flag_present ? 1
                                                       : dwarf_bytes_read(bytes, (size_t)num_bytes);
    return !bytes->is_bad;
}

bool dwarf_form_skip(struct dwarf_bytes *bytes, unsigned form, struct dwarf_format format)
{
    struct dwarf_value value;
    int num_bytes = dwarf_form_bytes(form, format);

    if (num_bytes >= 0)
        return dwarf_bytes_skip(bytes, (uint64_t)num_bytes);
    return dwarf_form_read(bytes, form, 0, format, &value);
}
