#include "sampler/bpf_loader.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/bpf.h"
#include "base/cleanup.h"
#include "sampler/bpf/image.h"

#define RAW_TRACEPOINT "raw_tracepoint/"
#define PERF_EVENT "perf_event"
#define UPROBE "uprobe/"
#define RELOCATION_IMM64 1 /* R_BPF_64_64: the address that an LD_IMM64 instruction loads */

/* An image with its tables found and checked: all offsets lie inside. */
struct elf {
    const struct bpf_image *image;
    const Elf64_Shdr *sections;
    size_t num_sections;
    const Elf64_Sym *symbols;
    size_t num_symbols;
    size_t section_names; /* indexes of string tables */
    size_t symbol_names;
};

static bool is_inside(const struct bpf_image *image, uint64_t offset, uint64_t num_bytes)
{
    return offset % 8 == 0 && offset <= image->num_bytes && num_bytes <= image->num_bytes - offset;
}

/* Tells the text at `offset` of a string table; "" when it is not inside. */
static const char *text_at(const struct elf *elf, size_t table, uint64_t offset)
{
    const Elf64_Shdr *section;
    const char *text;

    if (table >= elf->num_sections)
        return "";
    section = &elf->sections[table];
    if (section->sh_offset > elf->image->num_bytes ||
        section->sh_size > elf->image->num_bytes - section->sh_offset || offset >= section->sh_size)
        return "";
    text = (const char *)elf->image->bytes + section->sh_offset + offset;
    return memchr(text, 0, section->sh_size - offset) ? text : "";
}

/* Tells the contents of a section as an array of items. Returns: NULL when it is not all inside. */
static const void *section_items(const struct elf *elf, const Elf64_Shdr *section,
                                 size_t item_bytes, size_t *num_items_ret)
{
    if (section->sh_type == SHT_NOBITS || section->sh_size % item_bytes ||
        !is_inside(elf->image, section->sh_offset, section->sh_size))
        return NULL;
    *num_items_ret = section->sh_size / item_bytes;
    return elf->image->bytes + section->sh_offset;
}

/* Finds the tables. Returns: false when the image is no BPF object. */
static bool elf_open(const struct bpf_image *image, struct elf *elf_ret)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image->bytes;
    struct elf elf = {.image = image};

    if (!is_inside(image, 0, sizeof(*header)) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_machine != EM_BPF || header->e_shentsize != sizeof(*elf.sections) ||
        !is_inside(image, header->e_shoff, header->e_shnum * sizeof(*elf.sections)))
        return false;
    elf.sections = (const Elf64_Shdr *)(image->bytes + header->e_shoff);
    elf.num_sections = header->e_shnum;
    elf.section_names = header->e_shstrndx;
    for (size_t i = 0; i < elf.num_sections; i++) {
        if (elf.sections[i].sh_type != SHT_SYMTAB)
            continue;
        elf.symbols = section_items(&elf, &elf.sections[i], sizeof(*elf.symbols), &elf.num_symbols);
        elf.symbol_names = elf.sections[i].sh_link;
    }
    *elf_ret = elf;
    return elf.symbols != NULL;
}

static const Elf64_Shdr *find_section(const struct elf *elf, const char *name)
{
    for (size_t i = 0; i < elf->num_sections; i++) {
        if (!strcmp(text_at(elf, elf->section_names, elf->sections[i].sh_name), name))
            return &elf->sections[i];
    }
    return NULL;
}

/* Finds the declaration of a map. Returns: NULL when there is none. */
static const struct bpf_image_map *find_map(const struct elf *elf, const char *name)
{
    const Elf64_Shdr *section = find_section(elf, "maps");
    const struct bpf_image_map *maps;
    size_t num_maps;

    maps = section ? section_items(elf, section, sizeof(*maps), &num_maps) : NULL;
    for (size_t i = 0; maps && i < elf->num_symbols; i++) {
        const Elf64_Sym *symbol = &elf->symbols[i];

        if (symbol->st_shndx == section - elf->sections &&
            symbol->st_value / sizeof(*maps) < num_maps &&
            !strcmp(text_at(elf, elf->symbol_names, symbol->st_name), name))
            return &maps[symbol->st_value / sizeof(*maps)];
    }
    return NULL;
}

/* Before Linux 5.11, maps and programs count against RLIMIT_MEMLOCK, which is small for everybody:
 * where we may, we lift it. */
static int call_with_memory(enum bpf_cmd command, union bpf_attr *attr)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    int result = bpf_call(command, attr);

    if (result == -EPERM && setrlimit(RLIMIT_MEMLOCK, &limit) == 0)
        result = bpf_call(command, attr);
    return result;
}

int bpf_loader_create_map(const struct bpf_image *image, const char *name, uint32_t flags,
                          uint32_t max_entries)
{
    union bpf_attr attr = {.map_flags = flags};
    const struct bpf_image_map *map;
    struct elf elf;

    if (!elf_open(image, &elf))
        return -ENOEXEC;
    map = find_map(&elf, name);
    if (!map)
        return -ENOENT;
    attr.map_type = map->type;
    attr.key_size = map->key_bytes;
    attr.value_size = map->value_bytes;
    attr.max_entries = max_entries ? max_entries : map->max_entries;
    return call_with_memory(BPF_MAP_CREATE, &attr);
}

