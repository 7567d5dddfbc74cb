#include "symbolize/dwarf_names.h"

#include <dwarf.h>
#include <string.h>

#include "symbolize/dwarf_scan.h"

#define PARENTS_MAX 64
#define QUALIFIED_MAX_BYTES ((size_t)1024) /* of what is put before a name */
#define QUALIFIED_MAX_DEPTH 8 /* functions within members of classes within functions */
#define ORIGIN_MAX_STEPS 16   /* abstract_origin -> specification -> ...: 3 in practice */

/* The attributes of a function that matter. */
enum wanted {
    WANTED_NAME,
    WANTED_LINKAGE_NAME,
    WANTED_DECL_FILE,
    WANTED_DECL_LINE,
    WANTED_CALL_FILE,
    WANTED_CALL_LINE,
    WANTED_ARTIFICIAL,
    WANTED_ORIGIN, /* not inherited from here on */
    WANTED_SPECIFICATION,
    WANTED_NUM,
};

/* A value and the unit that can tell what it means. */
struct found {
    struct dwarf_value value; /* form 0: not found */
    struct dwarf_unit *unit;
    uint64_t die;
};

static enum wanted wanted_of(unsigned name)
{
    switch (name) {
    case DW_AT_name:
        return WANTED_NAME;
    case DW_AT_linkage_name:
    case DW_AT_MIPS_linkage_name:
        return WANTED_LINKAGE_NAME;
    case DW_AT_decl_file:
        return WANTED_DECL_FILE;
    case DW_AT_decl_line:
        return WANTED_DECL_LINE;
    case DW_AT_call_file:
        return WANTED_CALL_FILE;
    case DW_AT_call_line:
        return WANTED_CALL_LINE;
    case DW_AT_artificial:
        return WANTED_ARTIFICIAL;
    case DW_AT_abstract_origin:
        return WANTED_ORIGIN;
    case DW_AT_specification:
        return WANTED_SPECIFICATION;
    default:
        return WANTED_NUM;
    }
}

/* Reads the wanted attributes of one DIE that are not known yet. */
static void read_die(struct dwarf_index *index, struct dwarf_unit *unit, uint64_t die,
                     struct found *found)
{
    const struct dwarf_abbrevs *abbrevs =
        dwarf_abbrevs_get(&index->abbrevs, unit->file, unit->abbrev_offset, unit->format);
    struct dwarf_bytes bytes = dwarf_unit_bytes(unit, die);
    uint64_t code = dwarf_bytes_read_uleb(&bytes);
    const struct dwarf_abbrev *abbrev;

    if (!abbrevs || bytes.is_bad)
        return;
    abbrev = dwarf_abbrevs_find(abbrevs, code);
    for (uint32_t i = 0; abbrev && i < abbrev->num_attrs; i++) {
        const struct dwarf_abbrev_attr *attr = &abbrevs->attrs[abbrev->first_attr + i];
        enum wanted wanted = wanted_of(attr->name);
        struct dwarf_value value;

        if (!dwarf_budget_take(unit->file->budget, 1))
            return;
        if (wanted == WANTED_NUM || found[wanted].value.form) {
            if (!dwarf_form_skip(&bytes, attr->form, unit->format))
                return;
            continue;
        }
        if (!dwarf_form_read(&bytes, attr->form, attr->implicit, unit->format, &value))
            return;
        found[wanted] = (struct found){.value = value, .unit = unit, .die = die};
    }
}

/* Finds the DIE that a reference means. Returns: its unit, NULL when it leads nowhere. */
static struct dwarf_unit *follow(struct dwarf_index *index, const struct found *reference,
                                 uint64_t *die_ret)
{
    struct dwarf_unit *unit = reference->unit;

    *die_ret = reference->value.number;
    switch (reference->value.form) {
    case DW_FORM_ref1:
    case DW_FORM_ref2:
    case DW_FORM_ref4:
    case DW_FORM_ref8:
    case DW_FORM_ref_udata:
        if (__builtin_add_overflow(*die_ret, unit->offset, die_ret) || *die_ret >= unit->limit)
            return NULL;
        return unit;
    case DW_FORM_ref_addr:
        return dwarf_index_unit_at(index, unit, false, *die_ret);
    case DW_FORM_GNU_ref_alt:
    case DW_FORM_ref_sup4:
    case DW_FORM_ref_sup8:
        return dwarf_index_unit_at(index, unit, true, *die_ret);
    default:
        return NULL;
    }
}

