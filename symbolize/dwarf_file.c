#include "symbolize/dwarf_file.h"

#include <gelf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "symbolize/inflate.h"

#define STEPS_PER_LOOK 65536 /* well below a millisecond */
#define MIN_STEPS ((uint64_t)16 << 20)
#define STEPS_PER_BYTE 8
#define ZDEBUG_HEADER_BYTES 12
#define PAGE_BYTES ((uintptr_t)4096)

static const char *const section_names[DWARF_NUM_SECTIONS] = {
    [DWARF_SECTION_INFO] = "info",
    [DWARF_SECTION_ABBREV] = "abbrev",
    [DWARF_SECTION_STR] = "str",
    [DWARF_SECTION_LINE_STR] = "line_str",
    [DWARF_SECTION_STR_OFFSETS] = "str_offsets",
    [DWARF_SECTION_ADDR] = "addr",
    [DWARF_SECTION_RANGES] = "ranges",
    [DWARF_SECTION_RNGLISTS] = "rnglists",
    [DWARF_SECTION_LINE] = "line",
    [DWARF_SECTION_ARANGES] = "aranges",
    [DWARF_SECTION_CU_INDEX] = "cu_index",
};

void dwarf_budget_init(struct dwarf_budget *budget, uint64_t num_bytes, uint64_t deadline_ns)
{
    *budget = (struct dwarf_budget){
        .deadline_ns = deadline_ns,
        .bytes_left = num_bytes,
        .steps_left = MIN_STEPS,
        .next_look = MIN_STEPS,
    };
}

bool dwarf_budget_look(struct dwarf_budget *budget)
{
    budget->next_look =
        budget->steps_left > STEPS_PER_LOOK ? budget->steps_left - STEPS_PER_LOOK : 0;
    if (budget->deadline_ns && clock_monotonic_ns() >= budget->deadline_ns) {
        budget->steps_left = 0;
        budget->is_spent = true;
    }
    return !budget->is_spent;
}

/* Honest files need a few steps for a byte; those that make us read the same again and again run
 * out. */
static void budget_grow(struct dwarf_budget *budget, uint64_t num_bytes)
{
    uint64_t steps = num_bytes * STEPS_PER_BYTE;

    budget->steps_left += steps;
    budget->next_look += steps;
}

/* GNU's older scheme: "ZLIB" and the size as 8 bytes, big endian. Returns: false without header. */
static bool use_zdebug(struct dwarf_section *section)
{
    const uint8_t *bytes = section->packed;
    uint64_t size = 0;

    if (section->packed_bytes <= ZDEBUG_HEADER_BYTES || memcmp(bytes, "ZLIB", 4) != 0)
        return false;
    for (int i = 4; i < ZDEBUG_HEADER_BYTES; i++)
        size = size << 8 | bytes[i];
    section->total_bytes = size;
    section->packed += ZDEBUG_HEADER_BYTES;
    section->packed_bytes -= ZDEBUG_HEADER_BYTES;
    section->packed_type = ELFCOMPRESS_ZLIB;
    return true;
}

static bool use_compressed(struct dwarf_section *section, Elf_Scn *scn)
{
    GElf_Chdr chdr;

    if (!gelf_getchdr(scn, &chdr) || section->packed_bytes <= sizeof(Elf64_Chdr))
        return false;
    section->total_bytes = chdr.ch_size;
    section->packed += sizeof(Elf64_Chdr);
    section->packed_bytes -= sizeof(Elf64_Chdr);
    section->packed_type = chdr.ch_type;
    return true;
}

void dwarf_file_set(struct dwarf_file *file, enum dwarf_section_kind kind, const uint8_t *bytes,
                    size_t num_bytes)
{
    file->sections[kind] =
        (struct dwarf_section){.bytes = bytes, .num_bytes = num_bytes, .total_bytes = num_bytes};
    budget_grow(file->budget, num_bytes);
}

