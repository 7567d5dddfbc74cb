#include "symbolize/dwarf_index.h"

#include <dwarf.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "symbolize/dwarf_lines.h"
#include "symbolize/dwarf_ranges.h"
#include "symbolize/split_files.h"

#define UNITS_MAX ((size_t)4 << 20)

/* The best unit for a place so far. */
struct candidate {
    uint64_t offset;
    uint64_t width; /* of the range; 0 = none yet */
};

/* The places and their candidates. */
struct search {
    struct dwarf_places places;
    struct candidate *candidates;
};

/* A split unit with the sections that belong to it. */
struct dwarf_split {
    struct dwarf_file file;
    struct dwarf_unit unit;
    struct dwarf_split *next;
};

void dwarf_index_init(struct dwarf_index *index, const struct debug_files *files,
                      struct dwarf_budget *budget)
{
    index->files = files;
    index->has_alt = files->alt != NULL;
    dwarf_file_init(&index->main.file, files->dwarf, false, budget);
    if (files->alt)
        dwarf_file_init(&index->alt.file, files->alt, false, budget);
}

static void unit_destroy(struct dwarf_unit *unit)
{
    if (!unit)
        return;
    dwarf_line_table_destroy(unit->lines);
    free(unit);
}

static void list_deinit(struct dwarf_unit_list *list)
{
    for (size_t i = 0; i < list->num; i++)
        unit_destroy(list->units[i]);
    free(list->offsets);
    free(list->units);
    dwarf_file_deinit(&list->file);
}

void dwarf_index_deinit(struct dwarf_index *index)
{
    while (index->splits) {
        struct dwarf_split *next = index->splits->next;

        dwarf_line_table_destroy(index->splits->unit.lines);
        free(index->splits);
        index->splits = next;
    }
    split_files_destroy(index->split_files);
    list_deinit(&index->main);
    list_deinit(&index->alt);
    dwarf_abbrevs_cache_deinit(&index->abbrevs);
    *index = (struct dwarf_index){0};
}

static struct error *list_add(struct dwarf_unit_list *list, uint64_t offset,
                              struct dwarf_unit *unit)
{
    RETURN_IF_ERROR(
        array_reserve(&list->offsets, &list->capacity, list->num + 1, sizeof(*list->offsets)));
    RETURN_IF_ERROR(
        array_reserve(&list->units, &list->units_capacity, list->num + 1, sizeof(*list->units)));
    list->offsets[list->num] = offset;
    list->units[list->num++] = unit;
    return NULL;
}

/* Tells the number of the last unit that starts at or before an offset; list->num when none. */
static size_t list_search(const struct dwarf_unit_list *list, uint64_t offset)
{
    struct dwarf_places starts = {.addrs = list->offsets, .num = list->num};
    size_t at = dwarf_places_from(starts, offset);

    if (at < list->num && list->offsets[at] == offset)
        return at;
    return at > 0 ? at - 1 : list->num;
}

/* Reads a unit unless that was done before. */
static struct dwarf_unit *list_load(struct dwarf_index *index, struct dwarf_unit_list *list,
                                    size_t at)
{
    struct dwarf_unit *unit = list->units[at];

    if (unit)
        return unit;
    unit = calloc(1, sizeof(*unit));
    if (!unit)
        return NULL;
    if (!dwarf_unit_read_header(&list->file, list->offsets[at], unit)) {
        free(unit);
        return NULL;
    }
    if (index->has_alt && list == &index->main)
        unit->alt = &index->alt.file;
    if (!dwarf_unit_read_root(unit)) {
        free(unit);
        return NULL;
    }
    list->units[at] = unit;
    return unit;
}

/* Takes over the units of a list that start before an offset. What .debug_aranges made up stays,
 * too: somebody may hold it. */
static struct error *list_take_before(struct dwarf_unit_list *full, struct dwarf_unit_list *list,
                                      size_t *at, uint64_t offset)
{
    while (*at < list->num && list->offsets[*at] < offset) {
        RETURN_IF_ERROR(list_add(full, list->offsets[*at], list->units[*at]));
        (*at)++;
    }
    return NULL;
}

static struct error *list_hop(struct dwarf_unit_list *full, struct dwarf_unit_list *list)
{
    uint64_t offset = 0;
    size_t old = 0;

    while (full->num < UNITS_MAX && dwarf_budget_take(list->file.budget, 1)) {
        struct dwarf_unit header;
        struct dwarf_unit *unit = NULL;

        dwarf_unit_read_header(&list->file, offset, &header);
        if (header.limit <= offset)
            break;
        RETURN_IF_ERROR(list_take_before(full, list, &old, offset));
        if (old < list->num && list->offsets[old] == offset)
            unit = list->units[old];
        RETURN_IF_ERROR(list_add(full, offset, unit));
        old += old < list->num && list->offsets[old] == offset;
        offset = header.limit;
    }
    return list_take_before(full, list, &old, UINT64_MAX);
}

