#include "symbolize/mapping_files.h"

#include <ctype.h>
#include <dirent.h>
#include <gelf.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/hash_index.h"
#include "base/log.h"
#include "symbolize/debug_server.h"
#include "symbolize/elf_file.h"
#include "symbolize/root_file.h"
#include "symbolize/symbolize.h"

#define SYSTEM_DEBUG_DIR "/usr/lib/debug"
#define PATH_BYTES 4352        /* PATH_MAX and a file name */
#define MAX_FOLDER_FILES 65536 /* looked at in one debug directory */
#define PAGE_MASK ((uint64_t)4095)

/* A build-id as bytes. */
struct build_id {
    uint8_t bytes[GO_BUILD_ID_LENGTH + 1]; /* room for either kind */
    size_t num_bytes;                      /* 0 = none */
    bool is_go;                            /* Go's own: text */
};

_Static_assert(ELF_FILE_MAX_BUILD_ID_BYTES <= GO_BUILD_ID_LENGTH, "room for either kind");

/* By what a file can be known. */
struct identity {
    struct build_id gnu;
    struct build_id go;
    bool is_debug_only;
};

/* A file in one of the folders. */
struct folder_file {
    struct identity identity;
    char *path;
};

/* What one build-id led to; found once for all mappings that have it. */
struct answer {
    uint32_t build_id; /* string id */
    enum mapping_file_status status;
    struct module *module;
    bool is_debug_only;
};

/* One look for the file of a mapping. */
struct hunt {
    struct build_id id;
    char executable[PATH_BYTES]; /* path of the best so far; "" none */
    char debug[PATH_BYTES];      /* path of a separate debug file; "" none */
    bool has_other_build;
};

struct finder {
    struct stack_table *table;
    struct module_table *modules;
    const struct mapping_files_options *options;
    char **dirs; /* of the user, then the system's */
    size_t num_dirs, dirs_capacity;
    size_t num_user_dirs;
    bool has_folders; /* those of the user were read */
    struct folder_file *files;
    size_t num_files, files_capacity;
    struct hash_index file_index; /* by build-id */
    struct answer *answers;
    size_t num_answers, answers_capacity;
    struct hash_index answer_index; /* by string id */
    struct hunt *hunt;
};

static void finder_deinit(struct finder *finder)
{
    for (size_t i = 0; i < finder->num_dirs; i++)
        free(finder->dirs[i]);
    for (size_t i = 0; i < finder->num_files; i++)
        free(finder->files[i].path);
    free(finder->dirs);
    free(finder->files);
    free(finder->answers);
    free(finder->hunt);
    hash_index_deinit(&finder->file_index);
    hash_index_deinit(&finder->answer_index);
}

static bool is_late(const struct finder *finder)
{
    return finder->options->deadline_ns && clock_monotonic_ns() >= finder->options->deadline_ns;
}

/* --- build-ids ------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads hex. Returns: false when the text is none. */
static bool build_id_parse_hex(const char *text, struct build_id *id)
{
    size_t length = strnlen(text, 2 * sizeof(id->bytes) + 1);

    if (length < 4 || length % 2 != 0 || length > 2 * sizeof(id->bytes))
        return false;
    for (size_t i = 0; i < length; i += 2) {
        int high = hex_digit(text[i]);
        int low = hex_digit(text[i + 1]);

        if (high < 0 || low < 0)
            return false;
        id->bytes[i / 2] = (uint8_t)(high << 4 | low);
    }
    id->num_bytes = length / 2;
    return true;
}

/* Reads the build-id of a mapping: hex, or Go's own, as text or (so other tools have it) its bytes
 * in hex. Returns: false when it is none of these. */
static bool build_id_parse(const char *text, struct build_id *id)
{
    size_t length = strnlen(text, sizeof(id->bytes));

    if (go_build_id_is_unique(text, length)) {
        memcpy(id->bytes, text, length);
        id->num_bytes = length;
    } else if (!build_id_parse_hex(text, id)) {
        return false;
    }
    id->is_go = go_build_id_is_unique((const char *)id->bytes, id->num_bytes);
    return id->is_go || id->num_bytes <= ELF_FILE_MAX_BUILD_ID_BYTES;
}

