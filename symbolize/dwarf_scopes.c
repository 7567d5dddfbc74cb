#include "symbolize/dwarf_scopes.h"

#include <dwarf.h>
#include <stdlib.h>

#include "base/array.h"
#include "symbolize/dwarf_ranges.h"
#include "symbolize/dwarf_scan.h"

#define SCOPES_MAX_DEPTH 512
#define SCOPES_MAX ((size_t)1 << 20)

/* One level of the walk: what is around the DIEs there. */
struct walk_level {
    uint32_t scope;
    uint32_t nesting; /* how many scopes are around */
    bool in_function;
};

struct walk {
    struct dwarf_scopes *scopes;
    struct dwarf_unit *unit;
    struct dwarf_scan scan;
    struct dwarf_places places;
    struct dwarf_found_scope *found;
    bool is_c;
    bool is_thorough; /* enter also functions that cover no place */
    bool is_partial;  /* the code of inlined functions and blocks need not be within their range */
    bool has_passed_by; /* some function was not entered */
    size_t depth;
    struct walk_level levels[SCOPES_MAX_DEPTH];
};

bool dwarf_language_is_c_family(int language)
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

/* gcc and clang put the code of C and C++ member functions, and of functions of local classes,
 * outside of the classes, which hold but declarations: half of the DIEs of a large program. */
static bool is_container(const struct walk *walk, unsigned tag)
{
    switch (tag) {
    case DW_TAG_namespace:
    case DW_TAG_module:
    case DW_TAG_lexical_block:
    case DW_TAG_try_block:
    case DW_TAG_catch_block:
    case DW_TAG_with_stmt:
        return true;
    case DW_TAG_class_type:
    case DW_TAG_structure_type:
    case DW_TAG_union_type:
    case DW_TAG_interface_type:
    case DW_TAG_enumeration_type: /* Rust: impl blocks of enums */
    case DW_TAG_variant_part:
        return !walk->is_c || walk->levels[walk->depth].in_function;
    default:
        return false;
    }
}

/* Gives the places in one range to a scope. Deeper scopes win over shallower ones; of two functions
 * that claim the same bytes (identical code folded by the linker), the first.
 * Returns: whether there were any. */
static bool claim(struct walk *walk, uint64_t start, uint64_t limit, uint32_t scope, uint32_t rank)
{
    size_t at;

    if (!dwarf_places_within(walk->places, start, limit, &at))
        return false;
    for (; at < walk->places.num && walk->places.addrs[at] < limit; at++) {
        if (rank > walk->found[at].rank)
            walk->found[at] = (struct dwarf_found_scope){.scope = scope, .rank = rank};
    }
    return true;
}

/* Gives the places of the DIE just scanned to a scope; rank 0 only looks.
 * has_code_ret: whether the DIE has any code. Returns: whether it covers a place. */
static bool claim_all(struct walk *walk, uint32_t scope, uint32_t rank, bool *has_code_ret)
{
    const struct dwarf_code code = {
        .low = walk->scan.kept[DWARF_SCAN_LOW],
        .high = walk->scan.kept[DWARF_SCAN_HIGH],
        .ranges = walk->scan.kept[DWARF_SCAN_RANGES],
    };
    struct dwarf_ranges ranges;
    uint64_t start;
    uint64_t limit;
    bool covers = false;

    *has_code_ret = dwarf_ranges_start(&ranges, walk->unit, &code);
    while (*has_code_ret && dwarf_ranges_next(&ranges, &start, &limit))
        covers |= claim(walk, start, limit, scope, rank);
    return covers;
}

/* Looks at a function or an inlined instance of one.
 * child: level for its children. descend_ret: whether to look at them. */
static struct error *visit_function(struct walk *walk, uint64_t die, bool is_function,
                                    struct walk_level *child, bool *descend_ret)
{
    struct dwarf_scopes *scopes = walk->scopes;
    const struct walk_level *level = &walk->levels[walk->depth];
    uint32_t nesting = is_function ? 0 : level->nesting;
    bool has_code;
    bool has_room = scopes->num < SCOPES_MAX;
    bool covers = claim_all(walk, (uint32_t)scopes->num, has_room ? nesting + 1 : 0, &has_code);