/* Puts all units on the list, hopping from header to header. Those read before stay. */
static struct error *list_complete(struct dwarf_unit_list *list)
{
    struct dwarf_unit_list full = {0};
    struct error *err;

    if (list->is_full)
        return NULL;
    list->is_full = true;
    dwarf_file_need(&list->file, DWARF_SECTION_INFO, UINT64_MAX);
    err = list_hop(&full, list);
    if (err) {
        free(full.offsets);
        free(full.units);
        return err;
    }
    free(list->offsets);
    free(list->units);
    list->offsets = full.offsets;
    list->units = full.units;
    list->num = full.num;
    list->capacity = full.capacity;
    list->units_capacity = full.units_capacity;
    return NULL;
}

static void consider(struct search *search, uint64_t start, uint64_t limit, uint64_t offset)
{
    uint64_t width = limit - start;
    size_t at;

    if (!dwarf_places_within(search->places, start, limit, &at))
        return;
    for (; at < search->places.num && search->places.addrs[at] < limit; at++) {
        struct candidate *candidate = &search->candidates[at];

        if (candidate->width == 0 || width < candidate->width)
            *candidate = (struct candidate){.offset = offset, .width = width};
    }
}

/* Where the units are that .debug_aranges knows. */
struct arange_units {
    uint64_t *offsets;
    size_t num, capacity;
};

/* One set of .debug_aranges: header, padding to twice the size of an address, pairs. */
static bool read_arange_set(struct dwarf_bytes *bytes, struct search *search,
                            struct dwarf_budget *budget, uint64_t *offset_ret)
{
    const uint8_t *start = bytes->at;
    uint64_t length = dwarf_bytes_read(bytes, 4);
    size_t offset_bytes = 4;
    struct dwarf_bytes set;
    uint64_t offset;

    if (length == UINT32_MAX) {
        length = dwarf_bytes_read(bytes, 8);
        offset_bytes = 8;
    }
    if (bytes->is_bad || length > dwarf_bytes_left(bytes))
        return false;
    set = (struct dwarf_bytes){.at = bytes->at, .limit = bytes->at + length};
    bytes->at = set.limit;
    dwarf_bytes_skip(&set, 2); /* version */
    offset = dwarf_bytes_read(&set, offset_bytes);
    *offset_ret = offset;
    if (dwarf_bytes_read(&set, 1) != DWARF_ADDRESS_BYTES || dwarf_bytes_read(&set, 1) != 0)
        return true;
    dwarf_bytes_skip(&set, (size_t)(start - set.at) % (2 * DWARF_ADDRESS_BYTES));
    while (!set.is_bad && dwarf_budget_take(budget, 1)) {
        uint64_t from = dwarf_bytes_read(&set, DWARF_ADDRESS_BYTES);
        uint64_t num_bytes = dwarf_bytes_read(&set, DWARF_ADDRESS_BYTES);

        if (set.is_bad || (from == 0 && num_bytes == 0))
            break;
        if (from > 0 && num_bytes <= UINT64_MAX - from)
            consider(search, from, from + num_bytes, offset);
    }
    return true;
}

static int compare_offsets(const void *left, const void *right)
{
    const uint64_t *a = left;
    const uint64_t *b = right;

    return *a < *b ? -1 : *a > *b;
}

/* Makes a list of the units that .debug_aranges names. Returns: NULL or error_no_memory. */
static struct error *list_from_candidates(struct dwarf_unit_list *list, const struct search *search)
{
    CLEANUP(free) uint64_t *offsets = calloc(search->places.num + 1, sizeof(*offsets));
    size_t num = 0;

    if (!offsets)
        return &error_no_memory;
    for (size_t i = 0; i < search->places.num; i++) {
        if (search->candidates[i].width > 0)
            offsets[num++] = search->candidates[i].offset;
    }
    qsort(offsets, num, sizeof(*offsets), compare_offsets);
    for (size_t i = 0; i < num; i++) {
        if (i == 0 || offsets[i] != offsets[i - 1])
            RETURN_IF_ERROR(list_add(list, offsets[i], NULL));
    }
    return NULL;
}

/* Unpacks .debug_info up to the first unit behind those that are needed: no more is read, unless
 * one of them refers further. */
