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

/* The sorted rows: where functions begin. */
struct table {
    const uint8_t *rows;
    size_t num_rows;
    uint64_t elf_addr; /* that rows are relative to */
    bool is_unusual;   /* of another form: no rows */
};

/* Reads the table of a module. Returns: false when it has none. */
static bool table_read(const struct module *module, struct table *table_ret)
{
    const uint8_t *bytes;
    GElf_Phdr segment;
    Elf_Data *data;
    uint32_t num_rows;

    if (!module->elf || !find_table(module->elf, &segment) || segment.p_filesz > INT32_MAX)
        return false;
    data =
        elf_getdata_rawchunk(module->elf, (int64_t)segment.p_offset, segment.p_filesz, ELF_T_BYTE);
    if (!data || !data->d_buf || data->d_size < ROWS_OFFSET)
        return false;
    bytes = data->d_buf;
    *table_ret = (struct table){.rows = bytes + ROWS_OFFSET, .elf_addr = segment.p_vaddr};
    table_ret->is_unusual = memcmp(bytes, usual_form, sizeof(usual_form)) != 0;
    if (table_ret->is_unusual)
        return true;
    memcpy(&num_rows, bytes + ROWS_OFFSET - sizeof(num_rows), sizeof(num_rows));
    table_ret->num_rows = (data->d_size - ROWS_OFFSET) / ROW_BYTES;
    if (table_ret->num_rows > num_rows)
        table_ret->num_rows = num_rows;
    return true;
}

static uint64_t row_start(const struct table *table, size_t index)
{
    int32_t distance;

    memcpy(&distance, table->rows + index * ROW_BYTES, sizeof(distance));
    return table->elf_addr + (uint64_t)(int64_t)distance;
}

/* Finds the row that begins at elf_addr. Returns: num_rows when there is none. */
static size_t row_find(const struct table *table, uint64_t elf_addr)
{
    size_t low = 0, high = table->num_rows;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (row_start(table, middle) < elf_addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low < table->num_rows && row_start(table, low) == elf_addr ? low : table->num_rows;
}

bool probe_has_frames(const struct module *module, uint64_t elf_addr)
{
    struct table table;

    return table_read(module, &table) &&
           (table.is_unusual || row_find(&table, elf_addr) < table.num_rows);
}

/* Tells the size of the function symbol at elf_addr; 0: there is none. */
static uint64_t symbol_extent(const struct module *module, uint64_t elf_addr)
{
    Elf_Scn *section = NULL;

    while (module->elf && (section = elf_nextscn(module->elf, section))) {
        Elf_Data *data;
        GElf_Shdr header;
        GElf_Sym symbol;

        if (!gelf_getshdr(section, &header) || header.sh_type != SHT_SYMTAB)
            continue;
        data = elf_getdata(section, NULL);
        for (int i = 0; data && gelf_getsym(data, i, &symbol); i++)
            if (GELF_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_value == elf_addr)
                return symbol.st_size;
    }
    return 0;
}

uint64_t probe_frames_extent(const struct module *module, uint64_t elf_addr)
{
    struct table table;
    size_t index;

    if (!table_read(module, &table))
        return symbol_extent(module, elf_addr);
    index = row_find(&table, elf_addr);
    if (table.num_rows == 0 || index >= table.num_rows - 1 ||
        row_start(&table, index + 1) <= elf_addr)
        return 0;
    return row_start(&table, index + 1) - elf_addr;
}
