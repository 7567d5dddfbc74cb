#include "symbolize/elf_file.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#ifndef ELFCOMPRESS_ZSTD
#define ELFCOMPRESS_ZSTD 2 /* gabi, after glibc 2.36's elf.h */
#endif

/* Header of an inflated buffer: a chain, so that the caller keeps one pointer. */
struct inflated {
    struct inflated *next;
    max_align_t bytes[];
};

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

uint64_t elf_file_debug_bytes(Elf *elf, uint64_t *info_bytes_ret)
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
        size = shdr.sh_size;
        if ((shdr.sh_flags & SHF_COMPRESSED) && gelf_getchdr(scn, &chdr))
            size = chdr.ch_size;
        else if (name[1] == 'z')
            size = zdebug_size(scn, size);
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

/* Inflates one section. Returns: false for damaged input. */
static bool inflate_bytes(uint32_t type, const void *from, size_t from_bytes, void *to,
                          size_t to_bytes)
{
    if (type == ELFCOMPRESS_ZSTD) {
        size_t num_bytes = ZSTD_decompress(to, to_bytes, from, from_bytes);
        return !ZSTD_isError(num_bytes) && num_bytes == to_bytes;
    }
    struct libdeflate_decompressor *decompressor = libdeflate_alloc_decompressor();
    enum libdeflate_result result = LIBDEFLATE_BAD_DATA;

    if (decompressor)
        result = libdeflate_zlib_decompress(decompressor, from, from_bytes, to, to_bytes, NULL);
    libdeflate_free_decompressor(decompressor);
    return result == LIBDEFLATE_SUCCESS;
}

static bool is_inflatable(const GElf_Chdr *chdr)
{
    return chdr->ch_type == ELFCOMPRESS_ZSTD || chdr->ch_type == ELFCOMPRESS_ZLIB;
}

static struct error *inflate_section(Elf_Scn *scn, const GElf_Chdr *chdr, void **buffers)
{
    Elf_Data *data = elf_getdata(scn, NULL);
    struct inflated *inflated;
    GElf_Shdr shdr;

    if (!data || !data->d_buf || data->d_size <= sizeof(Elf64_Chdr) || !gelf_getshdr(scn, &shdr))
        return error_create(ERROR_FAILED, NULL, "a compressed section is cut");
    /* deflate reaches 1032:1 at most, zstd in practice as well: do not reserve what cannot come. */
    if (chdr->ch_size / 1100 > data->d_size)
        return error_create(ERROR_FAILED, NULL, "a compressed section lies about its size");
    inflated = malloc(sizeof(*inflated) + chdr->ch_size + 1);
    if (!inflated)
        return &error_no_memory;
    inflated->next = *buffers;
    *buffers = inflated;
    if (!inflate_bytes(chdr->ch_type, (char *)data->d_buf + sizeof(Elf64_Chdr),
                       data->d_size - sizeof(Elf64_Chdr), inflated->bytes, chdr->ch_size))
        return error_create(ERROR_FAILED, NULL, "a compressed section is damaged");
    shdr.sh_flags &= ~(uint64_t)SHF_COMPRESSED;
    shdr.sh_size = chdr->ch_size;
    shdr.sh_addralign = chdr->ch_addralign;
    if (!gelf_update_shdr(scn, &shdr))
        return error_create(ERROR_FAILED, NULL, "libelf: %s", elf_errmsg(-1));
    data->d_buf = inflated->bytes;
    data->d_size = chdr->ch_size;
    data->d_type = ELF_T_BYTE;
    return NULL;
}

/* Debug sections that tell of variables, macros or look-up tables we do not trust. */
static bool is_unused_section(const char *name)
{
    static const char *const unused[] = {"loc",      "loclists",     "aranges",     "frame",
                                         "macro",    "macinfo",      "names",       "pubnames",
                                         "pubtypes", "gnu_pubnames", "gnu_pubtypes"};
    const char *kind = strchr(name, '_');

    for (size_t i = 0; i < ARRAY_LENGTH(unused); i++) {
        if (!strcmp(kind + 1, unused[i]))
            return true;
    }
    return false;
}

static struct error *prepare_section(Elf *elf, Elf_Scn *scn, size_t names, uint64_t max_bytes,
                                     uint64_t *total, void **buffers)
{
    GElf_Shdr shdr;
    GElf_Chdr chdr;
    const char *name;

    if (!gelf_getshdr(scn, &shdr) || shdr.sh_type == SHT_NOBITS)
        return NULL;
    name = elf_strptr(elf, names, shdr.sh_name);
    if (!name || (strncmp(name, ".debug_", 7) && strncmp(name, ".zdebug_", 8)))
        return NULL;
    if (is_unused_section(name)) {
        shdr.sh_type = SHT_NOBITS; /* libdw passes over those */
        if (!gelf_update_shdr(scn, &shdr))
            return error_create(ERROR_FAILED, NULL, "libelf: %s", elf_errmsg(-1));
        return NULL;
    }
    if (!(shdr.sh_flags & SHF_COMPRESSED) || !gelf_getchdr(scn, &chdr) || !is_inflatable(&chdr))
        return NULL;
    if (__builtin_add_overflow(*total, chdr.ch_size, total) || *total > max_bytes)
        return error_create(ERROR_FAILED, NULL, "compressed sections inflate to over %llu MB",
                            (unsigned long long)(max_bytes >> 20));
    return inflate_section(scn, &chdr, buffers);
}

struct error *elf_file_prepare_dwarf(Elf *elf, uint64_t max_bytes, void **buffers)
{
    uint64_t total = 0;
    size_t names;
    Elf_Scn *scn = NULL;

    if (elf_getshdrstrndx(elf, &names) < 0)
        return NULL;
    while ((scn = elf_nextscn(elf, scn)))
        RETURN_IF_ERROR(prepare_section(elf, scn, names, max_bytes, &total, buffers));
    return NULL;
}

void elf_file_free_buffers(void *buffers)
{
    struct inflated *inflated = buffers;

    while (inflated) {
        struct inflated *next = inflated->next;

        free(inflated);
        inflated = next;
    }
}
