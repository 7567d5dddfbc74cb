#include "symbolize/dwarf_scopes.h"

#include <dwarf.h>
#include <stdlib.h>

#include "base/array.h"
#include "base/clock.h"

#define SCOPES_MAX_DEPTH 512
#define SCOPES_MAX_INTERVALS ((size_t)8 << 20)
#define SCOPES_CLOCK_INTERVAL 4096
#define ORIGIN_MAX_STEPS 16 /* abstract_origin -> specification -> ...: 3 in practice */

/* One level of the walk: the DIE being visited and the scope around it. */
struct walk_level {
    Dwarf_Die die;
    uint32_t scope;
    uint32_t nesting; /* how many scopes are around it */
    bool in_function;
};

struct walk {
    struct dwarf_scopes *scopes;
    struct interval *intervals;
    size_t num_intervals, intervals_capacity;
    bool is_c; /* C or C++ */
    struct walk_level levels[SCOPES_MAX_DEPTH];
};

/* Adds the code ranges of a DIE. Deeper scopes win over shallower ones; of two functions that claim
 * the same bytes (identical code folded by the linker), the first. */
static struct error *add_intervals(struct walk *walk, Dwarf_Die *die, uint32_t scope,
                                   uint32_t nesting, bool *has_code_ret)
{
    Dwarf_Addr base;
    Dwarf_Addr start;
    Dwarf_Addr limit;
    ptrdiff_t offset = 0;

    *has_code_ret = false;
    while (walk->num_intervals < SCOPES_MAX_INTERVALS &&
           (offset = dwarf_ranges(die, offset, &base, &start, &limit)) > 0) {
        if (start >= limit)
            continue;
        RETURN_IF_ERROR(array_reserve(&walk->intervals, &walk->intervals_capacity,
                                      walk->num_intervals + 1, sizeof(*walk->intervals)));
        walk->intervals[walk->num_intervals++] = (struct interval){
            .start = start,
            .limit = limit,
            .priority = (uint64_t)nesting << 32 | (UINT32_MAX - scope),
            .item = scope,
        };
        *has_code_ret = true;
    }
    return NULL;
}

/* gcc and clang put the code of C and C++ member functions, and of functions of local classes,
 * outside of the classes, which hold but declarations: half of the DIEs of a large program. */
static bool is_c_family(int language)
{
    switch (language) {
    case DW_LANG_C89:
    case DW_LANG_C:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case DW_LANG_C_plus_plus:
    case DW_LANG_C_plus_plus_03:
    case DW_LANG_C_plus_plus_11:
    case DW_LANG_C_plus_plus_14:
    case 0x2b: /* DW_LANG_C_plus_plus_17 */
    case 0x2c: /* DW_LANG_C17 */
    case 0x2e: /* DW_LANG_C_plus_plus_20 */
        return true;
    default:
        return false;
    }
}

static bool may_hold_functions(int tag, bool skip_classes)
{
    switch (tag) {
    case DW_TAG_subprogram:
    case DW_TAG_inlined_subroutine:
    case DW_TAG_lexical_block:
    case DW_TAG_try_block:
    case DW_TAG_catch_block:
    case DW_TAG_with_stmt:
    case DW_TAG_namespace:
    case DW_TAG_module:
        return true;
    case DW_TAG_class_type:
    case DW_TAG_structure_type:
    case DW_TAG_union_type:
    case DW_TAG_interface_type:
    case DW_TAG_enumeration_type: /* Rust: impl blocks of enums */
    case DW_TAG_variant_part:
        return !skip_classes;
    default:
        return false;
    }
}

/* Visits one DIE: makes a scope of a function that has code.
 * child_ret: level for its children. descend_ret: whether to look at them. */
static struct error *visit(struct walk *walk, struct walk_level *level,
                           struct walk_level *child_ret, bool *descend_ret)
{
    struct dwarf_scopes *scopes = walk->scopes;
    int tag = dwarf_tag(&level->die);
    uint32_t number = (uint32_t)scopes->num_scopes;
    bool is_function = tag == DW_TAG_subprogram;
    bool has_code;

    child_ret->scope = level->scope;
    child_ret->nesting = level->nesting;
    child_ret->in_function = level->in_function || is_function;
    *descend_ret = may_hold_functions(tag, walk->is_c && !level->in_function);
    if ((!is_function && tag != DW_TAG_inlined_subroutine) || number == DWARF_SCOPE_NONE - 1)
        return NULL;
    RETURN_IF_ERROR(
        add_intervals(walk, &level->die, number, is_function ? 0 : level->nesting, &has_code));
    if (!has_code)
        return NULL;
    RETURN_IF_ERROR(array_reserve(&scopes->scopes, &scopes->capacity, scopes->num_scopes + 1,
                                  sizeof(*scopes->scopes)));
    scopes->scopes[scopes->num_scopes++] = (struct dwarf_scope){
        .die = level->die, .parent = is_function ? DWARF_SCOPE_NONE : level->scope};
    child_ret->scope = number;
    child_ret->nesting = is_function ? 1 : level->nesting + 1;
    return NULL;
}

/* Steps to the next DIE that is not below the one at `depth`, climbing as far as needed.
 * Returns: false at the end of the unit. */