static void use_section(struct dwarf_file *file, enum dwarf_section_kind kind, Elf_Scn *scn,
                        const GElf_Shdr *shdr, bool is_zdebug)
{
    struct dwarf_section section = {0};
    Elf_Data *data = elf_rawdata(scn, NULL);

    if (!data || !data->d_buf || data->d_size == 0 || file->sections[kind].total_bytes > 0)
        return;
    section.packed = data->d_buf;
    section.packed_bytes = data->d_size;
    if (is_zdebug || (shdr->sh_flags & SHF_COMPRESSED)) {
        if (!(is_zdebug ? use_zdebug(&section) : use_compressed(&section, scn)) ||
            !inflate_is_plausible(section.packed_bytes, section.total_bytes))
            return;
    } else {
        dwarf_file_set(file, kind, data->d_buf, data->d_size);
        return;
    }
    budget_grow(file->budget, section.total_bytes);
    file->sections[kind] = section;
}

/* Tells which section a name means. Returns: DWARF_NUM_SECTIONS for none of ours. */
static enum dwarf_section_kind kind_of_name(const char *name, bool is_split)
{
    size_t num_bytes = strlen(name);

    if (num_bytes > 4 && !strcmp(name + num_bytes - 4, ".dwo")) {
        if (!is_split)
            return DWARF_NUM_SECTIONS;
        num_bytes -= 4;
    } else if (is_split && strcmp(name, section_names[DWARF_SECTION_CU_INDEX]) != 0) {
        return DWARF_NUM_SECTIONS;
    }
    for (size_t i = 0; i < DWARF_NUM_SECTIONS; i++) {
        if (strlen(section_names[i]) == num_bytes && !memcmp(name, section_names[i], num_bytes))
            return i;
    }
    return DWARF_NUM_SECTIONS;
}

/* Tells which section this is. Returns: DWARF_NUM_SECTIONS for none of ours. */
static enum dwarf_section_kind kind_of_section(Elf *elf, const GElf_Shdr *shdr, size_t names,
                                               bool is_split, bool *is_zdebug_ret)
{
    const char *name = shdr->sh_type == SHT_NOBITS ? NULL : elf_strptr(elf, names, shdr->sh_name);

    *is_zdebug_ret = name && !strncmp(name, ".zdebug_", 8);
    if (!name || (!*is_zdebug_ret && strncmp(name, ".debug_", 7) != 0))
        return DWARF_NUM_SECTIONS;
    return kind_of_name(name + (*is_zdebug_ret ? 8 : 7), is_split);
}

void dwarf_file_init(struct dwarf_file *file, Elf *elf, bool is_split, struct dwarf_budget *budget)
{
    size_t names;
    Elf_Scn *scn = NULL;

    file->budget = budget;
    if (elf_getshdrstrndx(elf, &names) < 0)
        return;
    while ((scn = elf_nextscn(elf, scn))) {
        enum dwarf_section_kind kind;
        GElf_Shdr shdr;
        bool is_zdebug;

        if (!gelf_getshdr(scn, &shdr))
            continue;
        kind = kind_of_section(elf, &shdr, names, is_split, &is_zdebug);
        if (kind == DWARF_NUM_SECTIONS)
            continue;
        if (kind == DWARF_SECTION_INFO && file->info_number == 0)
            file->info_number = elf_ndxscn(scn);
        use_section(file, kind, scn, &shdr, is_zdebug);
    }
}

bool dwarf_file_next_info(struct dwarf_file *file, Elf *elf)
{
    struct dwarf_section *section = &file->sections[DWARF_SECTION_INFO];
    Elf_Scn *scn = file->info_number > 0 ? elf_getscn(elf, file->info_number) : NULL;
    size_t names;

    if (!scn || elf_getshdrstrndx(elf, &names) < 0)
        return false;
    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;
        bool is_zdebug;

        if (!gelf_getshdr(scn, &shdr) ||
            kind_of_section(elf, &shdr, names, true, &is_zdebug) != DWARF_SECTION_INFO)
            continue;
        if (section->mapped)
            munmap(section->mapped, section->mapped_bytes);
        *section = (struct dwarf_section){0};
        file->info_number = elf_ndxscn(scn);
        use_section(file, DWARF_SECTION_INFO, scn, &shdr, is_zdebug);
        return true;
    }
    return false;
}

