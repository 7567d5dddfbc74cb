/* Whether the caller of a function can be found from inside it: whether it has call frame
 * information. A sample that is taken in a function without, as all of musl's are, ends there.
 *
 * Looks at the sorted table of .eh_frame_hdr, that static programs do not have: not at .eh_frame
 * itself, nor at .debug_frame. The file is hostile.
 * Ownership: none. Threads: none. Source: Linux Standard Base Core 10.6.2 (.eh_frame_hdr).
 */
#ifndef SAMPLER_PROBE_FRAMES_H
#define SAMPLER_PROBE_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "target/module.h"

/* Tells whether a module has frame information that begins at elf_addr, the entry of a function.
 * A table in a form that compilers do not write counts as if it had. */
bool probe_has_frames(const struct module *module, uint64_t elf_addr);

/* Tells how many bytes the function that begins at elf_addr has at most: up to the next one with
 * frame information, else by its symbol in .symtab. Returns: 0 when that is not known. */
uint64_t probe_frames_extent(const struct module *module, uint64_t elf_addr);

#endif