static bool next_sibling(struct walk *walk, size_t *depth)
{
    for (;;) {
        Dwarf_Die next;

        if (dwarf_siblingof(&walk->levels[*depth].die, &next) == 0) {
            walk->levels[*depth].die = next;
            return true;
        }
        if (*depth == 0)
            return false;
        --*depth;
    }
}

static struct error *walk_unit(struct walk *walk, Dwarf_Die *unit_die, uint64_t max_dies,
                               uint64_t deadline_ns)
{
    size_t depth = 0;

    walk->levels[0].scope = DWARF_SCOPE_NONE;
    if (dwarf_child(unit_die, &walk->levels[0].die) != 0)
        return NULL;
    for (uint64_t num_dies = 1; num_dies <= max_dies; num_dies++) {
        struct walk_level child;
        bool descend;

        if (deadline_ns && num_dies % SCOPES_CLOCK_INTERVAL == 0 &&
            clock_monotonic_ns() >= deadline_ns)
            return NULL;
        RETURN_IF_ERROR(visit(walk, &walk->levels[depth], &child, &descend));
        if (descend && depth + 1 < SCOPES_MAX_DEPTH &&
            dwarf_child(&walk->levels[depth].die, &child.die) == 0)
            walk->levels[++depth] = child;
        else if (!next_sibling(walk, &depth))
            return NULL;
    }
    return NULL;
}

struct error *dwarf_scopes_create(Dwarf_Die *unit_die, uint64_t max_dies, uint64_t deadline_ns,
                                  struct dwarf_scopes **scopes_ret)
{
    CLEANUP(dwarf_scopes_destroy) struct dwarf_scopes *scopes = calloc(1, sizeof(*scopes));
    CLEANUP(free) struct walk *walk = calloc(1, sizeof(*walk));
    CLEANUP(free) struct interval *intervals = NULL;
    struct error *err;

    if (!scopes || !walk)
        return &error_no_memory;
    walk->scopes = scopes;
    walk->is_c = is_c_family(dwarf_srclang(unit_die));
    err = walk_unit(walk, unit_die, max_dies, deadline_ns);
    intervals = walk->intervals;
    if (err)
        return err;
    RETURN_IF_ERROR(interval_map_build(intervals, walk->num_intervals, &scopes->ranges));
    *scopes_ret = take_ptr(scopes);
    return NULL;
}

void dwarf_scopes_destroy(struct dwarf_scopes *scopes)
{
    if (!scopes)
        return;
    interval_map_deinit(&scopes->ranges);
    free(scopes->scopes);
    free(scopes);
}

uint32_t dwarf_scopes_find(const struct dwarf_scopes *scopes, uint64_t elf_addr)
{
    const struct interval_segment *segment = interval_map_find(&scopes->ranges, elf_addr);

    return segment ? segment->item : DWARF_SCOPE_NONE;
}

/* Finds an attribute on a DIE or on what it was made from: an inlined instance names its abstract
 * function, that its declaration in a class. */
static bool find_attr(const Dwarf_Die *start, unsigned name, Dwarf_Attribute *attr_ret)
{
    Dwarf_Die die = *start;

    for (int step = 0; step < ORIGIN_MAX_STEPS; step++) {
        Dwarf_Attribute link;
        Dwarf_Die next;

        if (dwarf_attr(&die, name, attr_ret))
            return true;
        if (!dwarf_attr(&die, DW_AT_abstract_origin, &link) &&
            !dwarf_attr(&die, DW_AT_specification, &link))
            return false;
        if (!dwarf_formref_die(&link, &next))
            return false;
        die = next;
    }
    return false;
}

static const char *find_string(const Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attr;
    const char *string = find_attr(die, name, &attr) ? dwarf_formstring(&attr) : NULL;

    return string ? string : "";
}

static int64_t find_number(const Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attr;
    Dwarf_Word value;

    if (!find_attr(die, name, &attr) || dwarf_formudata(&attr, &value) != 0 || value > INT32_MAX)
        return 0;
    return (int64_t)value;
}

static const char *find_path(const Dwarf_Die *die, unsigned name, struct dwarf_lines *lines)
{
    Dwarf_Attribute attr;

    return find_attr(die, name, &attr) ? dwarf_lines_path(lines, &attr) : "";
}

const struct dwarf_scope_info *dwarf_scopes_info(struct dwarf_scopes *scopes, uint32_t scope,
                                                 struct dwarf_lines *lines)
{
    struct dwarf_scope *found = &scopes->scopes[scope];
    struct dwarf_scope_info *info = found->info;

    if (info)
        return info;
    info = arena_alloc(lines->arena, sizeof(*info));
    if (!info)
        return NULL;
    *info = (struct dwarf_scope_info){
        .name = find_string(&found->die, DW_AT_name),
        .linkage_name = find_string(&found->die, DW_AT_linkage_name),
        .decl_path = find_path(&found->die, DW_AT_decl_file, lines),
        .call_path = "",
        .decl_line = find_number(&found->die, DW_AT_decl_line),
    };
    if (!info->linkage_name[0])
        info->linkage_name = find_string(&found->die, DW_AT_MIPS_linkage_name);
    if (found->parent != DWARF_SCOPE_NONE) {
        info->call_path = find_path(&found->die, DW_AT_call_file, lines);
        info->call_line = find_number(&found->die, DW_AT_call_line);
    }
    found->info = info;
    return info;
}