void dwarf_file_deinit(struct dwarf_file *file)
{
    for (size_t i = 0; i < DWARF_NUM_SECTIONS; i++) {
        if (file->sections[i].mapped)
            munmap(file->sections[i].mapped, file->sections[i].mapped_bytes);
    }
    *file = (struct dwarf_file){0};
}

bool dwarf_file_has(const struct dwarf_file *file, enum dwarf_section_kind kind)
{
    return file->sections[kind].total_bytes > 0;
}

/* Reserves room for all of a section; pages that are not written cost nothing. */
static bool reserve(struct dwarf_section *section, struct dwarf_budget *budget)
{
    size_t num_bytes = section->total_bytes + INFLATE_SLACK_BYTES;
    void *mapped;

    if (section->mapped)
        return true;
    if (section->total_bytes > budget->bytes_left) {
        budget->is_spent = true;
        return false;
    }
    mapped = mmap(NULL, num_bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return false;
    budget->bytes_left -= section->total_bytes;
    section->mapped = mapped;
    section->mapped_bytes = num_bytes;
    return true;
}

/* The compressed bytes were read once and will not be again: their pages count as our memory. */
static void forget_packed(struct dwarf_section *section)
{
    uintptr_t start = ((uintptr_t)section->packed + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
    uintptr_t limit = ((uintptr_t)section->packed + section->packed_bytes) & ~(PAGE_BYTES - 1);

    if (start < limit)
        madvise((void *)start, limit - start, MADV_DONTNEED);
    section->packed = NULL;
}

static void unpack(struct dwarf_section *section, struct dwarf_budget *budget, uint64_t limit)
{
    bool is_partial = section->packed_type == ELFCOMPRESS_ZLIB && section->num_bytes == 0 &&
                      limit < section->total_bytes / 4 * 3 &&
                      limit + INFLATE_SLACK_BYTES < section->total_bytes;

    if (!reserve(section, budget)) {
        section->packed = NULL;
        return;
    }
    if (is_partial &&
        inflate_start(section->packed, section->packed_bytes, section->mapped, limit)) {
        section->bytes = section->mapped;
        section->num_bytes = limit;
        return;
    }
    if (inflate_whole(section->packed_type, section->packed, section->packed_bytes, section->mapped,
                      section->total_bytes, budget->deadline_ns)) {
        section->bytes = section->mapped;
        section->num_bytes = section->total_bytes;
    } else if (budget->deadline_ns && clock_monotonic_ns() >= budget->deadline_ns) {
        budget->is_spent = true;
    }
    forget_packed(section);
}

const struct dwarf_section *dwarf_file_need(struct dwarf_file *file, enum dwarf_section_kind kind,
                                            uint64_t limit)
{
    struct dwarf_section *section = &file->sections[kind];

    if (UNLIKELY(section->packed && limit > section->num_bytes))
        unpack(section, file->budget, limit);
    return section;
}

struct dwarf_bytes dwarf_file_bytes(struct dwarf_file *file, enum dwarf_section_kind kind,
                                    uint64_t offset)
{
    const struct dwarf_section *section = dwarf_file_need(file, kind, UINT64_MAX);

    if (offset > section->num_bytes || !section->bytes)
        return (struct dwarf_bytes){.is_bad = true};
    return (struct dwarf_bytes){.at = section->bytes + offset,
                                .limit = section->bytes + section->num_bytes};
}

const char *dwarf_file_string(struct dwarf_file *file, enum dwarf_section_kind kind,
                              uint64_t offset, size_t *length_ret)
{
    struct dwarf_bytes bytes = dwarf_file_bytes(file, kind, offset);
    const uint8_t *end = bytes.is_bad ? NULL : memchr(bytes.at, 0, dwarf_bytes_left(&bytes));

    if (!end)
        return NULL;
    *length_ret = (size_t)(end - bytes.at);
    return (const char *)bytes.at;
}
