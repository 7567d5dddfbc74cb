#include "symbolize/split_files.h"

#include <dwarf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/log.h"
#include "symbolize/dwarf_unit.h"
#include "symbolize/dwp_index.h"
#include "symbolize/elf_file.h"
#include "symbolize/root_file.h"

/* A program of more split files than that is hostile or has a package. */
#define SPLIT_MAX_FILES 65536
/* A .dwo file holds one unit of code, a few with ThinLTO, and one for each type. */
#define SPLIT_MAX_UNITS 4096

/* An open .dwo or .dwp file. */
struct split_file {
    Elf *elf;
    struct dwarf_file dwarf;
    struct split_bytes sections[SPLIT_NUM_SECTIONS];
    struct split_file *next;
};

struct split_files {
    const struct debug_files *files;
    struct dwarf_budget *budget;
    struct split_file *opened; /* everything that bytes were given from */
    struct split_file *package;
    struct dwp_index index;
    size_t num_opened;
    bool has_looked_for_package;
};

static void split_file_close(struct split_file *file)
{
    if (!file)
        return;
    dwarf_file_deinit(&file->dwarf);
    elf_end(file->elf);
    free(file);
}

DEFINE_CLEANUP(split_file_close, struct split_file *)

static const enum dwarf_section_kind kinds[SPLIT_NUM_SECTIONS] = {
    [SPLIT_INFO] = DWARF_SECTION_INFO,         [SPLIT_ABBREV] = DWARF_SECTION_ABBREV,
    [SPLIT_LINE] = DWARF_SECTION_LINE,         [SPLIT_STR_OFFSETS] = DWARF_SECTION_STR_OFFSETS,
    [SPLIT_RNGLISTS] = DWARF_SECTION_RNGLISTS, [SPLIT_STR] = DWARF_SECTION_STR,
};

/* Finds the bytes of a section, inflating what is compressed still. */
static void read_section(struct split_file *file, enum split_section section)
{
    const struct dwarf_section *found = dwarf_file_need(&file->dwarf, kinds[section], UINT64_MAX);

    file->sections[section] =
        (struct split_bytes){.bytes = found->bytes, .num_bytes = found->num_bytes};
}

/* Opens a file with split sections. Returns: NULL or error_no_memory; file_ret stays NULL for
 * anything that is no such file. */
static struct error *split_file_open(const char *root, const char *path,
                                     struct dwarf_budget *budget, struct split_file **file_ret)
{
    CLEANUP(close) int fd = root_file_open(root, path, true, NULL);
    CLEANUP(split_file_close) struct split_file *file = NULL;

    if (fd < 0)
        return NULL;
    file = calloc(1, sizeof(*file));
    if (!file)
        return &error_no_memory;
    file->elf = elf_file_open(fd);
    /* Thousands of them may be open: the mapping is enough. */
    if (!file->elf || elf_cntl(file->elf, ELF_C_FDREAD) != 0)
        return NULL;
    dwarf_file_init(&file->dwarf, file->elf, true, budget);
    for (size_t i = 0; i < SPLIT_NUM_SECTIONS; i++)
        read_section(file, (enum split_section)i);
    if (dwarf_file_has(&file->dwarf, DWARF_SECTION_INFO))
        *file_ret = take_ptr(file);
    return NULL;
}

struct error *split_files_create(const struct debug_files *files, struct dwarf_budget *budget,
                                 struct split_files **split_ret)
{
    struct split_files *split = calloc(1, sizeof(*split));

    if (!split)
        return &error_no_memory;
    split->files = files;
    split->budget = budget;
    *split_ret = split;
    return NULL;
}

void split_files_destroy(struct split_files *split)
{
    if (!split)
        return;
    while (split->opened) {
        struct split_file *next = split->opened->next;

        split_file_close(split->opened);
        split->opened = next;
    }
    free(split);
}

/* What is done with a file that could be opened. Returns: whether it is the one looked for. */
typedef bool visit_fn(void *context, struct split_file *file);

/* One search: the rest of the path differs, what to do with a file does not. */
struct search {
    struct split_files *split;
    visit_fn *visit;
    void *context;
    bool is_found;
};