static void read_all(struct dwarf_index *index, struct dwarf_unit *unit, uint64_t die,
                     struct found *found)
{
    for (int step = 0; unit && step < ORIGIN_MAX_STEPS; step++) {
        struct found link;

        found[WANTED_ORIGIN].value.form = 0;
        found[WANTED_SPECIFICATION].value.form = 0;
        read_die(index, unit, die, found);
        link = found[WANTED_ORIGIN].value.form ? found[WANTED_ORIGIN] : found[WANTED_SPECIFICATION];
        unit = link.value.form ? follow(index, &link, &die) : NULL;
    }
}

/* Copies a string; "" when there is none, NULL when out of memory. */
static const char *string_of(const struct found *found, struct arena *arena)
{
    size_t num_bytes;
    const char *string =
        found->value.form ? dwarf_unit_string(found->unit, &found->value, &num_bytes) : NULL;

    return string ? arena_copy(arena, string, num_bytes) : "";
}

static int64_t number_of(const struct found *found)
{
    return found->value.form && found->value.number <= INT32_MAX ? (int64_t)found->value.number : 0;
}

struct dwarf_line_table *dwarf_unit_lines(struct dwarf_unit *unit)
{
    if (!unit->is_lines_read) {
        struct error *err = dwarf_line_table_create(unit, &unit->lines);

        unit->is_lines_read = true;
        error_destroy(err); /* out of memory for one unit: names are still told */
    }
    if (!unit->lines && unit->skeleton)
        return dwarf_unit_lines(unit->skeleton);
    return unit->lines;
}

/* Languages in which functions are members of something, and one that the linker does not see has
 * but its plain name in DW_AT_name. */
static bool has_qualified_names(int language)
{
    switch (language) {
    case DW_LANG_C_plus_plus:
    case DW_LANG_C_plus_plus_03:
    case DW_LANG_C_plus_plus_11:
    case DW_LANG_C_plus_plus_14:
    case DW_LANG_Rust:
    case 0x2b: /* DW_LANG_C_plus_plus_17 */
    case 0x2e: /* DW_LANG_C_plus_plus_20 */
        return true;
    default:
        return false;
    }
}

/* What is around a DIE, from the outermost on. */
struct parents {
    struct {
        uint64_t die;
        uint16_t tag;
    } levels[PARENTS_MAX];
    size_t num;
};

/* Finds what is around a DIE: moves towards it from the root of the unit, over all that ends
 * before. Returns: false when it is not there. */
static bool find_parents(struct dwarf_index *index, const struct found *name,
                         struct parents *parents)
{
    const struct dwarf_abbrev *abbrev;
    struct dwarf_scan scan;
    uint64_t die;

    parents->num = 0;
    if (!dwarf_scan_start(&scan, &index->abbrevs, name->unit))
        return false;
    while (dwarf_scan_next(&scan, &die, &abbrev) && die <= name->die) {
        uint64_t sibling;

        if (die == name->die)
            return abbrev != NULL;
        if (!abbrev && parents->num == 0)
            return false;
        if (!abbrev) {
            parents->num--;
            continue;
        }
        if (!abbrev->has_children)
            continue;
        sibling = dwarf_scan_sibling(&scan);
        if (sibling > 0 && sibling <= name->die) {
            scan.bytes.at = scan.section + sibling;
            continue;
        }
        if (parents->num == PARENTS_MAX)
            return false;
        parents->levels[parents->num].die = die;
        parents->levels[parents->num++].tag = abbrev->tag;
    }
    return false;
}

/* What stands for a nameless parent. Returns: NULL for what is no part of a name. */
static const char *nameless(uint16_t tag)
{
    switch (tag) {
    case DW_TAG_namespace:
        return "(anonymous namespace)";
    case DW_TAG_class_type:
    case DW_TAG_structure_type:
        return "(anonymous class)";
    case DW_TAG_union_type:
        return "(anonymous union)";
    case DW_TAG_enumeration_type:
    case DW_TAG_subprogram:
        return "(anonymous)";
    default:
        return NULL;
    }
}

/* What is put before a name. */
struct prefix {
    char text[QUALIFIED_MAX_BYTES];
    size_t num_bytes;
};

/* Appends "part::" as far as there is room. */
static void prefix_add(struct prefix *prefix, const char *part, size_t part_bytes)
{
    if (part_bytes + 2 > sizeof(prefix->text) - prefix->num_bytes)
        return;
    memcpy(prefix->text + prefix->num_bytes, part, part_bytes);
    prefix->num_bytes += part_bytes;
    prefix->text[prefix->num_bytes++] = ':';
    prefix->text[prefix->num_bytes++] = ':';
}

