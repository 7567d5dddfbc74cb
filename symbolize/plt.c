/* Names of PLT stubs: "memcpy@plt". A stub is a jump through a slot of the GOT; the relocation that
 * fills the slot names the function. Read from the code, not from the order of entries, so that
 * lazy, IBT (.plt.sec) and -z now (.plt.got) layouts of all linkers are the same. Source: System V
 * ABI AMD64 section 5.2; gabi "Relocation". */
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "symbolize/debug_files.h"
#include "symbolize/elf_file.h"
#include "symbolize/interval_map.h"
#include "symbolize/symbolize.h"

#define PLT_MAX_STUBS ((size_t)1 << 20)
#define PLT_STUB_BYTES 16
#define PLT_GOT_STUB_BYTES 8
#define PLT_MAX_NAME_BYTES 4096

/* A GOT slot and the symbol that its relocation names. */
struct slot {
    uint64_t elf_addr;
    uint32_t symbol;
};

struct plt {
    Elf *elf;
    Elf_Data *symbols; /* .dynsym */
    size_t names_section;
    struct arena *arena;
    struct slot *ifuncs; /* STT_GNU_IFUNC symbols by address of their resolver, sorted */
    size_t num_ifuncs, ifuncs_capacity;
    struct slot *slots; /* sorted by elf_addr */
    size_t num_slots, slots_capacity;
    struct slot *lazy; /* of .rela.plt, in its order: what "push n" means */
    size_t num_lazy, lazy_capacity;
    struct interval *stubs;
    size_t num_stubs, stubs_capacity;
    struct interval_map ranges;
};

static void plt_close(void *state)
{
    struct plt *plt = state;

    interval_map_deinit(&plt->ranges);
    free(plt->ifuncs);
    free(plt->slots);
    free(plt->lazy);
    free(plt->stubs);
    free(plt);
}

DEFINE_CLEANUP(plt_close, struct plt *)

static int slot_compare(const void *left, const void *right)
{
    const struct slot *a = left;
    const struct slot *b = right;

    return a->elf_addr < b->elf_addr ? -1 : a->elf_addr > b->elf_addr;
}

static struct error *add_slot(struct slot **slots, size_t *num, size_t *capacity, uint64_t elf_addr,
                              uint32_t symbol)
{
    RETURN_IF_ERROR(array_reserve(slots, capacity, *num + 1, sizeof(**slots)));
    (*slots)[(*num)++] = (struct slot){.elf_addr = elf_addr, .symbol = symbol};
    return NULL;
}

static struct error *read_ifuncs(struct plt *plt)
{
    size_t num = plt->symbols->d_size / sizeof(Elf64_Sym);

    for (size_t i = 1; i < num && i <= INT32_MAX; i++) {
        GElf_Sym sym;

        if (gelf_getsym(plt->symbols, (int)i, &sym) && GELF_ST_TYPE(sym.st_info) == STT_GNU_IFUNC &&
            sym.st_shndx != SHN_UNDEF)
            RETURN_IF_ERROR(add_slot(&plt->ifuncs, &plt->num_ifuncs, &plt->ifuncs_capacity,
                                     sym.st_value, (uint32_t)i));
    }
    if (plt->num_ifuncs > 0)
        qsort(plt->ifuncs, plt->num_ifuncs, sizeof(*plt->ifuncs), slot_compare);
    return NULL;
}

/* The symbol that fills a slot; 0 when it has no name. A library's call of its own IFUNC (memcpy in
 * libc) has a relocation that tells only the resolver's address. */
static uint32_t rela_symbol(const struct plt *plt, const GElf_Rela *rela)
{
    struct slot key = {.elf_addr = (uint64_t)rela->r_addend};
    const struct slot *ifunc;

    switch (GELF_R_TYPE(rela->r_info)) {
    case R_X86_64_JUMP_SLOT:
    case R_X86_64_GLOB_DAT:
        return (uint32_t)GELF_R_SYM(rela->r_info);
    case R_X86_64_IRELATIVE:
        if (plt->num_ifuncs == 0)
            return 0;
        ifunc = bsearch(&key, plt->ifuncs, plt->num_ifuncs, sizeof(key), slot_compare);
        return ifunc ? ifunc->symbol : 0;
    default:
        return 0;
    }
}

static struct error *read_relocations(struct plt *plt, Elf_Data *data, bool is_plt)
{
    size_t num = data->d_size / sizeof(Elf64_Rela);

    for (size_t i = 0; i < num && i < PLT_MAX_STUBS; i++) {
        GElf_Rela rela;
        uint32_t symbol;

        if (!gelf_getrela(data, (int)i, &rela))
            break;
        symbol = rela_symbol(plt, &rela);
        if (is_plt)
            RETURN_IF_ERROR(
                add_slot(&plt->lazy, &plt->num_lazy, &plt->lazy_capacity, rela.r_offset, symbol));
        if (symbol != 0)
            RETURN_IF_ERROR(add_slot(&plt->slots, &plt->num_slots, &plt->slots_capacity,
                                     rela.r_offset, symbol));
    }
    return NULL;
}

static struct error *read_all_relocations(struct plt *plt)
{
    Elf_Scn *scn = NULL;

    while ((scn = elf_nextscn(plt->elf, scn))) {
        GElf_Shdr shdr;
        Elf_Data *data;

        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type != SHT_RELA || !(shdr.sh_flags & SHF_ALLOC))
            continue;
        data = elf_getdata(scn, NULL);
        if (data && data->d_buf && data->d_type == ELF_T_RELA)
            RETURN_IF_ERROR(
                read_relocations(plt, data, elf_file_section(plt->elf, ".rela.plt", NULL) == scn));
    }
    if (plt->num_slots > 0)
        qsort(plt->slots, plt->num_slots, sizeof(*plt->slots), slot_compare);
    return NULL;
}

