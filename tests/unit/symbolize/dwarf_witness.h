/* What the DWARF says of addresses that other programs get wrong, read by elfutils' libdw from each
 * entry itself: not names, but what proves a fault. See test_oracles.c. */
#ifndef TESTS_SYMBOLIZE_DWARF_WITNESS_H
#define TESTS_SYMBOLIZE_DWARF_WITNESS_H

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

#include "tests/unit/symbolize/oracle.h"

/* One function around an address. */
struct witness_frame {
    bool has_linkage_name;
    bool is_rnglistx; /* DW_AT_ranges has the form DW_FORM_rnglistx */
};

/* From the physical function to the innermost inlined one. */
struct witness {
    size_t num_frames;
    struct witness_frame frames[ORACLE_MAX_DEPTH];
    unsigned version; /* of the unit */
    Dwarf_Off unit;
    bool is_first_file; /* the line is in the file that line programs start with */
};

/* A walk over one unit. */
struct witness_walk {
    const uint64_t *addrs; /* ascending */
    size_t num;
    struct witness *witnesses;
    unsigned version;
};

static inline bool die_has(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attribute;

    return dwarf_attr_integrate(die, name, &attribute) != NULL;
}

static inline void witness_cover(const struct witness_walk *walk, Dwarf_Die *die,
                                 const struct witness *chain)
{
    Dwarf_Addr base;
    Dwarf_Addr start;
    Dwarf_Addr limit;
    ptrdiff_t at = 0;

    while ((at = dwarf_ranges(die, at, &base, &start, &limit)) > 0) {
        for (size_t i = 0; i < walk->num && walk->addrs[i] < limit; i++) {
            if (walk->addrs[i] >= start && walk->witnesses[i].num_frames < chain->num_frames)
                walk->witnesses[i] = *chain;
        }
    }
}

/* Visits an entry, its children and what follows it. */
static inline void witness_visit(const struct witness_walk *walk, Dwarf_Die *die,
                                 const struct witness *around)
{
    struct witness chain;
    Dwarf_Attribute ranges;
    Dwarf_Die child;

    do {
        int tag = dwarf_tag(die);

        chain = *around;
        if (tag == DW_TAG_subprogram)
            chain.num_frames = 0;
        if ((tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine) &&
            chain.num_frames < ORACLE_MAX_DEPTH) {
            chain.frames[chain.num_frames++] = (struct witness_frame){
                .has_linkage_name = die_has(die, DW_AT_linkage_name),
                .is_rnglistx = dwarf_attr(die, DW_AT_ranges, &ranges) &&
                               dwarf_whatform(&ranges) == DW_FORM_rnglistx,
            };
            witness_cover(walk, die, &chain);
        }
        if (dwarf_child(die, &child) == 0)
            witness_visit(walk, &child, &chain);
    } while (dwarf_siblingof(die, die) == 0);
}

/* Notes which lines of a unit are in file 1. */
static inline void witness_lines(const struct witness_walk *walk, Dwarf_Die *unit)
{
    Dwarf_Lines *lines;
    size_t num_lines;

    if (dwarf_getsrclines(unit, &lines, &num_lines) != 0)
        return;
    for (size_t i = 0; i < walk->num; i++) {
        Dwarf_Files *files;
        Dwarf_Line *line;
        size_t file;

        if (walk->witnesses[i].num_frames == 0 || walk->witnesses[i].unit != dwarf_dieoffset(unit))
            continue;
        line = dwarf_getsrc_die(unit, walk->addrs[i]);
        if (line && dwarf_line_file(line, &files, &file) == 0)
            walk->witnesses[i].is_first_file = file == 1;
    }
}

static inline void witness_read_unit(struct witness_walk *walk, Dwarf_Die *unit)
{
    struct witness none = {.version = walk->version, .unit = dwarf_dieoffset(unit)};
    Dwarf_Die child;

    if (dwarf_child(unit, &child) == 0)
        witness_visit(walk, &child, &none);
    witness_lines(walk, unit);
}

/* Reads a file (or its debug file) at ascending addresses. Returns: one answer for each; free(). */
static inline struct witness *witness_read(const char *path, const uint64_t *addrs, size_t num)
{
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_build_id_find_elf,
                                             .find_debuginfo = dwfl_standard_find_debuginfo,
                                             .section_address = dwfl_offline_section_address};
    struct witness_walk walk = {.addrs = addrs, .num = num};
    Dwfl *dwfl = dwfl_begin(&callbacks);
    Dwfl_Module *module = dwfl ? dwfl_report_offline(dwfl, "", path, -1) : NULL;
    Dwarf_Addr bias;
    Dwarf *dwarf = module ? dwfl_module_getdwarf(module, &bias) : NULL;
    Dwarf_CU *cu = NULL;
    Dwarf_Half version;
    Dwarf_Die unit;
    uint8_t type;

    walk.witnesses = calloc(num + 1, sizeof(*walk.witnesses));
    assert_non_null(walk.witnesses);
    assert_non_null(dwarf);
    while (dwarf_get_units(dwarf, cu, &cu, &version, &type, &unit, NULL) == 0) {
        walk.version = version;
        if (type == DW_UT_compile)
            witness_read_unit(&walk, &unit);
    }
    dwfl_end(dwfl);
    return walk.witnesses;
}

#endif