static void unpack_needed(struct dwarf_unit_list *list, const struct arange_units *units)
{
    uint64_t limit = UINT64_MAX;
    uint64_t last = list->num > 0 ? list->offsets[list->num - 1] : 0;

    for (size_t i = 0; i < units->num; i++) {
        if (units->offsets[i] > last && units->offsets[i] < limit)
            limit = units->offsets[i];
    }
    if (list->num > 0)
        dwarf_file_need(&list->file, DWARF_SECTION_INFO, limit);
}

/* Looks into .debug_aranges. */
static struct error *search_aranges(struct dwarf_index *index, struct search *search)
{
    struct dwarf_unit_list *list = &index->main;
    struct arange_units units = {0};
    CLEANUP(free) uint64_t *offsets = NULL; /* of units */
    struct dwarf_bytes bytes;
    uint64_t offset = 0;

    if (list->num > 0 || !dwarf_file_has(&list->file, DWARF_SECTION_ARANGES))
        return NULL;
    bytes = dwarf_file_bytes(&list->file, DWARF_SECTION_ARANGES, 0);
    while (dwarf_bytes_left(&bytes) > 0 &&
           read_arange_set(&bytes, search, list->file.budget, &offset)) {
        struct error *err =
            array_reserve(&units.offsets, &units.capacity, units.num + 1, sizeof(*units.offsets));

        offsets = units.offsets;
        if (err)
            return err;
        units.offsets[units.num++] = offset;
    }
    RETURN_IF_ERROR(list_from_candidates(list, search));
    unpack_needed(list, &units);
    return NULL;
}

/* Asks all units for their ranges. */
static struct error *search_units(struct dwarf_index *index, struct search *search)
{
    struct dwarf_unit_list *list = &index->main;

    RETURN_IF_ERROR(list_complete(list));
    for (size_t i = 0; i < list->num && dwarf_budget_take(list->file.budget, 1); i++) {
        struct dwarf_unit unit;
        struct dwarf_ranges ranges;
        uint64_t start;
        uint64_t limit;

        if (!dwarf_unit_read_header(&list->file, list->offsets[i], &unit) ||
            (unit.type != DW_UT_compile && unit.type != DW_UT_skeleton) ||
            !dwarf_unit_read_root(&unit) || !dwarf_ranges_start(&ranges, &unit, &unit.code))
            continue;
        while (dwarf_ranges_next(&ranges, &start, &limit))
            consider(search, start, limit, unit.offset);
    }
    return NULL;
}

/* Tells whether the linker has made the code at a place: no unit covers it. */
static bool is_in_plt(const struct dwarf_index *index, uint64_t elf_addr)
{
    Elf *elf = index->files->main;
    Elf_Scn *scn = NULL;
    size_t names;

    if (elf_getshdrstrndx(elf, &names) < 0)
        return false;
    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;
        const char *name;

        if (!gelf_getshdr(scn, &shdr) || elf_addr < shdr.sh_addr ||
            elf_addr - shdr.sh_addr >= shdr.sh_size || !(shdr.sh_flags & SHF_EXECINSTR))
            continue;
        name = elf_strptr(elf, names, shdr.sh_name);
        return name && !strncmp(name, ".plt", 4);
    }
    return false;
}

/* Loads the units of all places that have a candidate. Returns: the number of places that another
 * search may still find. */
static size_t load_candidates(struct dwarf_index *index, const struct search *search,
                              struct dwarf_unit **units)
{
    struct dwarf_unit_list *list = &index->main;
    size_t num_missing = 0;

    for (size_t i = 0; i < search->places.num; i++) {
        size_t at = list_search(list, search->candidates[i].offset);

        if (search->candidates[i].width > 0 && at < list->num &&
            list->offsets[at] == search->candidates[i].offset)
            units[i] = list_load(index, list, at);
        num_missing += !units[i] && !is_in_plt(index, search->places.addrs[i]);
    }
    return num_missing;
}

/* Code of one unit may lie where .debug_aranges does not look, so all places are searched again. A
 * unit of DWARF 2 can tell one range of its code, where .debug_aranges knows all: what it said
 * before is the last resort. */
struct error *dwarf_index_find(struct dwarf_index *index, struct dwarf_places places,
                               struct dwarf_unit **units)
{
    CLEANUP(free)
    struct candidate *candidates = calloc(places.num + 1, sizeof(*candidates));
    CLEANUP(free) struct candidate *from_units = NULL;
    struct search search = {.places = places, .candidates = candidates};