/* Writes what a relocation asks for into the two halves of an LD_IMM64 instruction. */
static int relocate(const struct elf *elf, const Elf64_Rel *relocation, struct bpf_insn *program,
                    size_t num_insns, const struct bpf_symbol *symbols, size_t num_symbols)
{
    size_t at = relocation->r_offset / sizeof(*program);
    size_t index = ELF64_R_SYM(relocation->r_info);
    const Elf64_Sym *symbol;
    const char *name;

    if (ELF64_R_TYPE(relocation->r_info) != RELOCATION_IMM64 || index >= elf->num_symbols ||
        at + 1 >= num_insns || program[at].code != (BPF_LD | BPF_IMM | BPF_DW))
        return -ENOEXEC;
    symbol = &elf->symbols[index];
    name = text_at(elf, elf->symbol_names, symbol->st_name);
    for (size_t i = 0; i < num_symbols; i++) {
        if (strcmp(symbols[i].name, name) != 0)
            continue;
        if (symbol->st_shndx != SHN_UNDEF) /* what is defined here is a map */
            program[at].src_reg = BPF_PSEUDO_MAP_FD;
        program[at].imm = (int32_t)symbols[i].value;
        program[at + 1].imm = (int32_t)(symbols[i].value >> 32);
        return 0;
    }
    return -ENOENT;
}

/* Applies all relocations of section `section` to a copy of it. Returns: 0 or negative errno. */
static int relocate_all(const struct elf *elf, const Elf64_Shdr *section, struct bpf_insn *program,
                        size_t num_insns, const struct bpf_symbol *symbols, size_t num_symbols)
{
    for (size_t i = 0; i < elf->num_sections; i++) {
        const Elf64_Rel *relocations;
        size_t num_relocations;

        if (elf->sections[i].sh_type != SHT_REL ||
            elf->sections[i].sh_info != (size_t)(section - elf->sections))
            continue;
        relocations = section_items(elf, &elf->sections[i], sizeof(*relocations), &num_relocations);
        if (!relocations)
            return -ENOEXEC;
        for (size_t j = 0; j < num_relocations; j++) {
            int err = relocate(elf, &relocations[j], program, num_insns, symbols, num_symbols);

            if (err)
                return err;
        }
    }
    return 0;
}

/* Tells the type of the program in a section by the section's name. */
static uint32_t program_type(const char *section_name)
{
    if (!strcmp(section_name, PERF_EVENT))
        return BPF_PROG_TYPE_PERF_EVENT;
    if (!strncmp(section_name, UPROBE, strlen(UPROBE)))
        return BPF_PROG_TYPE_KPROBE; /* which is what a uprobe's is, too */
    return BPF_PROG_TYPE_RAW_TRACEPOINT;
}

int bpf_loader_load(const struct bpf_image *image, const char *section_name, uint32_t attach_type,
                    const struct bpf_symbol *symbols, size_t num_symbols)
{
    union bpf_attr attr = {.prog_type = program_type(section_name)};
    CLEANUP(free) struct bpf_insn *program = NULL;
    const Elf64_Shdr *section, *license;
    const void *insns;
    size_t num_insns;
    struct elf elf;
    int err;

    if (!elf_open(image, &elf))
        return -ENOEXEC;
    section = find_section(&elf, section_name);
    license = find_section(&elf, "license");
    insns = section ? section_items(&elf, section, sizeof(*program), &num_insns) : NULL;
    if (!insns || !license)
        return -ENOENT;
    program = malloc(num_insns * sizeof(*program) + 1);
    if (!program)
        return -ENOMEM;
    memcpy(program, insns, num_insns * sizeof(*program));
    err = relocate_all(&elf, section, program, num_insns, symbols, num_symbols);
    if (err)
        return err;
    attr.expected_attach_type = attach_type;
    attr.insns = (uintptr_t)program;
    attr.insn_cnt = (uint32_t)num_insns;
    attr.license = (uintptr_t)text_at(&elf, (size_t)(license - elf.sections), 0);
    return call_with_memory(BPF_PROG_LOAD, &attr);
}

struct error *bpf_loader_refusal(int err, const char *what, const char *remedy)
{
    if (err == EPERM || err == EACCES)
        return error_from_errno(err,
                                "run with sudo, or once: sudo setcap "
                                "cap_perfmon,cap_bpf,cap_sys_ptrace+ep $(command -v cprofiler)",
                                "%s", what);
    if (err == ENOMEM)
        return &error_no_memory;
    return error_create(ERROR_UNSUPPORTED, remedy, "%s: %s", what, strerror(err));
}

int bpf_loader_attach(const char *section, int program_fd)
{
    union bpf_attr attr = {.raw_tracepoint.prog_fd = (uint32_t)program_fd};

    if (strncmp(section, RAW_TRACEPOINT, strlen(RAW_TRACEPOINT)) != 0)
        return -EINVAL;
    attr.raw_tracepoint.name = (uintptr_t)(section + strlen(RAW_TRACEPOINT));
    return bpf_call(BPF_RAW_TRACEPOINT_OPEN, &attr);
}
