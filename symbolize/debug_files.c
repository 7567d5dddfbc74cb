#include "symbolize/debug_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/array.h"
#include "base/log.h"
#include "symbolize/debug_server.h"
#include "symbolize/elf_file.h"
#include "symbolize/mini_debug_info.h"
#include "symbolize/root_file.h"

#define SYSTEM_DEBUG_DIR "/usr/lib/debug"
#define DEBUG_PATH_BYTES 4352 /* PATH_MAX and a file name */

/* What we look for and where. */
struct search {
    const struct module *module;
    char *const *dirs;
    size_t num_dirs;
    char path[DEBUG_PATH_BYTES]; /* the path just tried */
};

static bool build_id_equals(Elf *elf, const uint8_t *build_id, size_t num_bytes)
{
    uint8_t found[ELF_FILE_MAX_BUILD_ID_BYTES];

    return elf_file_build_id(elf, found) == num_bytes && !memcmp(found, build_id, num_bytes);
}

/* CRC-32 over a whole file, as objcopy --add-gnu-debuglink computes it (that of zlib). */
static bool file_crc_is(int fd, uint32_t expected)
{
    uint8_t chunk[65536];
    uLong crc = crc32(0, NULL, 0);
    off_t offset = 0;
    ssize_t num_bytes;

    while ((num_bytes = pread(fd, chunk, sizeof(chunk), offset)) > 0) {
        crc = crc32(crc, chunk, (uInt)num_bytes);
        offset += num_bytes;
    }
    return num_bytes == 0 && (uint32_t)crc == expected;
}

/* Opens search->path below `root`. Returns: true with an Elf whose build-id fits, or, when crc is
 * given, whose CRC fits. */
static bool try_path(struct search *search, const char *root, const uint8_t *build_id,
                     size_t build_id_bytes, const uint32_t *crc, int *fd_ret, Elf **elf_ret)
{
    CLEANUP(close) int fd = root_file_open(root, search->path, true, NULL);
    Elf *elf;

    if (fd < 0)
        return false;
    elf = elf_file_open(fd);
    if (!elf)
        return false;
    if (build_id_bytes > 0 ? !build_id_equals(elf, build_id, build_id_bytes)
                           : !crc || !file_crc_is(fd, *crc)) {
        log_info("%s%s does not belong to %s", root, search->path, search->module->path);
        elf_end(elf);
        return false;
    }
    *elf_ret = elf;
    *fd_ret = take_fd(&fd);
    return true;
}

/* Tries the path below the target's root, then below ours. */
static bool try_roots(struct search *search, const uint8_t *build_id, size_t build_id_bytes,
                      const uint32_t *crc, int *fd_ret, Elf **elf_ret)
{
    const char *root = search->module->root ? search->module->root : "";

    if (root[0] && try_path(search, root, build_id, build_id_bytes, crc, fd_ret, elf_ret))
        return true;
    return try_path(search, "", build_id, build_id_bytes, crc, fd_ret, elf_ret);
}

static bool format_fits(int length)
{
    return length > 0 && length < DEBUG_PATH_BYTES;
}