/* Tries a path below the target's root, then below ours. Returns: NULL or error_no_memory. */
static struct error *try_path(struct search *search, const char *path)
{
    struct split_files *split = search->split;
    const char *target_root = split->files->module->root ? split->files->module->root : "";
    const char *roots[] = {target_root, ""};

    for (size_t i = target_root[0] ? 0 : 1; i < ARRAY_LENGTH(roots) && !search->is_found; i++) {
        CLEANUP(split_file_close) struct split_file *file = NULL;

        if (split->num_opened >= SPLIT_MAX_FILES)
            return NULL;
        RETURN_IF_ERROR(split_file_open(roots[i], path, split->budget, &file));
        if (!file)
            continue;
        if (!search->visit(search->context, file)) {
            log_info("%s%s does not belong to %s", roots[i], path, split->files->module->path);
            continue;
        }
        log_debug("%s: split debug info in %s%s", split->files->module->path, roots[i], path);
        file->next = split->opened;
        split->opened = take_ptr(file);
        split->num_opened++;
        search->is_found = true;
    }
    return NULL;
}

/* Tries DIR/NAME. dir_bytes: length of dir. */
static struct error *try_in(struct search *search, const char *dir, size_t dir_bytes,
                            const char *name)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%.*s/%s", (int)dir_bytes, dir, name);

    if (search->is_found || dir_bytes >= PATH_MAX || length < 0 || length >= (int)sizeof(path))
        return NULL;
    return try_path(search, path);
}

static size_t dir_length(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? (size_t)(slash - path) : 0;
}

static const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* --- packages ------------------------------------------------------------------------------- */

static bool take_package(void *context, struct split_file *file)
{
    struct split_files *split = context;
    const struct dwarf_section *index =
        dwarf_file_need(&file->dwarf, DWARF_SECTION_CU_INDEX, UINT64_MAX);

    if (!index->bytes || !dwp_index_parse(index->bytes, index->num_bytes, &split->index))
        return false;
    split->package = file;
    return true;
}

/* Looks for the package of a file: beside it, and in the debug directories.
 * name_bytes: how much of the path counts, without ".debug" for example. */
static struct error *find_package_of(struct search *search, const char *path, size_t name_bytes)
{
    const struct debug_files *files = search->split->files;
    char full[PATH_MAX];
    const char *name;

    if (snprintf(full, sizeof(full), "%.*s.dwp", (int)name_bytes, path) >= (int)sizeof(full))
        return NULL;
    name = path_base(full);
    RETURN_IF_ERROR(try_in(search, full, dir_length(full), name));
    for (size_t i = 0; i < files->num_dirs; i++) {
        char below[PATH_MAX];

        if (snprintf(below, sizeof(below), "%s%s", files->dirs[i], full) < (int)sizeof(below) &&
            !search->is_found)
            RETURN_IF_ERROR(try_path(search, below));
        RETURN_IF_ERROR(try_in(search, files->dirs[i], strlen(files->dirs[i]), name));
    }
    return NULL;
}

/* Looks for NAME.dwp of the module and of its debug file, NAME or NAME.debug. */
static struct error *find_package(struct split_files *split)
{
    const struct debug_files *files = split->files;
    const char *paths[] = {files->module->path, files->debug_path};
    struct search search = {.split = split, .visit = take_package, .context = split};

    split->has_looked_for_package = true;
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        size_t length = paths[i] ? strnlen(paths[i], PATH_MAX) : 0;

        if (length == 0 || length >= PATH_MAX || paths[i][0] != '/')
            continue;
        RETURN_IF_ERROR(find_package_of(&search, paths[i], length));
        if (length > strlen(".debug") && !strcmp(paths[i] + length - strlen(".debug"), ".debug"))
            RETURN_IF_ERROR(find_package_of(&search, paths[i], length - strlen(".debug")));
    }
    return NULL;
}

