#include "symbolize/elf_file.h"

#include <stdlib.h>
#include <string.h>

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

static size_t build_id_of_notes(Elf_Data *data, uint8_t *build_id)
{
    size_t offset = 0;
    size_t name_off;
    size_t desc_off;
    GElf_Nhdr note;

    while (data && offset < data->d_size &&
           (offset = gelf_getnote(data, offset, &note, &name_off, &desc_off)) > 0) {
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
            !memcmp((char *)data->d_buf + name_off, "GNU", 4) && note.n_descsz > 0 &&
            note.n_descsz <= ELF_FILE_MAX_BUILD_ID_BYTES) {
            memcpy(build_id, (char *)data->d_buf + desc_off, note.n_descsz);
            return note.n_descsz;
        }
    }
    return 0;
}

/* Sections first: in a debug file made by objcopy --only-keep-debug the program headers point to
 * where the notes were in the stripped file. */
size_t elf_file_build_id(Elf *elf, uint8_t *build_id)
{
    size_t num_phdrs = 0;
    size_t num_bytes;
    Elf_Scn *scn = NULL;

    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;

        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type != SHT_NOTE)
            continue;
        num_bytes = build_id_of_notes(elf_getdata(scn, NULL), build_id);
        if (num_bytes > 0)
            return num_bytes;
    }
    if (elf_getphdrnum(elf, &num_phdrs) < 0)
        return 0;
    for (size_t i = 0; i < num_phdrs; i++) {
        GElf_Phdr phdr;
        Elf_Type type;

        if (!gelf_getphdr(elf, (int)i, &phdr) || phdr.p_type != PT_NOTE)
            continue;
        type = phdr.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR;
        num_bytes = build_id_of_notes(
            elf_getdata_rawchunk(elf, (int64_t)phdr.p_offset, phdr.p_filesz, type), build_id);
        if (num_bytes > 0)
            return num_bytes;
    }
    return 0;
}
