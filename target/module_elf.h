/* What a module needs to know of an ELF file, read without libelf: program headers and build-id.
 *
 * Not symbols, not sections. The bytes are hostile: every read is bounded and may fail; a file that
 * shrinks meanwhile gives a short read, never SIGBUS.
 * Ownership: the caller owns the bytes. Threads: any. Source: elf(5), gABI chapters 4 and 5.
 */
#ifndef TARGET_MODULE_ELF_H
#define TARGET_MODULE_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "target/module.h"

/* Where the bytes are: in an open file, or in memory. */
struct elf_bytes {
    int fd;               /* -1: in memory */
    const uint8_t *image; /* when fd is -1 */
    uint64_t num_bytes;
};

/* Fills in segments, num_segments and the build-id of `module`.
 * is_usable_ret: whether this is a 64-bit little-endian x86-64 executable or shared object with at
 * least one PT_LOAD; else the module is left untouched. Returns: NULL or error_no_memory. */
struct error *module_elf_parse(const struct elf_bytes *bytes, struct module *module,
                               bool *is_usable_ret) MUST_CHECK;

/* Finds the GNU build-id in the bytes of a note section or segment.
 * align: 4 or 8, of descriptors and names. build_id: room for MODULE_MAX_BUILD_ID_BYTES.
 * Returns: its length in bytes; 0 when there is none. Source: gABI "Note Section". */
size_t notes_find_build_id(const uint8_t *notes, size_t num_bytes, size_t align, uint8_t *build_id);

/* Finds Go's own build-id there, if it is one that tells builds apart.
 * go_build_id: room for GO_BUILD_ID_LENGTH + 1 bytes; on success a string.
 * Returns: false when there is none. Source: Go cmd/internal/buildid (note 4 of "Go"). */
bool notes_find_go_build_id(const uint8_t *notes, size_t num_bytes, size_t align,
                            char *go_build_id);

#endif
