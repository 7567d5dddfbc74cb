/* The debug sections of one ELF file, each unpacked when it is first asked for and no further than
 * needed, and the budget that bounds all work on hostile ones.
 *
 * Knows nothing of what is in the sections. Ownership: the caller owns the struct, which borrows
 * the Elf handle and owns what it unpacked. Threads: none.
 * Source: gabi "Section Compression"; DWARF 5 section 7.3.2 (.dwo names), 7.3.5 (.dwp).
 */
#ifndef SYMBOLIZE_DWARF_FILE_H
#define SYMBOLIZE_DWARF_FILE_H

#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dwarf_bytes.h"

/* Bound of what is unpacked for one module, and of the work spent on it. */
struct dwarf_budget {
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0 = none */
    uint64_t bytes_left;  /* that may still be unpacked */
    uint64_t steps_left;  /* DIEs, opcodes, ranges ... that may still be read */
    uint64_t next_look;   /* steps_left at the next look at the clock */
    bool is_spent;        /* one of them ran out: results are incomplete */
};

/* Sets up a budget. num_bytes: to unpack at most. deadline_ns: as above. */
void dwarf_budget_init(struct dwarf_budget *budget, uint64_t num_bytes, uint64_t deadline_ns);

/* The slow half of dwarf_budget_take(): looks at the clock. Returns: false when it is spent. */
bool dwarf_budget_look(struct dwarf_budget *budget);

/* Takes some steps. Returns: false when the budget is spent: stop, and keep what there is. */
static inline bool dwarf_budget_take(struct dwarf_budget *budget, uint64_t num_steps)
{
    if (budget->steps_left < num_steps) {
        budget->steps_left = 0;
        budget->is_spent = true;
        return false;
    }
    budget->steps_left -= num_steps;
    return budget->steps_left > budget->next_look || dwarf_budget_look(budget);
}

enum dwarf_section_kind {
    DWARF_SECTION_INFO,
    DWARF_SECTION_ABBREV,
    DWARF_SECTION_STR,
    DWARF_SECTION_LINE_STR,
    DWARF_SECTION_STR_OFFSETS,
    DWARF_SECTION_ADDR,
    DWARF_SECTION_RANGES,
    DWARF_SECTION_RNGLISTS,
    DWARF_SECTION_LINE,
    DWARF_SECTION_ARANGES,
    DWARF_SECTION_CU_INDEX,
    DWARF_NUM_SECTIONS,
};

struct dwarf_section {
    const uint8_t *bytes;  /* NULL: nothing yet, or nothing at all */
    size_t num_bytes;      /* that may be read */
    size_t total_bytes;    /* once all is unpacked; 0: there is no such section */
    const uint8_t *packed; /* without header; NULL: not compressed */
    size_t packed_bytes;
    uint32_t packed_type; /* ELFCOMPRESS_* */
    void *mapped;         /* what was unpacked; NULL else */
    size_t mapped_bytes;
};

struct dwarf_file {
    struct dwarf_section sections[DWARF_NUM_SECTIONS];
    size_t info_number;          /* of the ELF section that DWARF_SECTION_INFO is; 0 = none */
    struct dwarf_budget *budget; /* borrowed */
};

/* Finds the sections of a file; unpacks nothing.
 * elf: borrowed. is_split: take the .dwo sections (.debug_addr and .debug_cu_index have but one
 * name). budget: outlives the file. file: zeroed; to be given to dwarf_file_deinit(). */
void dwarf_file_init(struct dwarf_file *file, Elf *elf, bool is_split, struct dwarf_budget *budget);

/* Takes the next .debug_info.dwo of a file with several: compilers give each type unit one of its
 * own, before or behind that of the code. What the one before has unpacked is freed.
 * elf: as given to dwarf_file_init(), with is_split. Returns: false when there is none; the one in
 * use stays. */
bool dwarf_file_next_info(struct dwarf_file *file, Elf *elf);

/* Uses bytes that somebody else has found and unpacked. bytes: borrowed. */
void dwarf_file_set(struct dwarf_file *file, enum dwarf_section_kind kind, const uint8_t *bytes,
                    size_t num_bytes);

/* Frees what was unpacked. A zeroed file is fine. */
void dwarf_file_deinit(struct dwarf_file *file);

/* Tells whether there is such a section with anything in it. */
bool dwarf_file_has(const struct dwarf_file *file, enum dwarf_section_kind kind);

/* Makes bytes [0, limit) of a section readable, or all when it has fewer. Pointers into the section
 * from before stay valid. Returns: the section, whose num_bytes may be smaller when it is absent,
 * damaged or too large. */
const struct dwarf_section *dwarf_file_need(struct dwarf_file *file, enum dwarf_section_kind kind,
                                            uint64_t limit);

/* Makes a cursor from `offset` to the end of a section, unpacking all of it.
 * Returns: the cursor, bad when the offset is beyond the end. */
struct dwarf_bytes dwarf_file_bytes(struct dwarf_file *file, enum dwarf_section_kind kind,
                                    uint64_t offset);

/* Finds the string at an offset of a section. Returns: the string, which ends within the section as
 * long as the file is not changed meanwhile; NULL when there is none. */
const char *dwarf_file_string(struct dwarf_file *file, enum dwarf_section_kind kind,
                              uint64_t offset, size_t *length_ret);

#endif
