#include "symbolize/elf_symtab.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "symbolize/elf_file.h"
#include "symbolize/interval_map.h"
#include "symbolize/symbolize.h"

#define SYMBOL_NAME_MAX_BYTES 8192

/* String tables in use: of the .symtab and of .dynsym. */
struct name_table {
    const char *bytes;
    size_t num_bytes; /* up to and with the last NUL: every name below it ends */
};

struct elf_symbol {
    uint64_t start;
    uint64_t limit; /* == start while the size is not known */
    uint32_t name;  /* offset in its name table */
    uint8_t table;  /* which name table */
    uint8_t rank;   /* larger = the better name at an address */
    uint16_t section;
    uint32_t index; /* in the ELF table */
};

struct elf_symtab {
    struct name_table tables[2];
    struct elf_symbol *symbols; /* sorted by start, then the best last */
    size_t num_symbols, capacity;
    struct interval_map ranges;
};

/* Executable sections of the file whose symbols are read. */
struct code_sections {
    GElf_Shdr *headers; /* by section number; sh_size 0 for those without code */
    size_t num;
};

static struct error *code_sections_read(Elf *elf, struct code_sections *sections_ret)
{
    size_t num = 0;
    size_t capacity = 0;
    Elf_Scn *scn = NULL;

    if (elf_getshdrnum(elf, &num) < 0 || num == 0)
        return NULL;
    if (num > SHN_LORESERVE)
        num = SHN_LORESERVE;
    RETURN_IF_ERROR(
        array_reserve(&sections_ret->headers, &capacity, num, sizeof(*sections_ret->headers)));
    memset(sections_ret->headers, 0, num * sizeof(*sections_ret->headers));
    sections_ret->num = num;
    while ((scn = elf_nextscn(elf, scn))) {
        size_t at = elf_ndxscn(scn);
        GElf_Shdr shdr;

        if (at < num && gelf_getshdr(scn, &shdr) && (shdr.sh_flags & SHF_EXECINSTR) &&
            (shdr.sh_flags & SHF_ALLOC) && shdr.sh_addr + shdr.sh_size >= shdr.sh_addr)
            sections_ret->headers[at] = shdr;
    }
    return NULL;
}

static uint8_t symbol_rank(const GElf_Sym *sym, const char *name)
{
    unsigned bind = GELF_ST_BIND(sym->st_info);
    unsigned rank = bind == STB_LOCAL ? 0 : bind == STB_WEAK ? 1 : 2;
    size_t underscores = strspn(name, "_");

    rank = rank * 2 + (GELF_ST_TYPE(sym->st_info) != STT_NOTYPE);
    return (uint8_t)(rank * 16 + 15 - (underscores < 15 ? underscores : 15));
}

/* Labels that assemblers and linkers leave behind name no function. */
static bool is_label(const char *name)
{
    return name[0] == '\0' || name[0] == '$' || (name[0] == '.' && name[1] == 'L');
}

static bool section_holds(const GElf_Shdr *shdr, uint64_t elf_addr)
{
    return elf_addr >= shdr->sh_addr && elf_addr - shdr->sh_addr < shdr->sh_size;
}

/* Finds the section with code that a symbol lies in. Its own number of it may be stale: objcopy
 * removes a note and leaves .dynsym as it is, which nobody minds who loads the file.
 * Returns: its number; SHN_UNDEF when there is none. */
static size_t symbol_section(const GElf_Sym *sym, const struct code_sections *sections)
{
    if (sym->st_shndx == SHN_UNDEF ||
        (sym->st_shndx >= SHN_LORESERVE && sym->st_shndx != SHN_XINDEX))
        return SHN_UNDEF;
    if (sym->st_shndx < sections->num &&
        section_holds(&sections->headers[sym->st_shndx], sym->st_value))
        return sym->st_shndx;
    for (size_t i = 1; i < sections->num; i++)
        if (section_holds(&sections->headers[i], sym->st_value))
            return i;
    return SHN_UNDEF;
}

