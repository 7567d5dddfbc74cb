#include "cmd/package_owner.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#define MAX_LIST_BYTES ((size_t)16 << 20)
#define MAX_NS 500000000ULL
#define LIST_SUFFIX ".list"

static inline void cleanup_lists_close(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* Tells whether a list has a line "PATH" or "/usr" + PATH. */
static bool list_names(const char *list, const char *path)
{
    size_t num_bytes = strlen(path);

    for (const char *at = list; (at = strstr(at, path)); at++) {
        bool ends = at[num_bytes] == '\n' || at[num_bytes] == '\0';
        const char *start = at - list >= 4 && !strncmp(at - 4, "/usr", 4) ? at - 4 : at;

        if (ends && (start == list || start[-1] == '\n'))
            return true;
    }
    return false;
}

/* Returns: the package of a list's file name, "PACKAGE[:ARCHITECTURE].list"; NULL: out of memory.
 */
static char *package_name(const char *file)
{
    size_t num_bytes = strlen(file) - strlen(LIST_SUFFIX);
    size_t colon = strcspn(file, ":");

    return strndup(file, colon < num_bytes ? colon : num_bytes);
}

static bool is_list(const char *file)
{
    size_t num_bytes = strlen(file);

    return num_bytes > strlen(LIST_SUFFIX) &&
           !strcmp(file + num_bytes - strlen(LIST_SUFFIX), LIST_SUFFIX);
}

struct error *package_owner_find(const char *lists_dir, const char *path, char **package_ret)
{
    __attribute__((cleanup(cleanup_lists_close))) DIR *dir = opendir(lists_dir);
    uint64_t limit_ns = clock_monotonic_ns() + MAX_NS;
    struct dirent *entry;

    *package_ret = NULL;
    if (!strncmp(path, "/usr/", 5))
        path += 4; /* Debian's /lib is /usr/lib, and packages name files either way */
    while (dir && path[0] == '/' && (entry = readdir(dir)) && clock_monotonic_ns() < limit_ns) {
        CLEANUP(free) char *list = NULL;
        CLEANUP(error_destroy) struct error *err = NULL;

        if (!is_list(entry->d_name))
            continue;
        err = file_read_all(dirfd(dir), entry->d_name, MAX_LIST_BYTES, &list, NULL);
        if (err == &error_no_memory)
            return take_ptr(err);
        if (err || !list_names(list, path))
            continue;
        *package_ret = package_name(entry->d_name);
        return *package_ret ? NULL : &error_no_memory;
    }
    return NULL;
}
