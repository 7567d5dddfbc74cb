#include "symbolize/dwp_index.h"

#include <string.h>

#include "base/compiler.h"
#include "base/dwarf_bytes.h"

#define HEADER_BYTES 16
#define MAX_COLUMNS 16 /* DWARF 5 defines 7 kinds of sections, version 2 has 8 */

/* Numbers of sections in a column header (DW_SECT_*); those of no interest are left out. */
struct column {
    unsigned int version;
    uint32_t id;
    enum split_section section;
};

static const struct column columns[] = {
    {2, 1, SPLIT_INFO},        {2, 3, SPLIT_ABBREV},      {2, 4, SPLIT_LINE},
    {2, 6, SPLIT_STR_OFFSETS}, {5, 1, SPLIT_INFO},        {5, 3, SPLIT_ABBREV},
    {5, 4, SPLIT_LINE},        {5, 6, SPLIT_STR_OFFSETS}, {5, 8, SPLIT_RNGLISTS},
};

/* Offsets of the four tables behind the header: they all fit, dwp_index_parse() has checked. */
static uint64_t rows_off(const struct dwp_index *index)
{
    return HEADER_BYTES + (uint64_t)index->num_slots * 8;
}

static uint64_t columns_off(const struct dwp_index *index)
{
    return rows_off(index) + (uint64_t)index->num_slots * 4;
}

static uint64_t ranges_off(const struct dwp_index *index)
{
    return columns_off(index) + (uint64_t)index->num_columns * 4;
}

static uint64_t sizes_off(const struct dwp_index *index)
{
    return ranges_off(index) + (uint64_t)index->num_units * index->num_columns * 4;
}

bool dwp_index_parse(const uint8_t *bytes, size_t num_bytes, struct dwp_index *index_ret)
{
    struct dwp_index index = {.bytes = bytes, .num_bytes = num_bytes};
    uint64_t table_bytes;

    if (num_bytes < HEADER_BYTES)
        return false;
    /* Version 2 has 4 bytes of it, version 5 has 2 and as many of padding. */
    index.version = dwarf_u32_at(bytes, 0) & 0xffff;
    index.num_columns = dwarf_u32_at(bytes, 4);
    index.num_units = dwarf_u32_at(bytes, 8);
    index.num_slots = dwarf_u32_at(bytes, 12);
    if ((index.version != 2 && index.version != 5) || index.num_columns > MAX_COLUMNS ||
        (index.num_slots & (index.num_slots - 1)) || index.num_units > index.num_slots)
        return false;
    table_bytes = (uint64_t)index.num_units * index.num_columns * 4;
    if (sizes_off(&index) + table_bytes > num_bytes)
        return false;
    *index_ret = index;
    return true;
}

/* Looks the signature up in the open-addressed table. Returns: its row, from 1 on; 0 = none. */
static uint32_t find_row(const struct dwp_index *index, uint64_t dwo_id)
{
    uint64_t mask = (uint64_t)index->num_slots - 1;
    uint64_t slot = dwo_id & mask;
    uint64_t step = (dwo_id >> 32 & mask) | 1;

    for (uint32_t i = 0; i < index->num_slots; i++) {
        uint32_t row = dwarf_u32_at(index->bytes, rows_off(index) + slot * 4);

        if (row == 0)
            return 0;
        if (dwarf_u64_at(index->bytes, HEADER_BYTES + slot * 8) == dwo_id)
            return row <= index->num_units ? row : 0;
        slot = (slot + step) & mask;
    }
    return 0;
}

bool dwp_index_find(const struct dwp_index *index, uint64_t dwo_id, struct dwp_range *ranges_ret)
{
    uint32_t row = index->num_slots > 0 ? find_row(index, dwo_id) : 0;

    if (row == 0)
        return false;
    memset(ranges_ret, 0, SPLIT_NUM_SECTIONS * sizeof(*ranges_ret));
    for (uint32_t i = 0; i < index->num_columns; i++) {
        uint32_t id = dwarf_u32_at(index->bytes, columns_off(index) + (uint64_t)i * 4);
        uint64_t cell = (uint64_t)(row - 1) * index->num_columns + i;

        for (size_t j = 0; j < ARRAY_LENGTH(columns); j++) {
            if (columns[j].version != index->version || columns[j].id != id)
                continue;
            ranges_ret[columns[j].section].off =
                dwarf_u32_at(index->bytes, ranges_off(index) + cell * 4);
            ranges_ret[columns[j].section].num_bytes =
                dwarf_u32_at(index->bytes, sizes_off(index) + cell * 4);
        }
    }
    return true;
}
