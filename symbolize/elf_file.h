/* Small readers over libelf: sections by name, build-id, links to debug files.
 *
 * Not symbols and not DWARF. Every size and offset from the file is checked before use.
 * Ownership: bytes belong to the Elf handle. Threads: none. Source: elf(5), gabi, libelf.
 */
#ifndef SYMBOLIZE_ELF_FILE_H
#define SYMBOLIZE_ELF_FILE_H

#include <gelf.h>
#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "target/module.h"

#define ELF_FILE_MAX_BUILD_ID_BYTES MODULE_MAX_BUILD_ID_BYTES

/* Opens a libelf handle over the file behind `fd` (a private mapping, so that sections can be
 * inflated in place). fd: stays owned by the caller and open as long as the handle.
 * Returns: the handle (elf_end() it); NULL when this is no 64-bit ELF file. */
Elf *elf_file_open(int fd);

/* Finds a section by name.
 * shdr_ret: its header; may be NULL. Returns: the section, NULL when there is none. */
Elf_Scn *elf_file_section(Elf *elf, const char *name, GElf_Shdr *shdr_ret);

/* Finds the first section of a type (SHT_SYMTAB, ...). shdr_ret: its header. Returns: as above. */
Elf_Scn *elf_file_section_of_type(Elf *elf, uint32_t type, GElf_Shdr *shdr_ret);

/* Tells the bytes of a section that has any (not SHT_NOBITS, not compressed).
 * bytes_ret, num_bytes_ret: borrowed from `elf`. Returns: false when there are none. */
bool elf_file_section_bytes(Elf *elf, const char *name, const uint8_t **bytes_ret,
                            size_t *num_bytes_ret);

/* Tells whether the file holds DWARF: a .debug_info or .zdebug_info with bytes.
 */
bool elf_file_has_dwarf(Elf *elf);

/* Tells how large the compressed debug sections are once inflated: what they would cost in memory.
 * info_bytes_ret: .debug_info alone. Returns: all .debug_* and .zdebug_* together. */
uint64_t elf_file_packed_debug_bytes(Elf *elf, uint64_t *info_bytes_ret);

/* Reads the build-id note. build_id: room for ELF_FILE_MAX_BUILD_ID_BYTES bytes.
 * Returns: its length, 0 when there is none. */
size_t elf_file_build_id(Elf *elf, uint8_t *build_id);

/* Reads Go's own build-id note (target/module.h). go_build_id: room for GO_BUILD_ID_LENGTH + 1
 * bytes. Returns: false when there is none that is unique. */
bool elf_file_go_build_id(Elf *elf, char *go_build_id);

#endif
