#include "sampler/probe_frames.h"

#include <gelf.h>
#include <stddef.h>
#include <string.h>

/* Version 1; pointer to .eh_frame sdata4, relative; number of rows udata4; rows sdata4, relative to
 * the header: what ld, gold and lld write. */
static const uint8_t usual_form[] = {1, 0x1b, 0x03, 0x3b};

#define ROWS_OFFSET 12
#define ROW_BYTES 8

/* Finds the segment of the table. */
static bool find_table(Elf *elf, GElf_Phdr *segment_ret)
{
    size_t num_segments;

    if (elf_getphdrnum(elf, &num_segments) != 0)
        return false;
    for (size_t i = 0; i < num_segments && i < INT32_MAX; i++)
        if (gelf_getphdr(elf, (int)i, segment_ret) && segment_ret->p_type == PT_GNU_EH_FRAME)
            return true;
    return false;
}

static uint64_t row_start(const uint8_t *rows, size_t index, uint64_t table_addr)
{
    int32_t distance;

    memcpy(&distance, rows + index * ROW_BYTES, sizeof(distance));
    return table_addr + (uint64_t)(int64_t)distance;
}

static bool has_row(const uint8_t *rows, size_t num_rows, uint64_t table_addr, uint64_t elf_addr)
{
    size_t low = 0, high = num_rows;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (row_start(rows, middle, table_addr) < elf_addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low < num_rows && row_start(rows, low, table_addr) == elf_addr;
}

bool probe_has_frames(const struct module *module, uint64_t elf_addr)
{
    const uint8_t *bytes;
    GElf_Phdr segment;
    Elf_Data *data;
    uint32_t num_rows;

    if (!module->elf || !find_table(module->elf, &segment))
        return false;
    data = segment.p_filesz <= INT32_MAX
               ? elf_getdata_rawchunk(module->elf, (int64_t)segment.p_offset, segment.p_filesz,
                                      ELF_T_BYTE)
               : NULL;
    if (!data || !data->d_buf || data->d_size < ROWS_OFFSET)
        return false;
    bytes = data->d_buf;
    if (memcmp(bytes, usual_form, sizeof(usual_form)) != 0)
        return true;
    memcpy(&num_rows, bytes + ROWS_OFFSET - sizeof(num_rows), sizeof(num_rows));
    if (num_rows > (data->d_size - ROWS_OFFSET) / ROW_BYTES)
        num_rows = (uint32_t)((data->d_size - ROWS_OFFSET) / ROW_BYTES);
    return has_row(bytes + ROWS_OFFSET, num_rows, segment.p_vaddr, elf_addr);
}