    covers |= walk->is_partial && !is_function;
    *descend_ret = covers || walk->is_thorough;
    walk->has_passed_by |= !*descend_ret;
    child->in_function = true;
    if (!covers || !has_room)
        return NULL;
    RETURN_IF_ERROR(array_reserve(&scopes->scopes, &scopes->capacity, scopes->num + 1,
                                  sizeof(*scopes->scopes)));
    child->scope = (uint32_t)scopes->num;
    child->nesting = nesting + 1;
    scopes->scopes[scopes->num++] = (struct dwarf_scope){
        .unit = walk->unit,
        .die = die,
        .parent = is_function ? DWARF_SCOPE_NONE : level->scope,
    };
    return NULL;
}

/* Looks at the DIE just scanned. */
static struct error *visit(struct walk *walk, const struct dwarf_abbrev *abbrev, uint64_t die,
                           struct walk_level *child, bool *descend_ret)
{
    bool is_function = abbrev->tag == DW_TAG_subprogram;
    bool has_code;

    *child = walk->levels[walk->depth];
    if (is_function || abbrev->tag == DW_TAG_inlined_subroutine)
        return visit_function(walk, die, is_function, child, descend_ret);
    *descend_ret = is_container(walk, abbrev->tag);
    if (abbrev->tag == DW_TAG_lexical_block && !walk->is_thorough) {
        bool covers = claim_all(walk, DWARF_SCOPE_NONE, 0, &has_code);

        *descend_ret = covers || !has_code || walk->is_partial;
    }
    return NULL;
}

static struct error *walk_unit(struct walk *walk)
{
    struct dwarf_scan *scan = &walk->scan;
    const struct dwarf_abbrev *abbrev;
    bool has_root = false;
    uint64_t die;

    walk->depth = 0;
    while (dwarf_scan_next(scan, &die, &abbrev)) {
        struct walk_level child = walk->levels[walk->depth];
        bool descend = true;

        if (!abbrev) {
            if (walk->depth <= 1)
                return NULL;
            walk->depth--;
            continue;
        }
        if (has_root)
            RETURN_IF_ERROR(visit(walk, abbrev, die, &child, &descend));
        has_root = true;
        if (!abbrev->has_children)
            continue;
        if (descend && walk->depth + 1 < SCOPES_MAX_DEPTH)
            walk->levels[++walk->depth] = child;
        else if (!dwarf_scan_skip_children(scan))
            return NULL;
    }
    return NULL;
}

static bool are_all_found(const struct walk *walk)
{
    for (size_t i = 0; i < walk->places.num; i++) {
        if (walk->found[i].rank == 0)
            return false;
    }
    return true;
}

/* DWARF 2 has no lists of ranges: gcc -gstrict-dwarf tells the first range only, or an empty one,
 * of what has several; what is inside may lie in the others.
 *
 * Functions nested in others (GNU C, Ada, lambdas of gcc) have code outside of these: for what is
 * still missing after the first walk, a second one looks everywhere. */
struct error *dwarf_scopes_walk(struct dwarf_scopes *scopes, struct dwarf_abbrevs_cache *cache,
                                struct dwarf_unit *unit, struct dwarf_places places,
                                struct dwarf_found_scope *found)
{
    CLEANUP(free) struct walk *walk = calloc(1, sizeof(*walk));

    for (size_t i = 0; i < places.num; i++)
        found[i] = (struct dwarf_found_scope){.scope = DWARF_SCOPE_NONE};
    if (!walk)
        return &error_no_memory;
    *walk = (struct walk){.scopes = scopes,
                          .unit = unit,
                          .places = places,
                          .found = found,
                          .is_partial = unit->format.version == 2,
                          .is_c = dwarf_language_is_c_family(unit->language)};
    walk->levels[0].scope = DWARF_SCOPE_NONE;
    if (!dwarf_scan_start(&walk->scan, cache, unit))
        return NULL;
    RETURN_IF_ERROR(walk_unit(walk));
    if (!walk->has_passed_by || are_all_found(walk) || !dwarf_scan_start(&walk->scan, cache, unit))
        return NULL;
    walk->is_thorough = true;
    return walk_unit(walk);
}

void dwarf_scopes_deinit(struct dwarf_scopes *scopes)
{
    free(scopes->scopes);
    *scopes = (struct dwarf_scopes){0};
}