/* Decodes a stub: [endbr64] [bnd] jmp *disp(%rip), or the lazy half of it: push n; jmp PLT0.
 * Returns: the number of its symbol, 0 when it is something else. */
static uint32_t stub_symbol(const struct plt *plt, const uint8_t *code, size_t num_bytes,
                            uint64_t elf_addr)
{
    static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
    size_t at = 0;
    int32_t disp;
    struct slot key;
    const struct slot *slot;

    if (num_bytes >= 4 && !memcmp(code, endbr64, sizeof(endbr64)))
        at = 4;
    if (at < num_bytes && code[at] == 0xf2)
        at++;
    if (at + 6 > num_bytes)
        return 0;
    memcpy(&disp, code + at + (code[at] == 0x68 ? 1 : 2), sizeof(disp));
    if (code[at] == 0x68)
        return disp >= 0 && (size_t)disp < plt->num_lazy ? plt->lazy[disp].symbol : 0;
    if (code[at] != 0xff || code[at + 1] != 0x25 || plt->num_slots == 0)
        return 0;
    key.elf_addr = elf_addr + at + 6 + (uint64_t)(int64_t)disp;
    slot = bsearch(&key, plt->slots, plt->num_slots, sizeof(key), slot_compare);
    return slot ? slot->symbol : 0;
}

static struct error *read_stubs(struct plt *plt, const char *section)
{
    const uint8_t *bytes;
    size_t num_bytes;
    GElf_Shdr shdr;
    size_t step = !strcmp(section, ".plt.got") ? PLT_GOT_STUB_BYTES : PLT_STUB_BYTES;

    if (!elf_file_section(plt->elf, section, &shdr) || !(shdr.sh_flags & SHF_EXECINSTR) ||
        !elf_file_section_bytes(plt->elf, section, &bytes, &num_bytes))
        return NULL;
    if (shdr.sh_entsize == PLT_STUB_BYTES || shdr.sh_entsize == PLT_GOT_STUB_BYTES)
        step = shdr.sh_entsize;
    for (size_t at = 0; at + step <= num_bytes && plt->num_stubs < PLT_MAX_STUBS; at += step) {
        uint32_t symbol = stub_symbol(plt, bytes + at, step, shdr.sh_addr + at);

        if (symbol == 0)
            continue;
        RETURN_IF_ERROR(array_reserve(&plt->stubs, &plt->stubs_capacity, plt->num_stubs + 1,
                                      sizeof(*plt->stubs)));
        plt->stubs[plt->num_stubs++] = (struct interval){
            .start = shdr.sh_addr + at, .limit = shdr.sh_addr + at + step, .item = symbol};
    }
    return NULL;
}

static struct error *plt_open(const struct symbolize_input *input, void **state_ret)
{
    static const char *const sections[] = {".plt", ".plt.sec", ".plt.got"};
    CLEANUP(plt_close) struct plt *plt = NULL;
    GElf_Shdr shdr;
    Elf_Scn *scn;

    *state_ret = NULL;
    scn = input->files ? elf_file_section_of_type(input->files->main, SHT_DYNSYM, &shdr) : NULL;
    if (!scn)
        return NULL;
    plt = calloc(1, sizeof(*plt));
    if (!plt)
        return &error_no_memory;
    plt->elf = input->files->main;
    plt->arena = input->arena;
    plt->symbols = elf_getdata(scn, NULL);
    plt->names_section = shdr.sh_link;
    if (!plt->symbols || plt->symbols->d_type != ELF_T_SYM)
        return NULL;
    RETURN_IF_ERROR(read_ifuncs(plt));
    RETURN_IF_ERROR(read_all_relocations(plt));
    for (size_t i = 0; i < ARRAY_LENGTH(sections); i++)
        RETURN_IF_ERROR(read_stubs(plt, sections[i]));
    RETURN_IF_ERROR(interval_map_build(plt->stubs, plt->num_stubs, &plt->ranges));
    *state_ret = take_ptr(plt);
    return NULL;
}

static bool plt_lookup(void *state, uint64_t elf_addr, struct symbol_frames *frames_ret)
{
    const struct plt *plt = state;
    const struct interval_segment *segment = interval_map_find(&plt->ranges, elf_addr);
    const char *name;
    size_t num_bytes;
    char *text;
    GElf_Sym sym;

    if (!segment || segment->item > INT32_MAX ||
        !gelf_getsym(plt->symbols, (int)segment->item, &sym))
        return false;
    name = elf_strptr(plt->elf, plt->names_section, sym.st_name);
    num_bytes = name ? strnlen(name, PLT_MAX_NAME_BYTES) : 0;
    text = num_bytes > 0 ? arena_alloc(plt->arena, num_bytes + sizeof("@plt")) : NULL;
    if (!text)
        return false;
    memcpy(text, name, num_bytes);
    memcpy(text + num_bytes, "@plt", sizeof("@plt"));
    frames_ret->num_symbols = 1;
    frames_ret->symbols[0] =
        (struct symbol){.name = text, .system_name = text, .filename = "", .is_final = true};
    return true;
}

const struct symbolize_ops symbolize_plt = {
    .name = "PLT",
    .open = plt_open,
    .lookup = plt_lookup,
    .close = plt_close,
};