static void prefix_add_parents(struct dwarf_index *index, const struct found *name,
                               const char *innermost, int depth, struct prefix *prefix);

/* Appends one parent. A member function that is defined outside of its class is declared inside:
 * what is around the declaration counts. */
static void prefix_add_parent(struct dwarf_index *index, struct dwarf_unit *unit, uint64_t die,
                              const char *if_nameless, int depth, struct prefix *prefix)
{
    struct found found[WANTED_NUM] = {0};
    const struct found *name = &found[WANTED_NAME];
    const char *part;
    size_t part_bytes;

    read_all(index, unit, die, found);
    if (!name->value.form) {
        prefix_add(prefix, if_nameless, strlen(if_nameless));
        return;
    }
    if (name->die != die) {
        prefix->num_bytes = 0;
        prefix_add_parents(index, name, NULL, depth + 1, prefix);
    }
    part = dwarf_unit_string(name->unit, &name->value, &part_bytes);
    if (part)
        prefix_add(prefix, part, part_bytes);
}

/* Appends all that is around a name. innermost: what the nearest parent is called when it has no
 * name; NULL = as usual. */
static void prefix_add_parents(struct dwarf_index *index, const struct found *name,
                               const char *innermost, int depth, struct prefix *prefix)
{
    struct parents parents;

    if (depth > QUALIFIED_MAX_DEPTH || !find_parents(index, name, &parents))
        return;
    /* Level 0 is the unit. */
    for (size_t i = 1; i < parents.num; i++) {
        const char *if_nameless = nameless(parents.levels[i].tag);

        if (if_nameless && innermost && i + 1 == parents.num)
            if_nameless = innermost;
        if (if_nameless)
            prefix_add_parent(index, name->unit, parents.levels[i].die, if_nameless, depth, prefix);
    }
}

/* Makes "namespace::class::function" of a name. Returns: it; NULL when out of memory. */
static const char *qualified_name(struct dwarf_index *index, const struct found *found,
                                  struct arena *arena)
{
    static const char call[] = "operator()";
    const struct found *name = &found[WANTED_NAME];
    struct prefix prefix = {.num_bytes = 0};
    size_t name_bytes;
    const char *plain = dwarf_unit_string(name->unit, &name->value, &name_bytes);
    bool is_lambda;
    char *qualified;

    if (!plain)
        return "";
    /* gcc: the function of a lambda is an artificial member of a nameless class. */
    is_lambda = found[WANTED_ARTIFICIAL].value.form && name_bytes == sizeof(call) - 1 &&
                !memcmp(plain, call, name_bytes);
    prefix_add_parents(index, name, is_lambda ? "{lambda}" : NULL, 0, &prefix);
    qualified = arena_alloc(arena, prefix.num_bytes + name_bytes + 1);
    if (!qualified)
        return NULL;
    memcpy(qualified, prefix.text, prefix.num_bytes);
    memcpy(qualified + prefix.num_bytes, plain, name_bytes);
    qualified[prefix.num_bytes + name_bytes] = '\0';
    return qualified;
}

static const char *name_of(struct dwarf_index *index, const struct found *found,
                           struct arena *arena)
{
    const struct found *name = &found[WANTED_NAME];

    if (name->value.form && !found[WANTED_LINKAGE_NAME].value.form &&
        has_qualified_names(name->unit->language))
        return qualified_name(index, found, arena);
    return string_of(name, arena);
}

static const char *path_of(const struct found *found, struct arena *arena)
{
    struct dwarf_line_table *lines = found->value.form ? dwarf_unit_lines(found->unit) : NULL;

    return lines ? dwarf_line_table_path(lines, found->value.number, arena) : "";
}

struct dwarf_function *dwarf_function_read(struct dwarf_index *index, struct dwarf_unit *unit,
                                           uint64_t die, struct arena *arena)
{
    struct dwarf_function *function = arena_alloc(arena, sizeof(*function));
    struct found found[WANTED_NUM] = {0};

    if (!function)
        return NULL;
    read_all(index, unit, die, found);
    *function = (struct dwarf_function){
        .name = name_of(index, found, arena),
        .linkage_name = string_of(&found[WANTED_LINKAGE_NAME], arena),
        .decl_path = path_of(&found[WANTED_DECL_FILE], arena),
        .call_path = path_of(&found[WANTED_CALL_FILE], arena),
        .decl_line = number_of(&found[WANTED_DECL_LINE]),
        .call_line = number_of(&found[WANTED_CALL_LINE]),
    };
    return function->name && function->linkage_name && function->decl_path && function->call_path
               ? function
               : NULL;
}
