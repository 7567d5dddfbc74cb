/* MiniDebugInfo: a small ELF file with a .symtab, compressed with xz into the section
 * .gnu_debugdata.
 *
 * Threads: none. Source: GDB manual "MiniDebugInfo"; lzma/container.h.
 */
#ifndef SYMBOLIZE_MINI_DEBUG_INFO_H
#define SYMBOLIZE_MINI_DEBUG_INFO_H

#include <libelf.h>

#include "base/error.h"

/* Inflates and opens the MiniDebugInfo of `elf`.
 * image_ret: heap memory behind the handle, to be freed after elf_end(). elf_ret: the handle.
 * Both stay NULL when there is none or it is damaged. Returns: NULL or error_no_memory. */
struct error *mini_debug_info_open(Elf *elf, char **image_ret, Elf **elf_ret) MUST_CHECK;

#endif