static bool find_by_build_id(struct search *search, const uint8_t *build_id, size_t num_bytes,
                             int *fd_ret, Elf **elf_ret)
{
    char hex[2 * ELF_FILE_MAX_BUILD_ID_BYTES + 1];

    if (num_bytes < 2 || num_bytes > ELF_FILE_MAX_BUILD_ID_BYTES)
        return false;
    for (size_t i = 0; i < num_bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", build_id[i]);
    for (size_t i = 0; i < search->num_dirs; i++) {
        if (format_fits(snprintf(search->path, sizeof(search->path), "%s/.build-id/%.2s/%s.debug",
                                 search->dirs[i], hex, hex + 2)) &&
            try_roots(search, build_id, num_bytes, NULL, fd_ret, elf_ret))
            return true;
    }
    return false;
}

/* Directories that the user names may hold files as they came from a build: APP.debug, or APP with
 * all in it. */
static bool find_by_name(struct search *search, int *fd_ret, Elf **elf_ret)
{
    static const char *const suffixes[] = {".debug", ""};
    const struct module *module = search->module;
    const char *slash = strrchr(module->path, '/');

    for (size_t i = 0; i + 1 < search->num_dirs && slash && module->build_id_bytes > 0; i++) {
        for (size_t j = 0; j < ARRAY_LENGTH(suffixes); j++) {
            if (format_fits(snprintf(search->path, sizeof(search->path), "%s%s%s", search->dirs[i],
                                     slash, suffixes[j])) &&
                try_path(search, "", module->build_id, module->build_id_bytes, NULL, fd_ret,
                         elf_ret))
                return true;
        }
    }
    return false;
}

/* .gnu_debuglink: a file name, NUL, padding to 4 bytes, CRC-32. */
static bool debuglink_read(Elf *elf, const char **name_ret, uint32_t *crc_ret)
{
    const uint8_t *bytes;
    size_t num_bytes;
    size_t name_bytes;

    if (!elf_file_section_bytes(elf, ".gnu_debuglink", &bytes, &num_bytes))
        return false;
    name_bytes = strnlen((const char *)bytes, num_bytes);
    if (name_bytes == 0 || memchr(bytes, '/', name_bytes))
        return false;
    name_bytes = (name_bytes + 4) & ~(size_t)3;
    if (name_bytes > num_bytes || num_bytes - name_bytes < sizeof(*crc_ret))
        return false;
    memcpy(crc_ret, bytes + name_bytes, sizeof(*crc_ret));
    *name_ret = (const char *)bytes;
    return true;
}

static bool find_by_debuglink(struct search *search, Elf *elf, int *fd_ret, Elf **elf_ret)
{
    static const char *const places[] = {"", "/.debug"};
    const struct module *module = search->module;
    const char *slash = strrchr(module->path, '/');
    const char *name;
    uint32_t crc;
    int dir_bytes;

    if (!slash || !debuglink_read(elf, &name, &crc))
        return false;
    dir_bytes = (int)(slash - module->path);
    for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
        if (format_fits(snprintf(search->path, sizeof(search->path), "%.*s%s/%s", dir_bytes,
                                 module->path, places[i], name)) &&
            try_roots(search, module->build_id, module->build_id_bytes, &crc, fd_ret, elf_ret))
            return true;
    }
    for (size_t i = 0; i < search->num_dirs; i++) {
        if (format_fits(snprintf(search->path, sizeof(search->path), "%s%.*s/%s", search->dirs[i],
                                 dir_bytes, module->path, name)) &&
            try_roots(search, module->build_id, module->build_id_bytes, &crc, fd_ret, elf_ret))
            return true;
    }
    return false;
}

/* Gets a file of that build-id from a server. server: NULL = nobody is asked. */
static bool fetch(struct debug_server *server, const uint8_t *build_id, size_t num_bytes,
                  const char *name, int *fd_ret, Elf **elf_ret)
{
    CLEANUP(close)
    int fd = server ? debug_server_fetch(server, DEBUG_SERVER_DEBUG_FILE, build_id, num_bytes, name)
                    : -1;
    Elf *elf = fd >= 0 ? elf_file_open(fd) : NULL;

    if (!elf)
        return false;
    if (!build_id_equals(elf, build_id, num_bytes)) {
        log_warning("a debuginfod server gave a file that is not the one of %s", name);
        elf_end(elf);
        return false;
    }
    *elf_ret = elf;
    *fd_ret = take_fd(&fd);
    return true;
}

/* Looks for a dwz file by its path, which may be relative to the file that holds the link, then for
 * the same path in copies of a root directory or of /usr/lib/debug, and by name in plain folders.
 */
