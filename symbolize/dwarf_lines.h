/* Source files and lines of a unit: its line number program, run once for all places that are asked
 * for, without keeping its rows.
 *
 * Paths come out absolute when the compilation directory is known. Ownership: the caller owns the
 * table, which borrows the unit's file. Threads: none. Source: DWARF 5 section 6.2, and 4 for the
 * older headers.
 */
#ifndef SYMBOLIZE_DWARF_LINES_H
#define SYMBOLIZE_DWARF_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "symbolize/dwarf_places.h"
#include "symbolize/dwarf_unit.h"

/* A directory or file of the header; the name is not terminated for us. */
struct dwarf_line_name {
    const char *bytes;
    uint32_t num_bytes;
    uint32_t dir;
};

/* The header of a line number program. */
struct dwarf_line_table {
    struct dwarf_format format;
    uint8_t min_instruction_bytes;
    uint8_t opcode_base;
    uint8_t line_range;
    int8_t line_base;
    uint8_t operand_counts[256]; /* of standard opcodes */
    struct dwarf_line_name *dirs, *files;
    size_t num_dirs, dirs_capacity;
    size_t num_files, files_capacity;
    struct dwarf_line_name comp_dir; /* num_bytes 0: unknown */
    struct dwarf_bytes program;
};

/* Where a place is in the sources. */
struct dwarf_line {
    uint64_t file; /* index in the table */
    int64_t line;
    bool is_found;
};

/* Reads the header of a unit's line number program.
 * table_ret: owned by the caller; NULL when the unit has none. Returns: NULL or error_no_memory. */
struct error *dwarf_line_table_create(const struct dwarf_unit *unit,
                                      struct dwarf_line_table **table_ret) MUST_CHECK;

/* Frees a table. NULL is fine. */
void dwarf_line_table_destroy(struct dwarf_line_table *table);

/* Runs the program.
 * lines: [places.num], zeroed; those found are filled in. */
void dwarf_line_table_run(const struct dwarf_line_table *table, struct dwarf_budget *budget,
                          struct dwarf_places places, struct dwarf_line *lines);

/* Tells the path of a file. arena: where it goes. Returns: the path; "" when unknown; NULL when out
 * of memory. */
const char *dwarf_line_table_path(const struct dwarf_line_table *table, uint64_t file,
                                  struct arena *arena);

DEFINE_CLEANUP(dwarf_line_table_destroy, struct dwarf_line_table *)

#endif
