/* Finding .gopclntab, and runtime.firstmoduledata, which says where the text and the inline trees
 * lie. */
#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "symbolize/debug_files.h"
#include "symbolize/elf_file.h"
#include "symbolize/gopclntab.h"
#include "symbolize/symbolize.h"

/* Byte offsets in runtime.moduledata (Go src/runtime/symtab.go): the first word points to the
 * table. */
#define MODULEDATA_NUM_FTAB 136
#define MODULEDATA_TEXT 176
#define MODULEDATA_GOFUNC_1_18 304
#define MODULEDATA_GOFUNC_1_20 320

struct go_state {
    struct gopclntab table;
    struct arena *arena;
};

/* Where the module data lies, and how to read pointers in it. */
struct module_data {
    Elf *elf;
    uint64_t elf_addr;
};

/* Reads the word at an address from the file. */
static bool read_word(Elf *elf, uint64_t elf_addr, uint64_t *word_ret)
{
    Elf_Scn *scn = NULL;

    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;
        Elf_Data *data;

        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type != SHT_PROGBITS || elf_addr < shdr.sh_addr ||
            elf_addr - shdr.sh_addr >= shdr.sh_size || !(shdr.sh_flags & SHF_ALLOC))
            continue;
        data = elf_getdata(scn, NULL);
        if (!data || !data->d_buf || data->d_size < sizeof(*word_ret) ||
            elf_addr - shdr.sh_addr > data->d_size - sizeof(*word_ret))
            return false;
        memcpy(word_ret, (char *)data->d_buf + (elf_addr - shdr.sh_addr), sizeof(*word_ret));
        return true;
    }
    return false;
}

/* Searches the relative relocations of a PIE. by_addend: look for the place that gets `value`, else
 * for what the place `value` gets. */
static bool find_relative(Elf *elf, uint64_t value, bool by_addend, uint64_t *found_ret)
{
    Elf_Scn *scn = NULL;

    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;
        GElf_Rela rela;
        Elf_Data *data;

        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type != SHT_RELA)
            continue;
        data = elf_getdata(scn, NULL);
        for (size_t i = 0; data && i < data->d_size / sizeof(Elf64_Rela) && i < INT32_MAX; i++) {
            if (!gelf_getrela(data, (int)i, &rela) || GELF_R_TYPE(rela.r_info) != R_X86_64_RELATIVE)
                continue;
            if ((by_addend ? (uint64_t)rela.r_addend : rela.r_offset) == value) {
                *found_ret = by_addend ? rela.r_offset : (uint64_t)rela.r_addend;
                return true;
            }
        }
    }
    return false;
}

static bool read_pointer(const struct module_data *data, uint64_t offset, uint64_t *pointer_ret)
{
    if (read_word(data->elf, data->elf_addr + offset, pointer_ret) && *pointer_ret != 0)
        return true;
    return find_relative(data->elf, data->elf_addr + offset, false, pointer_ret);
}

/* The right place also tells the number of entries of the function table. */
static bool is_module_data(const struct module_data *data, const struct gopclntab *table)
{
    uint64_t num;

    return read_word(data->elf, data->elf_addr + MODULEDATA_NUM_FTAB, &num) &&
           num == table->num_functions + 1;
}

static bool scan_section(struct module_data *found, Elf_Scn *scn, const GElf_Shdr *shdr,
                         uint64_t table_addr, const struct gopclntab *table)
{
    Elf_Data *data = elf_getdata(scn, NULL);

    for (size_t at = 0; data && data->d_buf && at + 8 <= data->d_size; at += 8) {
        uint64_t word;

        memcpy(&word, (char *)data->d_buf + at, sizeof(word));
        found->elf_addr = shdr->sh_addr + at;
        if (word == table_addr && is_module_data(found, table))
            return true;
    }
    return false;
}

static bool find_module_data(struct module_data *found, uint64_t table_addr,
                             const struct gopclntab *table)
{
    Elf_Scn *scn = NULL;

    if (find_relative(found->elf, table_addr, true, &found->elf_addr) &&
        is_module_data(found, table))
        return true;
    while ((scn = elf_nextscn(found->elf, scn))) {
        GElf_Shdr shdr;

        if (gelf_getshdr(scn, &shdr) && shdr.sh_type == SHT_PROGBITS &&
            (shdr.sh_flags & SHF_WRITE) && scan_section(found, scn, &shdr, table_addr, table))
            return true;
    }
    return false;
}

/* Points table->gofunc to the bytes from `elf_addr` to the end of its section. */
static void set_gofunc(struct gopclntab *table, Elf *elf, uint64_t elf_addr)
{
    Elf_Scn *scn = NULL;

    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;
        Elf_Data *data;

        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type != SHT_PROGBITS ||
            !(shdr.sh_flags & SHF_ALLOC) || elf_addr < shdr.sh_addr ||
            elf_addr - shdr.sh_addr >= shdr.sh_size)
            continue;
        data = elf_getdata(scn, NULL);
        if (!data || !data->d_buf || elf_addr - shdr.sh_addr >= data->d_size)
            return;
        table->gofunc = (uint8_t *)data->d_buf + (elf_addr - shdr.sh_addr);
        table->gofunc_bytes = data->d_size - (elf_addr - shdr.sh_addr);
        return;
    }
}

static void complete_table(struct gopclntab *table, Elf *elf, uint64_t table_addr)
{
    struct module_data data = {.elf = elf};
    uint64_t pointer;

    if (table->version == GOPCLNTAB_1_16 || !find_module_data(&data, table_addr, table))
        return;
    if (read_pointer(&data, MODULEDATA_TEXT, &pointer))
        table->text = pointer;
    if (read_pointer(&data,
                     table->version == GOPCLNTAB_1_18 ? MODULEDATA_GOFUNC_1_18
                                                      : MODULEDATA_GOFUNC_1_20,
                     &pointer))
        set_gofunc(table, elf, pointer);
}

static struct error *go_open(const struct symbolize_input *input, void **state_ret)
{
    static const char *const sections[] = {".gopclntab", ".data.rel.ro.gopclntab"};

    *state_ret = NULL;
    for (size_t i = 0; input->files && i < ARRAY_LENGTH(sections); i++) {
        Elf *elf = input->files->main;
        const uint8_t *bytes;
        size_t num_bytes;
        struct go_state *state;
        struct gopclntab table;
        GElf_Shdr shdr;

        if (!elf_file_section(elf, sections[i], &shdr) ||
            !elf_file_section_bytes(elf, sections[i], &bytes, &num_bytes) ||
            !gopclntab_parse(bytes, num_bytes, &table))
            continue;
        complete_table(&table, elf, shdr.sh_addr);
        if (!table.gofunc && input->files->dwarf)
            continue; /* DWARF knows the inlined calls, this table does not */
        state = malloc(sizeof(*state));
        if (!state)
            return &error_no_memory;
        *state = (struct go_state){.table = table, .arena = input->arena};
        *state_ret = state;
        return NULL;
    }
    return NULL;
}

static bool go_lookup(void *opened, uint64_t elf_addr, struct symbol_frames *frames_ret)
{
    const struct go_state *state = opened;

    return gopclntab_lookup(&state->table, elf_addr, state->arena, frames_ret);
}

const struct symbolize_ops symbolize_gopclntab = {
    .name = "gopclntab",
    .open = go_open,
    .lookup = go_lookup,
    .close = free,
};
