#include "symbolize/dwarf_ranges.h"

#include <dwarf.h>

/* Finds where the list of a unit of DWARF 5 begins. */
static bool start_rnglist(struct dwarf_ranges *ranges, const struct dwarf_unit *unit,
                          const struct dwarf_value *value)
{
    uint64_t offset = value->number;

    if (value->form == DW_FORM_rnglistx) {
        struct dwarf_bytes bytes;

        if (__builtin_mul_overflow(offset, unit->format.offset_bytes, &offset) ||
            __builtin_add_overflow(offset, unit->rnglists_base, &offset))
            return false;
        bytes = dwarf_file_bytes(unit->file, DWARF_SECTION_RNGLISTS, offset);
        offset = dwarf_bytes_read(&bytes, unit->format.offset_bytes);
        if (bytes.is_bad || __builtin_add_overflow(offset, unit->rnglists_base, &offset))
            return false;
    }
    ranges->bytes = dwarf_file_bytes(unit->file, DWARF_SECTION_RNGLISTS, offset);
    return !ranges->bytes.is_bad;
}

static bool start_list(struct dwarf_ranges *ranges, const struct dwarf_unit *unit,
                       const struct dwarf_value *value)
{
    uint64_t offset = value->number;

    ranges->is_list = true;
    ranges->base = unit->low_pc;
    if (unit->format.version >= 5)
        return start_rnglist(ranges, unit, value);
    /* In GNU's split DWARF 4 the offsets of the .dwo file start from what the skeleton says. */
    if (unit->is_split && __builtin_add_overflow(offset, unit->ranges_base, &offset))
        return false;
    ranges->bytes = dwarf_file_bytes(unit->addr_file, DWARF_SECTION_RANGES, offset);
    return !ranges->bytes.is_bad;
}

bool dwarf_ranges_start(struct dwarf_ranges *ranges, const struct dwarf_unit *unit,
                        const struct dwarf_code *code)
{
    *ranges = (struct dwarf_ranges){.unit = unit};
    if (code->ranges.form)
        return start_list(ranges, unit, &code->ranges);
    if (!dwarf_unit_address(unit, &code->low, &ranges->start) || !code->high.form)
        return false;
    if (!dwarf_unit_address(unit, &code->high, &ranges->limit) &&
        __builtin_add_overflow(ranges->start, code->high.number, &ranges->limit))
        return false;
    return true;
}

/* One entry of .debug_ranges. Returns: false at the end; an empty range after a new base. */
static bool next_of_ranges(struct dwarf_ranges *ranges, uint64_t *start, uint64_t *limit)
{
    *start = dwarf_bytes_read(&ranges->bytes, DWARF_ADDRESS_BYTES);
    *limit = dwarf_bytes_read(&ranges->bytes, DWARF_ADDRESS_BYTES);
    if (ranges->bytes.is_bad || (*start == 0 && *limit == 0))
        return false;
    if (*start == UINT64_MAX) {
        ranges->base = *limit;
        *start = *limit = 0;
        return true;
    }
    *start += ranges->base;
    *limit += ranges->base;
    return true;
}

static bool read_indexed(struct dwarf_ranges *ranges, uint64_t *addr)
{
    return dwarf_unit_indexed_address(ranges->unit, dwarf_bytes_read_uleb(&ranges->bytes), addr);
}

/* One entry of .debug_rnglists; returns as above. */
static bool next_of_rnglists(struct dwarf_ranges *ranges, uint64_t *start, uint64_t *limit)
{
    struct dwarf_bytes *bytes = &ranges->bytes;

    *start = *limit = 0;
    switch (dwarf_bytes_read(bytes, 1)) {
    case DW_RLE_base_addressx:
        return read_indexed(ranges, &ranges->base);
    case DW_RLE_startx_endx:
        return read_indexed(ranges, start) && read_indexed(ranges, limit);
    case DW_RLE_startx_length:
        if (!read_indexed(ranges, start))
            return false;
        *limit = *start + dwarf_bytes_read_uleb(bytes);
        break;
    case DW_RLE_offset_pair:
        *start = ranges->base + dwarf_bytes_read_uleb(bytes);
        *limit = ranges->base + dwarf_bytes_read_uleb(bytes);
        break;
    case DW_RLE_base_address:
        ranges->base = dwarf_bytes_read(bytes, DWARF_ADDRESS_BYTES);
        break;
    case DW_RLE_start_end:
        *start = dwarf_bytes_read(bytes, DWARF_ADDRESS_BYTES);
        *limit = dwarf_bytes_read(bytes, DWARF_ADDRESS_BYTES);
        break;
    case DW_RLE_start_length:
        *start = dwarf_bytes_read(bytes, DWARF_ADDRESS_BYTES);
        *limit = *start + dwarf_bytes_read_uleb(bytes);
        break;
    default: /* DW_RLE_end_of_list */
        return false;
    }
    return !bytes->is_bad;
}

bool dwarf_ranges_next(struct dwarf_ranges *ranges, uint64_t *start_ret, uint64_t *limit_ret)
{
    bool is_next;

    do {
        if (!ranges->is_list) {
            *start_ret = ranges->start;
            *limit_ret = ranges->limit;
            ranges->start = ranges->limit = 0;
            return *start_ret > 0 && *start_ret < *limit_ret;
        }
        if (!dwarf_budget_take(ranges->unit->file->budget, 1))
            return false;
        is_next = ranges->unit->format.version >= 5 ? next_of_rnglists(ranges, start_ret, limit_ret)
                                                    : next_of_ranges(ranges, start_ret, limit_ret);
    } while (is_next && (*start_ret == 0 || *start_ret >= *limit_ret));
    return is_next;
}