/* Cuts the ranges of a unit out of the package. Returns: false when one lies outside. */
static bool cut_unit(const struct split_file *package, const struct dwp_range *ranges,
                     struct split_unit *unit)
{
    for (size_t i = 0; i < SPLIT_NUM_SECTIONS; i++) {
        const struct split_bytes *section = &package->sections[i];

        unit->sections[i] = *section;
        if (i == SPLIT_STR)
            continue;
        if (ranges[i].off > section->num_bytes ||
            ranges[i].num_bytes > section->num_bytes - ranges[i].off)
            return false;
        unit->sections[i].bytes += ranges[i].off;
        unit->sections[i].num_bytes = ranges[i].num_bytes;
    }
    unit->unit_off = 0;
    return unit->sections[SPLIT_INFO].num_bytes > 0;
}

/* --- single files --------------------------------------------------------------------------- */

/* Looks for a unit by its dwo_id. */
struct unit_search {
    uint64_t dwo_id;
    uint64_t unit_off;
};

/* Looks for the unit in the .debug_info that is in use. */
static bool find_unit(struct unit_search *search, struct split_file *file)
{
    uint64_t offset = 0;

    for (size_t i = 0; i < SPLIT_MAX_UNITS; i++) {
        struct dwarf_unit unit;
        bool is_unit = dwarf_unit_read_header(&file->dwarf, offset, &unit);

        if (unit.limit <= offset)
            return false;
        /* DWARF 5 has the id in the header, GNU's version 4 in the root. */
        if (is_unit && (unit.type == DW_UT_split_compile || unit.format.version < 5) &&
            (unit.format.version >= 5 || dwarf_unit_read_root(&unit)) &&
            unit.dwo_id == search->dwo_id) {
            search->unit_off = offset;
            return true;
        }
        offset = unit.limit;
    }
    return false;
}

static bool take_unit(void *context, struct split_file *file)
{
    for (size_t i = 0; i < SPLIT_MAX_UNITS; i++) {
        if (find_unit(context, file))
            return true;
        if (!dwarf_file_next_info(&file->dwarf, file->elf))
            return false;
        read_section(file, SPLIT_INFO);
    }
    return false;
}

/* The file as its compiler named it, then wherever moved files are found: beside the module and
 * its debug file, in the debug directories; with its folders, then without. */
static struct error *find_file(struct search *search, const struct split_request *request)
{
    const struct debug_files *files = search->split->files;
    const char *paths[] = {files->module->path, files->debug_path};
    const char *names[] = {request->name, path_base(request->name)};

    if (request->name[0] == '/')
        RETURN_IF_ERROR(try_path(search, request->name));
    else if (request->comp_dir && request->comp_dir[0] == '/')
        RETURN_IF_ERROR(
            try_in(search, request->comp_dir, strlen(request->comp_dir), request->name));
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        for (size_t j = 0; j < ARRAY_LENGTH(paths); j++) {
            if (paths[j] && paths[j][0] == '/')
                RETURN_IF_ERROR(try_in(search, paths[j], dir_length(paths[j]), names[i]));
        }
        for (size_t j = 0; j < files->num_dirs; j++)
            RETURN_IF_ERROR(try_in(search, files->dirs[j], strlen(files->dirs[j]), names[i]));
        if (names[1] == names[0])
            break;
    }
    return NULL;
}

struct error *split_files_find(struct split_files *split, const struct split_request *request,
                               struct split_unit *unit_ret, bool *is_found_ret)
{
    struct unit_search wanted = {.dwo_id = request->dwo_id};
    struct search search = {.split = split, .visit = take_unit, .context = &wanted};
    struct dwp_range ranges[SPLIT_NUM_SECTIONS];

    *is_found_ret = false;
    if (!split->has_looked_for_package)
        RETURN_IF_ERROR(find_package(split));
    if (split->package && dwp_index_find(&split->index, request->dwo_id, ranges) &&
        cut_unit(split->package, ranges, unit_ret)) {
        *is_found_ret = true;
        return NULL;
    }
    if (!request->name || !request->name[0])
        return NULL;
    RETURN_IF_ERROR(find_file(&search, request));
    if (!search.is_found)
        return NULL;
    memcpy(unit_ret->sections, split->opened->sections, sizeof(unit_ret->sections));
    unit_ret->unit_off = wanted.unit_off;
    *is_found_ret = true;
    return NULL;
}
