#include "symbolize/elf_file.h"

#include <stdlib.h>
#include <string.h>

#include "target/module_elf.h"

Elf *elf_file_open(int fd)
{
    Elf *elf;
    GElf_Ehdr ehdr;

    if (elf_version(EV_CURRENT) == EV_NONE)
        return NULL;
    elf = elf_begin(fd, ELF_C_READ_MMAP_PRIVATE, NULL);
    if (!elf)
        return NULL;
    if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &ehdr) ||
        ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_ident[EI_DATA] != ELFDATA2LSB) {
        elf_end(elf);
        return NULL;
    }
    return elf;
}

Elf_Scn *elf_file_section(Elf *elf, const char *name, GElf_Shdr *shdr_ret)
{
    size_t names;
    Elf_Scn *scn = NULL;

    if (elf_getshdrstrndx(elf, &names) < 0)
        return NULL;
    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;
        const char *scn_name;

        if (!gelf_getshdr(scn, &shdr))
            continue;
        scn_name = elf_strptr(elf, names, shdr.sh_name);
        if (scn_name && !strcmp(scn_name, name)) {
            if (shdr_ret)
                *shdr_ret = shdr;
            return scn;
        }
    }
    return NULL;
}

Elf_Scn *elf_file_section_of_type(Elf *elf, uint32_t type, GElf_Shdr *shdr_ret)
{
    Elf_Scn *scn = NULL;

    while ((scn = elf_nextscn(elf, scn))) {
        if (gelf_getshdr(scn, shdr_ret) && shdr_ret->sh_type == type)
            return scn;
    }
    return NULL;
}

bool elf_file_section_bytes(Elf *elf, const char *name, const uint8_t **bytes_ret,
                            size_t *num_bytes_ret)
{
    GElf_Shdr shdr;
    Elf_Scn *scn = elf_file_section(elf, name, &shdr);
    Elf_Data *data;

    if (!scn || shdr.sh_type == SHT_NOBITS || (shdr.sh_flags & SHF_COMPRESSED))
        return false;
    data = elf_getdata(scn, NULL);
    if (!data || !data->d_buf || data->d_size == 0)
        return false;
    *bytes_ret = data->d_buf;
    *num_bytes_ret = data->d_size;
    return true;
}

static bool section_has_bytes(Elf *elf, const char *name)
{
    GElf_Shdr shdr;

    return elf_file_section(elf, name, &shdr) && shdr.sh_type != SHT_NOBITS && shdr.sh_size > 0;
}

bool elf_file_has_dwarf(Elf *elf)
{
    return section_has_bytes(elf, ".debug_info") || section_has_bytes(elf, ".zdebug_info");
}

/* GNU's older scheme: "ZLIB" and the size as 8 bytes, big endian. */
static uint64_t zdebug_size(Elf_Scn *scn, uint64_t sh_size)
{
    Elf_Data *data = elf_rawdata(scn, NULL);
    const uint8_t *bytes = data ? data->d_buf : NULL;
    uint64_t size = 0;

    if (!bytes || data->d_size < 12 || memcmp(bytes, "ZLIB", 4))
        return sh_size;
    for (int i = 4; i < 12; i++)
        size = size << 8 | bytes[i];
    return size;
}

uint64_t elf_file_packed_debug_bytes(Elf *elf, uint64_t *info_bytes_ret)
{
    size_t names;
    uint64_t total = 0;
    Elf_Scn *scn = NULL;

    *info_bytes_ret = 0;
    if (elf_getshdrstrndx(elf, &names) < 0)
        return 0;
    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;
        GElf_Chdr chdr;
        const char *name;
        uint64_t size;

        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type == SHT_NOBITS)
            continue;
        name = elf_strptr(elf, names, shdr.sh_name);
        if (!name || (strncmp(name, ".debug_", 7) && strncmp(name, ".zdebug_", 8)))
            continue;
        size = 0;
        if ((shdr.sh_flags & SHF_COMPRESSED) && gelf_getchdr(scn, &chdr))
            size = chdr.ch_size;
        else if (name[1] == 'z')
            size = zdebug_size(scn, shdr.sh_size);
        if (!strcmp(name, ".debug_info") || !strcmp(name, ".zdebug_info"))
            *info_bytes_ret = size;
        if (__builtin_add_overflow(total, size, &total))
            return UINT64_MAX;
    }
    return total;
}

/* The bytes of a note section or segment. */
struct note_bytes {
    const uint8_t *bytes;
    size_t num_bytes;
    size_t align;
};

struct build_id_ret {
    uint8_t *build_id;
    size_t num_bytes;
};

/* Looks for an id in them. Returns: false when it is not there. */
typedef bool find_note_fn(const struct note_bytes *notes, void *id);

static bool find_build_id(const struct note_bytes *notes, void *id)
{
    struct build_id_ret *ret = id;

    ret->num_bytes =
        notes_find_build_id(notes->bytes, notes->num_bytes, notes->align, ret->build_id);
    return ret->num_bytes > 0;
}

static bool find_go_build_id(const struct note_bytes *notes, void *id)
{
    return notes_find_go_build_id(notes->bytes, notes->num_bytes, notes->align, id);
}

static bool find_in(Elf_Data *data, uint64_t align, find_note_fn *find, void *id)
{
    struct note_bytes notes = {.align = align == 8 ? 8 : 4};

    if (!data || !data->d_buf)
        return false;
    notes.bytes = data->d_buf;
    notes.num_bytes = data->d_size;
    return find(&notes, id);
}

/* Sections first: in a debug file made by objcopy --only-keep-debug the program headers point to
 * where the notes were in the stripped file. */
static bool find_note(Elf *elf, find_note_fn *find, void *id)
{
    size_t num_phdrs = 0;
    Elf_Scn *scn = NULL;

    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;

        if (gelf_getshdr(scn, &shdr) && shdr.sh_type == SHT_NOTE &&
            find_in(elf_rawdata(scn, NULL), shdr.sh_addralign, find, id))
            return true;
    }
    if (elf_getphdrnum(elf, &num_phdrs) < 0)
        return false;
    for (size_t i = 0; i < num_phdrs; i++) {
        GElf_Phdr phdr;

        if (gelf_getphdr(elf, (int)i, &phdr) && phdr.p_type == PT_NOTE &&
            find_in(elf_getdata_rawchunk(elf, (int64_t)phdr.p_offset, phdr.p_filesz, ELF_T_BYTE),
                    phdr.p_align, find, id))
            return true;
    }
    return false;
}

size_t elf_file_build_id(Elf *elf, uint8_t *build_id)
{
    struct build_id_ret ret = {.build_id = build_id};

    return find_note(elf, find_build_id, &ret) ? ret.num_bytes : 0;
}

bool elf_file_go_build_id(Elf *elf, char *go_build_id)
{
    return find_note(elf, find_go_build_id, go_build_id);
}