/* Compares the build-id of a file with that of a profile, where old perf fills short ones up with
 * zeros to 20 bytes. */
static bool build_id_equals(const struct build_id *of_file, const struct build_id *of_profile)
{
    if (of_file->num_bytes == 0 || of_file->num_bytes > of_profile->num_bytes ||
        memcmp(of_file->bytes, of_profile->bytes, of_file->num_bytes) != 0)
        return false;
    for (size_t i = of_file->num_bytes; i < of_profile->num_bytes; i++)
        if (of_profile->bytes[i] != 0 || of_profile->num_bytes != 20)
            return false;
    return true;
}

/* Tells whether an ELF file holds debug information but no code: objcopy --only-keep-debug. */
static bool elf_is_debug_only(Elf *elf)
{
    Elf_Scn *scn = NULL;
    bool has_code = false;

    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;

        if (!gelf_getshdr(scn, &shdr) || !(shdr.sh_flags & SHF_EXECINSTR))
            continue;
        if (shdr.sh_type != SHT_NOBITS)
            return false;
        has_code = true;
    }
    return has_code;
}

/* Compares the build-id of a file with that of a profile, kind by kind. */
static bool identity_fits(const struct identity *of_file, const struct build_id *of_profile)
{
    return build_id_equals(of_profile->is_go ? &of_file->go : &of_file->gnu, of_profile);
}

/* Reads the build-ids of the file at `path`. Returns: false when it is no readable ELF file. */
static bool file_identify(const char *path, struct identity *identity)
{
    CLEANUP(close) int fd = root_file_open("", path, true, NULL);
    Elf *elf = fd < 0 ? NULL : elf_file_open(fd);

    if (!elf)
        return false;
    identity->gnu.num_bytes = elf_file_build_id(elf, identity->gnu.bytes);
    if (elf_file_go_build_id(elf, (char *)identity->go.bytes))
        identity->go.num_bytes = GO_BUILD_ID_LENGTH;
    identity->is_debug_only = elf_is_debug_only(elf);
    elf_end(elf);
    return true;
}

/* --- places to look at ---------------------------------------------------------------------- */

static bool hunt_is_over(const struct hunt *hunt)
{
    return hunt->executable[0] != '\0';
}

/* Looks at one path. is_own: it is the mapping's own, where another build is worth telling. */
static void hunt_try(struct hunt *hunt, const char *path, bool is_own)
{
    struct identity found = {0};

    if (!file_identify(path, &found))
        return;
    if (!identity_fits(&found, &hunt->id)) {
        log_info("%s has another build-id", path);
        hunt->has_other_build |= is_own;
        return;
    }
    if (found.is_debug_only && !hunt->debug[0])
        snprintf(hunt->debug, sizeof(hunt->debug), "%s", path);
    else if (!found.is_debug_only && !hunt->executable[0])
        snprintf(hunt->executable, sizeof(hunt->executable), "%s", path);
}

static void hunt_tryf(struct hunt *hunt, const char *format, ...) PRINTF_LIKE(2, 3);

static void hunt_tryf(struct hunt *hunt, const char *format, ...)
{
    char path[PATH_BYTES];
    va_list args;
    int length;

    if (hunt_is_over(hunt))
        return;
    va_start(args, format);
    length = vsnprintf(path, sizeof(path), format, args);
    va_end(args);
    if (length > 0 && (size_t)length < sizeof(path))
        hunt_try(hunt, path, false);
}

