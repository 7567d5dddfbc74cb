#include "symbolize/dwarf_unit.h"

#include <dwarf.h>
#include <string.h>

/* Longest header: 64-bit DWARF 5 of a type unit is 40 bytes. */
#define HEADER_MAX_BYTES 64

/* Reads a length and tells by it whether this is 32-bit or 64-bit DWARF (7.4). */
static uint64_t read_length(struct dwarf_bytes *bytes, uint8_t *offset_bytes_ret)
{
    uint64_t length = dwarf_bytes_read(bytes, 4);

    *offset_bytes_ret = 4;
    if (length != UINT32_MAX)
        return length;
    *offset_bytes_ret = 8;
    return dwarf_bytes_read(bytes, 8);
}

static bool read_fields(struct dwarf_bytes *bytes, struct dwarf_unit *unit)
{
    uint64_t version = dwarf_bytes_read(bytes, 2);
    uint64_t address_bytes;

    if (version < 2 || version > 5)
        return false;
    unit->format.version = (uint8_t)version;
    if (version < 5) {
        unit->type = DW_UT_compile;
        unit->abbrev_offset = dwarf_bytes_read(bytes, unit->format.offset_bytes);
        address_bytes = dwarf_bytes_read(bytes, 1);
    } else {
        unit->type = (uint8_t)dwarf_bytes_read(bytes, 1);
        address_bytes = dwarf_bytes_read(bytes, 1);
        unit->abbrev_offset = dwarf_bytes_read(bytes, unit->format.offset_bytes);
    }
    if (unit->type == DW_UT_skeleton || unit->type == DW_UT_split_compile)
        unit->dwo_id = dwarf_bytes_read(bytes, 8);
    else if (unit->type == DW_UT_type || unit->type == DW_UT_split_type)
        dwarf_bytes_skip(bytes, 8 + (uint64_t)unit->format.offset_bytes);
    return !bytes->is_bad && address_bytes == DWARF_ADDRESS_BYTES;
}

bool dwarf_unit_read_header(struct dwarf_file *file, uint64_t offset, struct dwarf_unit *unit_ret)
{
    struct dwarf_unit unit = {.file = file, .addr_file = file, .offset = offset, .language = -1};
    const struct dwarf_section *section = dwarf_file_need(
        file, DWARF_SECTION_INFO,
        offset > UINT64_MAX - HEADER_MAX_BYTES ? offset : offset + HEADER_MAX_BYTES);
    struct dwarf_bytes bytes = {0};
    uint64_t length;
    bool is_good;

    *unit_ret = unit;
    if (!section->bytes || offset >= section->num_bytes)
        return false;
    bytes.at = section->bytes + offset;
    bytes.limit = section->bytes + section->num_bytes;
    length = read_length(&bytes, &unit.format.offset_bytes);
    if (bytes.is_bad)
        return false;
    unit.limit = (uint64_t)(bytes.at - section->bytes);
    if (length == 0 || __builtin_add_overflow(unit.limit, length, &unit.limit) ||
        unit.limit > section->total_bytes)
        return false;
    is_good = read_fields(&bytes, &unit);
    unit.root = (uint64_t)(bytes.at - section->bytes);
    *unit_ret = unit;
    return is_good && unit.root < unit.limit;
}

struct dwarf_bytes dwarf_unit_bytes(const struct dwarf_unit *unit, uint64_t offset)
{
    const struct dwarf_section *section =
        dwarf_file_need(unit->file, DWARF_SECTION_INFO, unit->limit);

    if (offset < unit->root || offset >= unit->limit || unit->limit > section->num_bytes)
        return (struct dwarf_bytes){.is_bad = true};
    return (struct dwarf_bytes){.at = section->bytes + offset,
                                .limit = section->bytes + unit->limit};
}

static uint64_t line_offset_of(struct dwarf_unit *unit, const struct dwarf_value *value)
{
    unit->has_line = true;
    return value->number;
}

static void take_root_attr(struct dwarf_unit *unit, unsigned name, const struct dwarf_value *value)
{
    switch (name) {
    case DW_AT_low_pc:
        unit->code.low = *value;
        break;
    case DW_AT_high_pc:
        unit->code.high = *value;
        break;
    case DW_AT_ranges:
        unit->code.ranges = *value;
        break;
    case DW_AT_addr_base:
    case DW_AT_GNU_addr_base:
        unit->addr_base = value->number;
        break;
    case DW_AT_str_offsets_base:
        unit->str_offsets_base = value->number;
        break;
    case DW_AT_rnglists_base:
        unit->rnglists_base = value->number;
        break;
    case DW_AT_GNU_ranges_base:
        unit->ranges_base = value->number;
        break;
    case DW_AT_stmt_list:
        unit->line_offset = line_offset_of(unit, value);
        break;
    case DW_AT_language:
        unit->language = value->number > INT32_MAX ? -1 : (int)value->number;
        break;
    case DW_AT_comp_dir:
        unit->comp_dir = *value;
        break;
    case DW_AT_name:
        unit->name = *value;
        break;
    case DW_AT_dwo_name:
    case DW_AT_GNU_dwo_name:
        unit->dwo_name = *value;
        break;
    case DW_AT_GNU_dwo_id:
        unit->dwo_id = value->number;
        break;
    default:
        break;
    }
}

/* Finds the attribute list of an abbreviation without reading the table into memory: each unit of a
 * large file has its own, and most are asked for their root only. */