static bool find_alt_by_path(struct search *search, struct debug_files *files, const char *path,
                             const uint8_t *id, size_t id_bytes)
{
    const char *holder = files->dwarf == files->debug ? files->debug_path : search->module->path;
    const char *slash = holder ? strrchr(holder, '/') : NULL;
    bool is_in_system_dir = !strncmp(path, SYSTEM_DEBUG_DIR "/", sizeof(SYSTEM_DEBUG_DIR));
    const char *base = strrchr(path, '/');
    const char *tails[] = {path, is_in_system_dir ? path + strlen(SYSTEM_DEBUG_DIR) : NULL,
                           base ? base : path};
    int dir_bytes = path[0] != '/' && slash ? (int)(slash - holder) : 0;

    if (format_fits(snprintf(search->path, sizeof(search->path), "%.*s%s%s", dir_bytes,
                             dir_bytes ? holder : "", path[0] == '/' ? "" : "/", path)) &&
        try_roots(search, id, id_bytes, NULL, &files->alt_fd, &files->alt))
        return true;
    for (size_t i = 0; i + 1 < search->num_dirs; i++) {
        for (size_t j = 0; j < ARRAY_LENGTH(tails); j++) {
            if (tails[j] &&
                format_fits(snprintf(search->path, sizeof(search->path), "%s/%s", search->dirs[i],
                                     tails[j])) &&
                try_path(search, "", id, id_bytes, NULL, &files->alt_fd, &files->alt))
                return true;
        }
    }
    return false;
}

/* .gnu_debugaltlink: path, NUL, build-id of the dwz file. */
static void find_alt(struct search *search, struct debug_files *files)
{
    const uint8_t *bytes, *id;
    const char *path;
    size_t num_bytes;
    size_t id_bytes;

    if (!elf_file_section_bytes(files->dwarf, ".gnu_debugaltlink", &bytes, &num_bytes))
        return;
    path = (const char *)bytes;
    id = memchr(bytes, 0, num_bytes);
    if (!id || !path[0])
        return;
    id++;
    id_bytes = num_bytes - (size_t)(id - bytes);
    if (id_bytes == 0 || id_bytes > ELF_FILE_MAX_BUILD_ID_BYTES)
        return;
    if (!find_alt_by_path(search, files, path, id, id_bytes) &&
        !find_by_build_id(search, id, id_bytes, &files->alt_fd, &files->alt) &&
        !fetch(files->server, id, id_bytes, path, &files->alt_fd, &files->alt))
        log_info("%s: dwz file %s is missing", search->module->path, path);
}

/* Sets files->dwarf, unless the debug info is larger than we take. */
static void choose_dwarf(struct debug_files *files)
{
    Elf *elf = elf_file_has_dwarf(files->main) ? files->main : files->debug;
    uint64_t info_bytes;

    if (!elf || !elf_file_has_dwarf(elf))
        return;
    if (elf_file_packed_debug_bytes(elf, &info_bytes) > DEBUG_FILES_MAX_BYTES ||
        info_bytes > DEBUG_FILES_MAX_INFO_BYTES) {
        files->is_too_large = true;
        log_warning("%s: debug info of %llu MB is not read, names only", files->module->path,
                    (unsigned long long)(info_bytes >> 20));
        return;
    }
    files->dwarf = elf;
}

struct error *debug_files_load_dwarf(struct debug_files *files)
{
    struct search search = {
        .module = files->module, .dirs = files->dirs, .num_dirs = files->num_dirs};

    if (files->is_loaded || !files->dwarf)
        return NULL;
    files->is_loaded = true;
    find_alt(&search, files);
    return NULL;
}

static bool has_symtab(Elf *elf)
{
    GElf_Shdr shdr;

    return elf_file_section_of_type(elf, SHT_SYMTAB, &shdr) != NULL;
}

/* Takes the file that somebody found for this module before, if it belongs to it. */
static bool find_given(struct search *search, int *fd_ret, Elf **elf_ret)
{
    const struct module *module = search->module;

    return module->debug_path &&
           format_fits(snprintf(search->path, sizeof(search->path), "%s", module->debug_path)) &&
           try_path(search, "", module->build_id, module->build_id_bytes, NULL, fd_ret, elf_ret);
}

static struct error *find_debug_file(struct search *search, struct debug_files *files)
{
    const struct module *module = search->module;