    if (!candidates)
        return &error_no_memory;
    RETURN_IF_ERROR(search_aranges(index, &search));
    if (!index->main.is_full && load_candidates(index, &search, units) == 0)
        return NULL;
    search.candidates = calloc(places.num + 1, sizeof(*candidates));
    from_units = search.candidates;
    if (!from_units)
        return &error_no_memory;
    memset(units, 0, places.num * sizeof(struct dwarf_unit *));
    RETURN_IF_ERROR(search_units(index, &search));
    for (size_t i = 0; i < places.num; i++) {
        if (from_units[i].width == 0)
            from_units[i] = candidates[i];
    }
    load_candidates(index, &search, units);
    return NULL;
}

struct dwarf_unit *dwarf_index_unit_at(struct dwarf_index *index, const struct dwarf_unit *unit,
                                       bool is_alt, uint64_t offset)
{
    struct dwarf_unit_list *list = is_alt ? &index->alt : &index->main;
    struct dwarf_unit *found;
    struct error *err;
    size_t at;

    if (offset >= unit->offset && offset < unit->limit && !is_alt)
        return (struct dwarf_unit *)unit;
    if (is_alt ? !index->has_alt : unit->is_split)
        return NULL; /* units of split files do not refer to each other */
    err = list_complete(list);
    if (err) {
        error_destroy(err);
        return NULL;
    }
    at = list_search(list, offset);
    if (at == list->num)
        return NULL;
    found = list_load(index, list, at);
    return found && offset < found->limit ? found : NULL;
}

/* Copies a string of the unit; NULL when there is none. */
static char *copy_string(const struct dwarf_unit *unit, const struct dwarf_value *value)
{
    size_t num_bytes;
    const char *string = dwarf_unit_string(unit, value, &num_bytes);

    return string ? strndup(string, num_bytes) : NULL;
}

static struct error *find_split(struct dwarf_index *index, struct dwarf_unit *skeleton,
                                struct split_unit *unit_ret, bool *is_found_ret)
{
    CLEANUP(free) char *name = copy_string(skeleton, &skeleton->dwo_name);
    CLEANUP(free) char *comp_dir = copy_string(skeleton, &skeleton->comp_dir);
    struct split_request request = {.dwo_id = skeleton->dwo_id, .name = name, .comp_dir = comp_dir};
    struct error *err;

    if (!index->split_files)
        RETURN_IF_ERROR(
            split_files_create(index->files, index->main.file.budget, &index->split_files));
    err = split_files_find(index->split_files, &request, unit_ret, is_found_ret);
    if (!err && !*is_found_ret)
        log_info("%s: split debug info %s is missing", index->files->module->path,
                 name ? name : "without a name");
    return err;
}

static void use_sections(struct dwarf_file *file, const struct split_unit *unit)
{
    static const enum dwarf_section_kind kinds[SPLIT_NUM_SECTIONS] = {
        [SPLIT_INFO] = DWARF_SECTION_INFO,         [SPLIT_ABBREV] = DWARF_SECTION_ABBREV,
        [SPLIT_LINE] = DWARF_SECTION_LINE,         [SPLIT_STR_OFFSETS] = DWARF_SECTION_STR_OFFSETS,
        [SPLIT_RNGLISTS] = DWARF_SECTION_RNGLISTS, [SPLIT_STR] = DWARF_SECTION_STR,
    };

    for (size_t i = 0; i < SPLIT_NUM_SECTIONS; i++)
        dwarf_file_set(file, kinds[i], unit->sections[i].bytes, unit->sections[i].num_bytes);
}

static struct dwarf_unit *read_split(struct dwarf_index *index, struct dwarf_unit *skeleton)
{
    CLEANUP(free) struct dwarf_split *split = calloc(1, sizeof(*split));
    struct split_unit bytes = {0};
    struct dwarf_unit *unit;
    bool is_found = false;
    struct error *err;

    if (!split)
        return NULL;
    err = find_split(index, skeleton, &bytes, &is_found);
    error_destroy(err); /* for want of memory: lines and symbols are still told */
    if (err || !is_found)
        return NULL;
    split->file.budget = index->main.file.budget;
    use_sections(&split->file, &bytes);
    unit = &split->unit;
    if (!dwarf_unit_read_header(&split->file, bytes.unit_off, unit))
        return NULL;
    dwarf_unit_join(unit, skeleton);
    if (!dwarf_unit_read_root(unit))
        return NULL;
    split->next = index->splits;
    index->splits = take_ptr(split);
    return unit;
}

struct dwarf_unit *dwarf_index_full_unit(struct dwarf_index *index, struct dwarf_unit *unit)
{
    bool is_skeleton =
        unit->type == DW_UT_skeleton || (unit->format.version < 5 && unit->dwo_name.form);

    if (!is_skeleton)
        return unit;
    if (!unit->is_split_searched) {
        unit->is_split_searched = true;
        unit->split = read_split(index, unit);
    }
    return unit->split;
}