static bool symbol_fits(const GElf_Sym *sym, const struct name_table *names, bool take_sizeless)
{
    unsigned type = GELF_ST_TYPE(sym->st_info);

    if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE)
        return false;
    if (sym->st_name >= names->num_bytes || is_label(names->bytes + sym->st_name))
        return false;
    return sym->st_size > 0 || take_sizeless;
}

static struct error *read_symbols(struct elf_symtab *symtab, Elf_Data *data, uint8_t table,
                                  const struct code_sections *sections, bool take_sizeless)
{
    const struct name_table *names = &symtab->tables[table];
    size_t num = data->d_size / sizeof(Elf64_Sym);

    for (size_t i = 1; i < num && i <= INT32_MAX; i++) {
        struct elf_symbol *symbol;
        const GElf_Shdr *shdr;
        size_t section;
        uint64_t room;
        GElf_Sym sym;

        if (!gelf_getsym(data, (int)i, &sym) || !symbol_fits(&sym, names, take_sizeless))
            continue;
        section = symbol_section(&sym, sections);
        if (section == SHN_UNDEF)
            continue;
        RETURN_IF_ERROR(array_reserve(&symtab->symbols, &symtab->capacity, symtab->num_symbols + 1,
                                      sizeof(*symtab->symbols)));
        symbol = &symtab->symbols[symtab->num_symbols++];
        shdr = &sections->headers[section];
        /* symbol_section() has seen headers. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
        room = shdr->sh_addr + shdr->sh_size - sym.st_value;
        *symbol = (struct elf_symbol){
            .start = sym.st_value,
            .limit = sym.st_value + (sym.st_size < room ? sym.st_size : room),
            .name = sym.st_name,
            .table = table,
            .rank = symbol_rank(&sym, names->bytes + sym.st_name),
            .section = (uint16_t)section,
            .index = (uint32_t)i,
        };
    }
    return NULL;
}

/* Reads one symbol table of `elf` (SHT_SYMTAB or SHT_DYNSYM), when there is one.
 * take_sizeless: whether symbols of size 0 count. */
static struct error *add_table(struct elf_symtab *symtab, Elf *elf, uint32_t type, uint8_t table,
                               bool take_sizeless)
{
    CLEANUP(free) GElf_Shdr *headers = NULL;
    struct code_sections sections = {0};
    struct error *err;
    GElf_Shdr shdr;
    Elf_Scn *scn = elf ? elf_file_section_of_type(elf, type, &shdr) : NULL;
    Elf_Scn *names_scn = scn ? elf_getscn(elf, shdr.sh_link) : NULL;
    Elf_Data *data = scn ? elf_getdata(scn, NULL) : NULL;
    Elf_Data *names = names_scn ? elf_getdata(names_scn, NULL) : NULL;
    const char *end;

    if (!data || !data->d_buf || data->d_type != ELF_T_SYM || !names || !names->d_buf)
        return NULL;
    end = memrchr(names->d_buf, '\0', names->d_size);
    if (!end)
        return NULL;
    symtab->tables[table] = (struct name_table){
        .bytes = names->d_buf, .num_bytes = (size_t)(end - (const char *)names->d_buf) + 1};
    err = code_sections_read(elf, &sections);
    headers = sections.headers;
    if (err)
        return err;
    return read_symbols(symtab, data, table, &sections, take_sizeless);
}

static int symbol_compare(const void *left, const void *right)
{
    const struct elf_symbol *a = left;
    const struct elf_symbol *b = right;

    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->index != b->index)
        return a->index > b->index ? -1 : 1;
    return 0;
}

/* The search table of .eh_frame_hdr: where functions with CFI begin. */
struct cfi_starts {
    const uint8_t *rows; /* pairs of 32-bit offsets from `base`: of the code, of its FDE */
    size_t num;
    uint64_t base;
};

/* Source: Linux Standard Base, "The .eh_frame_hdr section"; the one encoding that linkers write. */
static void cfi_starts_read(Elf *elf, struct cfi_starts *starts_ret)
{
    static const uint8_t encodings[] = {1, 0x1b, 0x03, 0x3b};
    const uint8_t *bytes;
    size_t num_bytes;
    uint32_t num;
    GElf_Shdr shdr;

    if (!elf_file_section(elf, ".eh_frame_hdr", &shdr) ||
        !elf_file_section_bytes(elf, ".eh_frame_hdr", &bytes, &num_bytes) || num_bytes < 12 ||
        memcmp(bytes, encodings, sizeof(encodings)) != 0)
        return;
    memcpy(&num, bytes + 8, sizeof(num));
    *starts_ret = (struct cfi_starts){
        .rows = bytes + 12,
        .num = num < (num_bytes - 12) / 8 ? num : (num_bytes - 12) / 8,
        .base = shdr.sh_addr,
    };
}

static uint64_t cfi_start(const struct cfi_starts *starts, size_t row)
{
    int32_t offset;

    memcpy(&offset, starts->rows + 8 * row, sizeof(offset));
    return starts->base + (uint64_t)(int64_t)offset;
}

/* Tells where the first function behind `elf_addr` begins; UINT64_MAX when none does. */
static uint64_t cfi_next_start(const struct cfi_starts *starts, uint64_t elf_addr)
{
    size_t next = array_search(starts->num, at, cfi_start(starts, at) <= elf_addr);

    return next < starts->num ? cfi_start(starts, next) : UINT64_MAX;
}

/* Symbols without a size reach to the next start of any symbol, of a function that was stripped of
 * its symbol but has CFI, or the end of their section. */
static void extend_sizeless(struct elf_symtab *symtab, const struct code_sections *sections,
                            const struct cfi_starts *starts)
{
    uint64_t next_start = UINT64_MAX;

    for (size_t i = symtab->num_symbols; i-- > 0;) {
        struct elf_symbol *symbol = &symtab->symbols[i];

        if (i + 1 < symtab->num_symbols && symbol[1].start != symbol->start)
            next_start = symbol[1].start;
        if (symbol->limit == symbol->start && symbol->section < sections->num) {
            const GElf_Shdr *shdr = &sections->headers[symbol->section];
            uint64_t limit = shdr->sh_addr + shdr->sh_size;
            uint64_t cfi_limit = cfi_next_start(starts, symbol->start);

            limit = cfi_limit < limit ? cfi_limit : limit;
            symbol->limit = next_start < limit ? next_start : limit;
        }
    }
}

/* Priorities make the symbol with the last start win, and what has a size over what was extended.
 */
static struct error *build_ranges(struct elf_symtab *symtab, const struct debug_files *files)
{
    CLEANUP(free) struct interval *intervals = NULL;
    CLEANUP(free) GElf_Shdr *headers = NULL;
    CLEANUP(free) uint8_t *has_size = NULL;
    struct code_sections sections = {0};
    struct cfi_starts starts = {0};
    struct error *err = code_sections_read(files->debug ? files->debug : files->main, &sections);

    headers = sections.headers;
    if (err)
        return err;
    cfi_starts_read(files->main, &starts);
    qsort(symtab->symbols, symtab->num_symbols, sizeof(*symtab->symbols), symbol_compare);
    intervals = calloc(symtab->num_symbols, sizeof(*intervals));
    has_size = calloc(symtab->num_symbols, sizeof(*has_size));
    if (!intervals || !has_size)
        return &error_no_memory;
    for (size_t i = 0; i < symtab->num_symbols; i++)
        has_size[i] = symtab->symbols[i].limit > symtab->symbols[i].start;
    extend_sizeless(symtab, &sections, &starts);
    for (size_t i = 0; i < symtab->num_symbols; i++) {
        intervals[i] = (struct interval){.start = symtab->symbols[i].start,
                                         .limit = symtab->symbols[i].limit,
                                         .priority = (uint64_t)has_size[i] << 63 | i,
                                         .item = (uint32_t)i};
    }
    return interval_map_build(intervals, symtab->num_symbols, &symtab->ranges);
}

struct error *elf_symtab_create(const struct debug_files *files, struct elf_symtab **symtab_ret)
{
    CLEANUP(elf_symtab_destroy) struct elf_symtab *symtab = calloc(1, sizeof(*symtab));

    if (!symtab)
        return &error_no_memory;
    RETURN_IF_ERROR(add_table(symtab, files->debug, SHT_SYMTAB, 0, true));
    if (symtab->num_symbols == 0)
        RETURN_IF_ERROR(add_table(symtab, files->main, SHT_SYMTAB, 0, true));
    if (symtab->num_symbols == 0) {
        RETURN_IF_ERROR(add_table(symtab, files->mini, SHT_SYMTAB, 0, false));
        RETURN_IF_ERROR(add_table(symtab, files->main, SHT_DYNSYM, 1, false));
    }
    if (symtab->num_symbols == 0) {
        *symtab_ret = NULL;
        return NULL;
    }
    if (symtab->num_symbols > UINT32_MAX)
        return &error_no_memory;
    RETURN_IF_ERROR(build_ranges(symtab, files));
    *symtab_ret = take_ptr(symtab);
    return NULL;
}

void elf_symtab_destroy(struct elf_symtab *symtab)
{
    if (!symtab)
        return;
    interval_map_deinit(&symtab->ranges);
    free(symtab->symbols);
    free(symtab);
}

static const char *symbol_name(const struct elf_symtab *symtab, const struct elf_symbol *symbol)
{
    return symtab->tables[symbol->table].bytes + symbol->name;
}

/* Tells whether `name` is `hint`, perhaps with a clone suffix or a version behind it. */
static bool name_fits(const char *name, const char *hint, size_t hint_bytes)
{
    return !strncmp(name, hint, hint_bytes) &&
           (name[hint_bytes] == '\0' || name[hint_bytes] == '.' || name[hint_bytes] == '@');
}

const char *elf_symtab_find(const struct elf_symtab *symtab, uint64_t elf_addr, const char *hint,
                            struct arena *arena)
{
    const struct interval_segment *segment = interval_map_find(&symtab->ranges, elf_addr);
    size_t hint_bytes = hint ? strlen(hint) : 0;
    const struct elf_symbol *best;
    const char *name;

    if (!segment)
        return NULL;
    best = &symtab->symbols[segment->item];
    if (hint_bytes > 0) {
        for (const struct elf_symbol *other = best;
             other >= symtab->symbols && other->start == best->start && best - other < 256;
             other--) {
            if (other->limit > elf_addr &&
                name_fits(symbol_name(symtab, other), hint, hint_bytes)) {
                best = other;
                break;
            }
        }
    }
    name = symbol_name(symtab, best);
    return arena_copy(arena, name, strnlen(name, SYMBOL_NAME_MAX_BYTES));
}

size_t elf_symtab_count(const struct elf_symtab *symtab)
{
    return symtab->num_symbols;
}

/* The source: the table and where its names go. */
struct symtab_state {
    struct elf_symtab *symtab;
    struct arena *arena;
};

static struct error *symtab_open(const struct symbolize_input *input, void **state_ret)
{
    CLEANUP(elf_symtab_destroy) struct elf_symtab *symtab = NULL;
    struct symtab_state *state;

    *state_ret = NULL;
    if (!input->files)
        return NULL;
    RETURN_IF_ERROR(elf_symtab_create(input->files, &symtab));
    if (!symtab)
        return NULL;
    state = malloc(sizeof(*state));
    if (!state)
        return &error_no_memory;
    *state = (struct symtab_state){.symtab = take_ptr(symtab), .arena = input->arena};
    *state_ret = state;
    return NULL;
}

static bool symtab_lookup(void *state, uint64_t elf_addr, struct symbol_frames *frames_ret)
{
    const struct symtab_state *symtab = state;
    const char *name = elf_symtab_find(symtab->symtab, elf_addr, frames_ret->hint, symtab->arena);

    if (!name)
        return false;
    frames_ret->num_symbols = 1;
    frames_ret->symbols[0] = (struct symbol){.name = name, .system_name = name, .filename = ""};
    return true;
}

static void symtab_close(void *state)
{
    struct symtab_state *symtab = state;

    elf_symtab_destroy(symtab->symtab);
    free(symtab);
}

const struct symbolize_ops symbolize_elf_symtab = {
    .name = "ELF symbols",
    .open = symtab_open,
    .lookup = symtab_lookup,
    .close = symtab_close,
};