static const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* The names of files in trees of gdb and in the cache of debuginfod. */
static void hunt_in_tree(struct hunt *hunt, const char *dir)
{
    char hex[2 * ELF_FILE_MAX_BUILD_ID_BYTES + 1];

    for (size_t i = 0; i < hunt->id.num_bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", hunt->id.bytes[i]);
    hunt_tryf(hunt, "%s/.build-id/%.2s/%s", dir, hex, hex + 2);
    hunt_tryf(hunt, "%s/.build-id/%.2s/%s.debug", dir, hex, hex + 2);
    hunt_tryf(hunt, "%s/%.2s/%s.debug", dir, hex, hex + 2);
    hunt_tryf(hunt, "%s/%s/executable", dir, hex);
    hunt_tryf(hunt, "%s/%s/debuginfo", dir, hex);
}

/* The names by which a file may lie in a debug directory: in a tree, a copy of the root directory,
 * a plain folder. */
static void hunt_in_dir(struct hunt *hunt, const char *dir, const char *path)
{
    if (!hunt->id.is_go)
        hunt_in_tree(hunt, dir);
    if (path[0] == '/') {
        hunt_tryf(hunt, "%s%s", dir, path);
        hunt_tryf(hunt, "%s%s.debug", dir, path);
    }
    if (path_base(path)[0]) {
        hunt_tryf(hunt, "%s/%s", dir, path_base(path));
        hunt_tryf(hunt, "%s/%s.debug", dir, path_base(path));
    }
}

static uint64_t build_id_hash(const struct build_id *id, size_t num_bytes)
{
    return hash_bytes(id->bytes, num_bytes);
}

/* Enters the next file of finder->files under one of its build-ids. */
static struct error *folder_index(struct finder *finder, const struct build_id *id)
{
    if (id->num_bytes == 0)
        return NULL;
    return hash_index_insert(&finder->file_index, build_id_hash(id, id->num_bytes),
                             (uint32_t)finder->num_files);
}

static struct error *folder_add(struct finder *finder, const char *dir, const char *name)
{
    struct folder_file file = {0};
    const struct identity *identity = &file.identity;
    struct error *err;

    if (asprintf(&file.path, "%s/%s", dir, name) < 0)
        return &error_no_memory;
    if (!file_identify(file.path, &file.identity) ||
        identity->gnu.num_bytes + identity->go.num_bytes == 0) {
        free(file.path);
        return NULL;
    }
    err = array_reserve(&finder->files, &finder->files_capacity, finder->num_files + 1,
                        sizeof(*finder->files));
    if (!err)
        err = folder_index(finder, &identity->gnu);
    if (!err)
        err = folder_index(finder, &identity->go);
    if (err)
        free(file.path);
    else
        finder->files[finder->num_files++] = file;
    return err;
}

/* Reads the build-ids of all files that lie directly in the user's directories, once. */
static struct error *folders_read(struct finder *finder)
{
    finder->has_folders = true;
    for (size_t i = 0; i < finder->num_user_dirs; i++) {
        CLEANUP(closedir) DIR *dir = opendir(finder->dirs[i]);
        const struct dirent *entry;
        size_t num_files = 0;

        while (dir && (entry = readdir(dir)) && num_files++ < MAX_FOLDER_FILES && !is_late(finder))
            if (entry->d_type == DT_REG || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN)
                RETURN_IF_ERROR(folder_add(finder, finder->dirs[i], entry->d_name));
    }
    return NULL;
}

/* Looks for a file of any name in the folders. */
static struct error *hunt_in_folders(struct finder *finder, struct hunt *hunt)
{
    if (!finder->has_folders)
        RETURN_IF_ERROR(folders_read(finder));
    for (size_t length = hunt->id.num_bytes; length >= 2; length--) {
        struct hash_index_cursor cursor =
            hash_index_first(&finder->file_index, build_id_hash(&hunt->id, length));
        uint32_t item;

        while (hash_index_next(&finder->file_index, &cursor, &item))
            if (item < finder->num_files && identity_fits(&finder->files[item].identity, &hunt->id))
                hunt_try(hunt, finder->files[item].path, false);
        if (hunt->id.bytes[length - 1] != 0)
            break; /* only zeros at the end can be padding */
    }
    return NULL;
}

/* --- modules -------------------------------------------------------------------------------- */

/* A debug file alone tells where code was linked, not where it lay in the file: what objcopy keeps
 * of the offsets is worthless. The mapping tells: the kernel maps whole pages of one segment, so
 * the segment is the one that has the mapping's size, or (in files whose offsets equal their
 * addresses, as GNU ld makes them) its offset. */
static bool debug_segment_fits(const struct mapping *mapping, const GElf_Phdr *phdr, uint64_t base)
{
    uint64_t first = phdr->p_vaddr & ~PAGE_MASK;
    uint64_t limit = (phdr->p_vaddr + phdr->p_memsz + PAGE_MASK) & ~PAGE_MASK;

    return limit - first == mapping->limit - mapping->start || first - base == mapping->file_off;
}

/* Finds the one executable segment that a mapping can be of. Returns: false when there is none, or
 * two that nobody can tell apart. */
static bool debug_segment_find(Elf *elf, const struct mapping *mapping, GElf_Phdr *found)
{
    size_t num_phdrs = 0;
    size_t num_fits = 0;
    uint64_t base = UINT64_MAX;
    GElf_Phdr phdr;

    if (elf_getphdrnum(elf, &num_phdrs) < 0)
        return false;
    for (int i = 0; i < (int)num_phdrs; i++) {
        if (!gelf_getphdr(elf, i, &phdr) || phdr.p_type != PT_LOAD ||
            phdr.p_vaddr > UINT64_MAX / 2 || phdr.p_memsz > UINT64_MAX / 4)
            continue;
        if ((phdr.p_vaddr & ~PAGE_MASK) < base)
            base = phdr.p_vaddr & ~PAGE_MASK;
        if ((phdr.p_flags & PF_X) && debug_segment_fits(mapping, &phdr, base)) {
            *found = phdr;
            num_fits++;
        }
    }
    return num_fits == 1;
}

/* Gives the module of a debug file the segment that the mapping is of. */
static struct error *module_add_debug_segment(struct module *module, const struct mapping *mapping)
{
    size_t capacity = module->num_segments;
    struct module_segment *segment;
    GElf_Phdr phdr;

    if (!debug_segment_find(module->elf, mapping, &phdr))
        return NULL;
    for (size_t i = 0; i < module->num_segments; i++)
        if (module->segments[i].elf_addr == phdr.p_vaddr)
            return NULL;
    RETURN_IF_ERROR(array_reserve(&module->segments, &capacity, module->num_segments + 1,
                                  sizeof(*module->segments)));
    segment = &module->segments[module->num_segments++];
    *segment = (struct module_segment){
        .file_off = mapping->file_off + (phdr.p_vaddr & PAGE_MASK),
        .file_bytes = phdr.p_memsz,
        .elf_addr = phdr.p_vaddr,
        .mem_bytes = phdr.p_memsz,
        .is_executable = true,
    };
    return NULL;
}

/* Opens what a hunt has found. answer: gets the module, unless it is not usable after all. */
static struct error *hunt_open(struct finder *finder, const struct hunt *hunt,
                               struct answer *answer)
{
    const char *path = hunt->executable[0] ? hunt->executable : hunt->debug;
    struct module *module;

    RETURN_IF_ERROR(module_table_open_path(finder->modules, path, &module));
    if (!module->elf)
        return NULL;
    answer->is_debug_only = !hunt->executable[0];
    if (answer->is_debug_only)
        module->num_segments = 0; /* what its program headers say is not so */
    if (!answer->is_debug_only && hunt->debug[0] && !module->debug_path) {
        module->debug_path = strdup(hunt->debug);
        if (!module->debug_path)
            return &error_no_memory;
    }
    log_info("taking %s", path);
    answer->module = module;
    answer->status = MAPPING_FILE_FOUND;
    return NULL;
}

/* --- one mapping ---------------------------------------------------------------------------- */

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Tells whether a mapping's name is that of a file. Source: proc(5), perf's and pprof's habits. */
static bool is_file_name(const char *path)
{
    static const char *const others[] = {"[",     "//anon",         "/memfd:",    "/dev/zero",
                                         "/SYSV", "/anon_hugepage", "anon_inode:"};

    for (size_t i = 0; i < ARRAY_LENGTH(others); i++)
        if (starts_with(path, others[i]))
            return false;
    return true;
}

/* Copies a path without what the kernel says of deleted files. path: room for PATH_BYTES. */
static void plain_path(const struct finder *finder, const struct mapping *mapping, char *path)
{
    static const char deleted[] = " (deleted)";
    const char *text = string_table_get(&finder->table->strings, mapping->path);
    size_t length;

    snprintf(path, PATH_BYTES, "%s", strlen(text) < PATH_BYTES ? text : "");
    length = strlen(path);
    if (length > sizeof(deleted) && strcmp(path + length - sizeof(deleted) + 1, deleted) == 0)
        path[length - sizeof(deleted) + 1] = '\0';
}

/* Asks the server for what is not here: the debug file, else the executable, whose symbols are
 * better than nothing. fd: keeps it open until it is a module. */
static void hunt_at_server(struct finder *finder, struct hunt *hunt, const char *path, int *fd)
{
    static const enum debug_server_kind kinds[] = {DEBUG_SERVER_DEBUG_FILE,
                                                   DEBUG_SERVER_EXECUTABLE};

    for (size_t i = 0; i < ARRAY_LENGTH(kinds) && !hunt->debug[0] && !hunt_is_over(hunt); i++) {
        char name[40];

        if (*fd >= 0)
            close(take_fd(fd));
        *fd = debug_server_fetch(finder->options->server, kinds[i], hunt->id.bytes,
                                 hunt->id.num_bytes, path);
        if (*fd < 0)
            continue;
        snprintf(name, sizeof(name), "/proc/self/fd/%d", *fd);
        hunt_try(hunt, name, false);
    }
}

/* Goes through all places where a file with this build-id may be. */
static struct error *find_by_build_id(struct finder *finder, const char *path,
                                      struct answer *answer)
{
    struct hunt *hunt = finder->hunt;
    CLEANUP(close) int fd = -1;

    if (path[0] == '/')
        hunt_try(hunt, path, true);
    for (size_t i = 0; i < finder->num_dirs && !hunt_is_over(hunt); i++)
        hunt_in_dir(hunt, finder->dirs[i], path);
    if (!hunt_is_over(hunt) || !hunt->debug[0])
        RETURN_IF_ERROR(hunt_in_folders(finder, hunt));
    if (finder->options->server && !hunt->id.is_go && !hunt_is_over(hunt) && !hunt->debug[0])
        hunt_at_server(finder, hunt, path, &fd);
    answer->status = hunt->has_other_build ? MAPPING_FILE_OTHER_BUILD : MAPPING_FILE_MISSING;
    if (!hunt->executable[0] && !hunt->debug[0])
        return NULL;
    return hunt_open(finder, hunt, answer);
}

static struct error *find_unverified(struct finder *finder, const char *path, struct answer *answer)
{
    answer->status = MAPPING_FILE_NO_BUILD_ID;
    if (!finder->options->unverified || path[0] != '/')
        return NULL;
    answer->status = MAPPING_FILE_MISSING;
    RETURN_IF_ERROR(module_table_open_path(finder->modules, path, &answer->module));
    if (!answer->module->elf)
        answer->module = NULL;
    else
        answer->status = MAPPING_FILE_FOUND;
    return NULL;
}

static bool answer_find(const struct finder *finder, uint32_t build_id, struct answer *answer)
{
    struct hash_index_cursor cursor =
        hash_index_first(&finder->answer_index, hash_combine(0, build_id));
    uint32_t item;

    while (build_id && hash_index_next(&finder->answer_index, &cursor, &item)) {
        if (finder->answers[item].build_id != build_id)
            continue;
        *answer = finder->answers[item];
        return true;
    }
    return false;
}

static struct error *answer_keep(struct finder *finder, const struct answer *answer)
{
    RETURN_IF_ERROR(array_reserve(&finder->answers, &finder->answers_capacity,
                                  finder->num_answers + 1, sizeof(*answer)));
    RETURN_IF_ERROR(hash_index_insert(&finder->answer_index, hash_combine(0, answer->build_id),
                                      (uint32_t)finder->num_answers));
    finder->answers[finder->num_answers++] = *answer;
    return NULL;
}

static struct error *find_one(struct finder *finder, struct mapping *mapping,
                              enum mapping_file_status *status_ret)
{
    const char *hex = string_table_get(&finder->table->strings, mapping->build_id);
    struct answer answer = {.build_id = mapping->build_id, .status = MAPPING_FILE_MISSING};
    char path[PATH_BYTES];

    plain_path(finder, mapping, path);
    memset(finder->hunt, 0, sizeof(*finder->hunt));
    if (!is_file_name(path) || (!path[0] && !mapping->build_id)) {
        answer.status = MAPPING_FILE_NONE;
    } else if (!build_id_parse(hex, &finder->hunt->id)) {
        RETURN_IF_ERROR(find_unverified(finder, path, &answer));
    } else if (!answer_find(finder, mapping->build_id, &answer) && !is_late(finder)) {
        RETURN_IF_ERROR(find_by_build_id(finder, path, &answer));
        RETURN_IF_ERROR(answer_keep(finder, &answer));
    }
    if (answer.module) {
        if (answer.is_debug_only)
            RETURN_IF_ERROR(module_add_debug_segment(answer.module, mapping));
        mapping->module = answer.module->id;
        mapping->kind = MAPPING_FILE;
    }
    *status_ret = answer.status;
    return NULL;
}

static struct error *dirs_add(struct finder *finder, const char *dir, size_t num_bytes)
{
    CLEANUP(free) char *given = strndup(dir, num_bytes);
    char *absolute;

    if (!given)
        return &error_no_memory;
    absolute = realpath(given, NULL);
    if (!absolute)
        return NULL; /* not there: nothing in it */
    RETURN_IF_ERROR(array_reserve(&finder->dirs, &finder->dirs_capacity, finder->num_dirs + 1,
                                  sizeof(*finder->dirs)));
    finder->dirs[finder->num_dirs++] = absolute;
    return NULL;
}

static struct error *finder_init(struct finder *finder)
{
    const char *list = finder->options->debug_dir;

    hash_index_init(&finder->file_index);
    hash_index_init(&finder->answer_index);
    finder->hunt = calloc(1, sizeof(*finder->hunt));
    if (!finder->hunt)
        return &error_no_memory;
    while (list && *list) {
        size_t num_bytes = strcspn(list, ":");

        if (num_bytes > 0)
            RETURN_IF_ERROR(dirs_add(finder, list, num_bytes));
        list += num_bytes + (list[num_bytes] == ':');
    }
    finder->num_user_dirs = finder->num_dirs;
    return dirs_add(finder, SYSTEM_DEBUG_DIR, strlen(SYSTEM_DEBUG_DIR));
}

static struct error *find_all(struct finder *finder, enum mapping_file_status *statuses)
{
    struct stack_table *table = finder->table;

    RETURN_IF_ERROR(finder_init(finder));
    for (size_t i = 0; i < table->num_locations; i++) {
        const struct location *location = &table->locations[i];

        if (location->key.mapping &&
            (finder->options->again || location_needs_name(table, location)))
            statuses[location->key.mapping - 1] = MAPPING_FILE_MISSING;
    }
    for (size_t i = 0; i < table->num_mappings; i++)
        if (statuses[i] != MAPPING_FILE_NOT_NEEDED)
            RETURN_IF_ERROR(find_one(finder, &table->mappings[i], &statuses[i]));
    return NULL;
}

struct error *mapping_files_find(struct stack_table *table, struct target *target,
                                 const struct mapping_files_options *options,
                                 enum mapping_file_status **statuses_ret)
{
    CLEANUP(free)
    enum mapping_file_status *statuses = calloc(table->num_mappings + 1, sizeof(*statuses));
    struct finder finder = {.table = table, .modules = target_modules(target), .options = options};
    struct error *err = statuses ? find_all(&finder, statuses) : &error_no_memory;

    finder_deinit(&finder);
    if (err)
        return err;
    *statuses_ret = take_ptr(statuses);
    return NULL;
}