static bool find_abbrev(struct dwarf_bytes *abbrevs, uint64_t wanted, struct dwarf_budget *budget)
{
    struct dwarf_abbrev_attr attr;
    uint64_t code;
    uint64_t tag;
    bool has_children;

    while (dwarf_abbrev_next(abbrevs, &code, &tag, &has_children)) {
        if (code == wanted)
            return true;
        while (dwarf_abbrev_next_attr(abbrevs, &attr)) {
            if (!dwarf_budget_take(budget, 1))
                return false;
        }
    }
    return false;
}

/* The header of .debug_str_offsets and .debug_rnglists, which a missing base attribute of a split
 * unit means to skip (7.26, 7.28). */
static uint64_t header_bytes(const struct dwarf_unit *unit, uint64_t short_bytes)
{
    return unit->format.offset_bytes == 8 ? short_bytes + 8 : short_bytes;
}

bool dwarf_unit_read_root(struct dwarf_unit *unit)
{
    struct dwarf_bytes bytes = dwarf_unit_bytes(unit, unit->root);
    struct dwarf_bytes abbrevs =
        dwarf_file_bytes(unit->file, DWARF_SECTION_ABBREV, unit->abbrev_offset);
    struct dwarf_abbrev_attr attr;
    uint64_t code = dwarf_bytes_read_uleb(&bytes);

    if (code == 0 || bytes.is_bad || abbrevs.is_bad ||
        !find_abbrev(&abbrevs, code, unit->file->budget))
        return false;
    if (unit->format.version >= 5) {
        unit->str_offsets_base = header_bytes(unit, 8);
        unit->rnglists_base = header_bytes(unit, 12);
    }
    while (dwarf_abbrev_next_attr(&abbrevs, &attr)) {
        struct dwarf_value value;

        if (!dwarf_form_read(&bytes, attr.form, attr.implicit, unit->format, &value) ||
            !dwarf_budget_take(unit->file->budget, 1))
            return false;
        take_root_attr(unit, attr.name, &value);
    }
    if (!unit->is_split && !dwarf_unit_address(unit, &unit->code.low, &unit->low_pc))
        unit->low_pc = 0;
    return true;
}

void dwarf_unit_join(struct dwarf_unit *split, struct dwarf_unit *skeleton)
{
    split->skeleton = skeleton;
    split->addr_file = skeleton->file;
    split->addr_base = skeleton->addr_base;
    split->ranges_base = skeleton->ranges_base;
    split->low_pc = skeleton->low_pc;
    split->is_split = true;
}

static const char *indexed_string(const struct dwarf_unit *unit, uint64_t index, size_t *length_ret)
{
    uint64_t offset;
    struct dwarf_bytes bytes;

    if (__builtin_mul_overflow(index, unit->format.offset_bytes, &offset) ||
        __builtin_add_overflow(offset, unit->str_offsets_base, &offset))
        return NULL;
    bytes = dwarf_file_bytes(unit->file, DWARF_SECTION_STR_OFFSETS, offset);
    offset = dwarf_bytes_read(&bytes, unit->format.offset_bytes);
    if (bytes.is_bad)
        return NULL;
    return dwarf_file_string(unit->file, DWARF_SECTION_STR, offset, length_ret);
}

const char *dwarf_unit_string(const struct dwarf_unit *unit, const struct dwarf_value *value,
                              size_t *length_ret)
{
    switch (value->form) {
    case DW_FORM_string:
        *length_ret = value->number;
        return (const char *)value->bytes;
    case DW_FORM_strp:
        return dwarf_file_string(unit->file, DWARF_SECTION_STR, value->number, length_ret);
    case DW_FORM_line_strp:
        return dwarf_file_string(unit->file, DWARF_SECTION_LINE_STR, value->number, length_ret);
    case DW_FORM_GNU_strp_alt:
    case DW_FORM_strp_sup:
        return unit->alt
                   ? dwarf_file_string(unit->alt, DWARF_SECTION_STR, value->number, length_ret)
                   : NULL;
    case DW_FORM_strx:
    case DW_FORM_strx1:
    case DW_FORM_strx2:
    case DW_FORM_strx3:
    case DW_FORM_strx4:
    case DW_FORM_GNU_str_index:
        return indexed_string(unit, value->number, length_ret);
    default:
        return NULL;
    }
}

bool dwarf_unit_indexed_address(const struct dwarf_unit *unit, uint64_t index, uint64_t *addr_ret)
{
    struct dwarf_bytes bytes;
    uint64_t offset;

    if (__builtin_mul_overflow(index, DWARF_ADDRESS_BYTES, &offset) ||
        __builtin_add_overflow(offset, unit->addr_base, &offset))
        return false;
    bytes = dwarf_file_bytes(unit->addr_file, DWARF_SECTION_ADDR, offset);
    *addr_ret = dwarf_bytes_read(&bytes, DWARF_ADDRESS_BYTES);
    return !bytes.is_bad;
}

bool dwarf_unit_address(const struct dwarf_unit *unit, const struct dwarf_value *value,
                        uint64_t *addr_ret)
{
    switch (value->form) {
    case DW_FORM_addr:
        *addr_ret = value->number;
        return true;
    case DW_FORM_addrx:
    case DW_FORM_addrx1:
    case DW_FORM_addrx2:
    case DW_FORM_addrx3:
    case DW_FORM_addrx4:
    case DW_FORM_GNU_addr_index:
        return dwarf_unit_indexed_address(unit, value->number, addr_ret);
    default:
        return false;
    }
}