    if (elf_file_has_dwarf(files->main) || module->is_vdso)
        return NULL;
    if (!find_given(search, &files->debug_fd, &files->debug) &&
        !find_by_build_id(search, module->build_id, module->build_id_bytes, &files->debug_fd,
                          &files->debug) &&
        !find_by_debuglink(search, files->main, &files->debug_fd, &files->debug) &&
        !find_by_name(search, &files->debug_fd, &files->debug))
        return NULL;
    log_debug("%s: debug file %s", module->path, search->path);
    files->debug_path = strdup(search->path);
    return files->debug_path ? NULL : &error_no_memory;
}

static struct error *add_dir(struct debug_files *files, size_t *capacity, const char *dir)
{
    RETURN_IF_ERROR(
        array_reserve(&files->dirs, capacity, files->num_dirs + 1, sizeof(*files->dirs)));
    files->dirs[files->num_dirs] = strdup(dir);
    if (!files->dirs[files->num_dirs])
        return &error_no_memory;
    files->num_dirs++;
    return NULL;
}

/* Splits the user's list of directories; the system's comes last. */
static struct error *split_dirs(struct debug_files *files, const char *list)
{
    size_t capacity = 0;

    while (list && *list) {
        size_t num_bytes = strcspn(list, ":");
        CLEANUP(free) char *dir = strndup(list, num_bytes);
        CLEANUP(free) char *full = dir && num_bytes > 0 ? realpath(dir, NULL) : NULL;

        if (!dir)
            return &error_no_memory;
        if (full)
            RETURN_IF_ERROR(add_dir(files, &capacity, full));
        list += num_bytes + (list[num_bytes] == ':');
    }
    return add_dir(files, &capacity, SYSTEM_DEBUG_DIR);
}

struct error *debug_files_open(const struct module *module, const char *debug_dir,
                               struct debug_files **files_ret)
{
    CLEANUP(debug_files_close) struct debug_files *files = calloc(1, sizeof(*files));
    struct search search = {.module = module};

    if (!files)
        return &error_no_memory;
    files->module = module;
    files->debug_fd = -1;
    files->alt_fd = -1;
    RETURN_IF_ERROR(split_dirs(files, debug_dir));
    search.dirs = files->dirs;
    search.num_dirs = files->num_dirs;
    if (elf_version(EV_CURRENT) != EV_NONE)
        files->main = module->image     ? elf_memory(module->image, module->image_bytes)
                      : module->fd >= 0 ? elf_file_open(module->fd)
                                        : NULL;
    if (!files->main)
        return error_create(ERROR_FAILED, NULL, "%s is not a readable ELF file", module->path);
    RETURN_IF_ERROR(find_debug_file(&search, files));
    choose_dwarf(files);
    files->is_go = elf_file_section(files->main, ".gopclntab", NULL) ||
                   elf_file_section(files->main, ".data.rel.ro.gopclntab", NULL);
    if (!has_symtab(files->main) && !files->debug)
        RETURN_IF_ERROR(mini_debug_info_open(files->main, &files->mini_image, &files->mini));
    *files_ret = take_ptr(files);
    return NULL;
}

void debug_files_fetch(struct debug_files *files, struct debug_server *server)
{
    const struct module *module = files->module;

    files->server = server;
    if (files->debug || elf_file_has_dwarf(files->main) || module->is_vdso || files->is_go)
        return;
    if (fetch(server, module->build_id, module->build_id_bytes, module->path, &files->debug_fd,
              &files->debug))
        choose_dwarf(files);
}

void debug_files_close(struct debug_files *files)
{
    if (!files)
        return;
    elf_end(files->mini);
    elf_end(files->alt);
    elf_end(files->debug);
    elf_end(files->main);
    if (files->debug_fd >= 0)
        close(files->debug_fd);
    if (files->alt_fd >= 0)
        close(files->alt_fd);
    free(files->mini_image);
    free(files->debug_path);
    for (size_t i = 0; i < files->num_dirs; i++)
        free(files->dirs[i]);
    free(files->dirs);
    free(files);
}
