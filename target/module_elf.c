#include "target/module_elf.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"

/* Bounds on hostile headers; real files have a dozen program headers and notes of a few hundred
 * bytes. */
#define MAX_PROGRAM_HEADERS 4096
#define MAX_NOTE_SEGMENTS 64
#define MAX_NOTE_BYTES 65536

#define NT_GO_BUILD_ID 4

/* Reads exactly `size` bytes at `offset`. Returns: false when they are not there. */
static bool elf_bytes_read(const struct elf_bytes *bytes, uint64_t offset, void *buffer,
                           size_t size)
{
    size_t num_done = 0;

    if (offset > bytes->num_bytes || size > bytes->num_bytes - offset)
        return false;
    if (bytes->fd < 0) {
        memcpy(buffer, bytes->image + offset, size);
        return true;
    }
    while (num_done < size) {
        ssize_t num_read = pread(bytes->fd, (char *)buffer + num_done, size - num_done,
                                 (off_t)(offset + num_done));

        if (num_read < 0 && errno == EINTR)
            continue;
        if (num_read <= 0)
            return false;
        num_done += (size_t)num_read;
    }
    return true;
}

/* One note; pointers go into the notes. */
struct note {
    uint32_t type;
    const uint8_t *name;
    size_t name_bytes;
    const uint8_t *descriptor;
    size_t descriptor_bytes;
};

/* Reads the note at *position and moves on. Returns: false at the end, or when it is damaged. */
static bool note_next(const uint8_t *notes, size_t num_bytes, size_t align, size_t *position,
                      struct note *note_ret)
{
    Elf64_Nhdr header;
    size_t name, descriptor;

    if (*position >= num_bytes || num_bytes - *position < sizeof(header))
        return false;
    memcpy(&header, notes + *position, sizeof(header));
    name = *position + sizeof(header);
    /* n_namesz and n_descsz are 32 bits wide: no sum of them overflows a size_t. */
    descriptor = (name + header.n_namesz + align - 1) & ~(align - 1);
    if (descriptor > num_bytes || header.n_descsz > num_bytes - descriptor)
        return false;
    *position = (descriptor + header.n_descsz + align - 1) & ~(align - 1);
    *note_ret = (struct note){header.n_type, notes + name, header.n_namesz, notes + descriptor,
                              header.n_descsz};
    return true;
}

size_t notes_find_build_id(const uint8_t *notes, size_t num_bytes, size_t align, uint8_t *build_id)
{
    size_t position = 0;
    struct note note;

    while (note_next(notes, num_bytes, align, &position, &note)) {
        if (note.type == NT_GNU_BUILD_ID && note.name_bytes == 4 &&
            memcmp(note.name, "GNU", 4) == 0 && note.descriptor_bytes > 0 &&
            note.descriptor_bytes <= MODULE_MAX_BUILD_ID_BYTES) {
            memcpy(build_id, note.descriptor, note.descriptor_bytes);
            return note.descriptor_bytes;
        }
    }
    return 0;
}

bool go_build_id_is_unique(const char *text, size_t num_bytes)
{
    for (size_t i = 0; i < num_bytes; i++) {
        bool is_digit = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'z') ||
                        (text[i] >= 'A' && text[i] <= 'Z') || text[i] == '-' || text[i] == '_';

        if (i % (GO_BUILD_ID_PART + 1) == GO_BUILD_ID_PART ? text[i] != '/' : !is_digit)
            return false;
    }
    return num_bytes == GO_BUILD_ID_LENGTH;
}

bool notes_find_go_build_id(const uint8_t *notes, size_t num_bytes, size_t align, char *go_build_id)
{
    size_t position = 0;
    struct note note;

    while (note_next(notes, num_bytes, align, &position, &note)) {
        if (note.type == NT_GO_BUILD_ID && note.name_bytes == 4 &&
            memcmp(note.name, "Go\0", 4) == 0 &&
            go_build_id_is_unique((const char *)note.descriptor, note.descriptor_bytes)) {
            memcpy(go_build_id, note.descriptor, GO_BUILD_ID_LENGTH);
            go_build_id[GO_BUILD_ID_LENGTH] = '\0';
            return true;
        }
    }
    return false;
}

static bool header_is_usable(const Elf64_Ehdr *header)
{
    return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
           header->e_ident[EI_CLASS] == ELFCLASS64 && header->e_ident[EI_DATA] == ELFDATA2LSB &&
           header->e_machine == EM_X86_64 &&
           (header->e_type == ET_EXEC || header->e_type == ET_DYN) &&
           header->e_phentsize == sizeof(Elf64_Phdr) && header->e_phnum > 0 &&
           header->e_phnum <= MAX_PROGRAM_HEADERS;
}

/* Looks into one PT_NOTE for the build-ids. */
static void note_segment_read(const struct elf_bytes *bytes, const Elf64_Phdr *segment,
                              struct module *module)
{
    size_t num_bytes = segment->p_filesz < MAX_NOTE_BYTES ? segment->p_filesz : MAX_NOTE_BYTES;
    CLEANUP(free) uint8_t *notes = malloc(num_bytes + 1);

    size_t align = segment->p_align == 8 ? 8 : 4;

    if (!notes || !elf_bytes_read(bytes, segment->p_offset, notes, num_bytes))
        return;
    module->build_id_bytes = notes_find_build_id(notes, num_bytes, align, module->build_id);
    if (!module->go_build_id[0])
        notes_find_go_build_id(notes, num_bytes, align, module->go_build_id);
}

/* Tells whether the sums that others will form of this PT_LOAD cannot overflow. */
static bool load_is_sane(const Elf64_Phdr *segment)
{
    uint64_t sum;

    return segment->p_filesz > 0 &&
           !__builtin_add_overflow(segment->p_offset, segment->p_filesz + 4096, &sum) &&
           segment->p_filesz < UINT64_MAX - 4096 &&
           !__builtin_add_overflow(segment->p_vaddr, segment->p_memsz, &sum);
}

struct error *module_elf_parse(const struct elf_bytes *bytes, struct module *module,
                               bool *is_usable_ret)
{
    CLEANUP(free) Elf64_Phdr *headers = NULL;
    CLEANUP(free) struct module_segment *segments = NULL;
    size_t num_segments = 0, num_notes = 0;
    Elf64_Ehdr header;

    *is_usable_ret = false;
    if (!elf_bytes_read(bytes, 0, &header, sizeof(header)) || !header_is_usable(&header))
        return NULL;
    headers = calloc(header.e_phnum, sizeof(*headers));
    segments = calloc(header.e_phnum, sizeof(*segments));
    if (!headers || !segments)
        return &error_no_memory;
    if (!elf_bytes_read(bytes, header.e_phoff, headers, header.e_phnum * sizeof(*headers)))
        return NULL;
    for (size_t i = 0; i < header.e_phnum; i++) {
        const Elf64_Phdr *segment = &headers[i];

        if (segment->p_type == PT_LOAD && load_is_sane(segment))
            segments[num_segments++] =
                (struct module_segment){segment->p_offset, segment->p_filesz, segment->p_vaddr,
                                        segment->p_memsz, (segment->p_flags & PF_X) != 0};
    }
    if (num_segments == 0)
        return NULL;
    for (size_t i = 0; i < header.e_phnum && module->build_id_bytes == 0; i++)
        if (headers[i].p_type == PT_NOTE && num_notes++ < MAX_NOTE_SEGMENTS)
            note_segment_read(bytes, &headers[i], module);
    module->segments = take_ptr(segments);
    module->num_segments = num_segments;
    *is_usable_ret = true;
    return NULL;
}
