/* Source files and lines from .debug_line, with the checks libdw leaves to its caller.
 *
 * Paths come out absolute when the compilation directory is known. Strings live as long as the
 * arena and the Dwarf handle. Threads: none. Source: DWARF 5 section 6.2.
 */
#ifndef SYMBOLIZE_DWARF_LINES_H
#define SYMBOLIZE_DWARF_LINES_H

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"

/* A line program of that many bytes makes libdw take about 40 times as much memory. */
#define DWARF_LINES_MAX_PROGRAM_BYTES ((uint64_t)16 << 20)

/* Line sections already looked up, and where strings go. */
struct dwarf_lines {
    struct arena *arena;
    Dwarf *dwarf; /* the handle that section and num_bytes belong to */
    const uint8_t *section;
    size_t num_bytes;
    Dwarf_CU *cu; /* the unit that files belongs to: most questions in a row concern one unit */
    Dwarf_Files *files;
    size_t num_files;
    const char *comp_dir;
};

/* Finds the source line of an address by the line table of a unit.
 * cu_die: DIE of the unit (of the skeleton for a split one). path_ret: "" when unknown; line_ret: 0
 * when unknown. Returns: false when no row covers the address. */
bool dwarf_lines_find(struct dwarf_lines *lines, Dwarf_Die *cu_die, uint64_t elf_addr,
                      const char **path_ret, int64_t *line_ret);

/* Tells the path behind a file attribute (DW_AT_decl_file, DW_AT_call_file).
 * attr: as found, belongs to any unit. Returns: the path, "" when unknown; never NULL. */
const char *dwarf_lines_path(struct dwarf_lines *lines, Dwarf_Attribute *attr);

#endif
