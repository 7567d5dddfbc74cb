#include "sampler/tracefs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/nearest.h"

#define MAX_ID_BYTES 64

const char *const tracefs_roots[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing", NULL};

/* Names of the folders in a folder, sorted. */
struct names {
    char **names; /* NULL-terminated once read */
    size_t num_names, capacity;
};

static void names_deinit(struct names *names)
{
    for (size_t i = 0; i < names->num_names; i++)
        free(names->names[i]);
    free(names->names);
}

DEFINE_CLEANUP(names_deinit, struct names *)

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

/* Reads the names of folders below `path`. names: zeroed, deinitialised by the caller also after an
 * error. Returns: NULL or an error with the errno of opendir(3). */
static struct error *names_read(const char *path, struct names *names)
{
    CLEANUP(closedir) DIR *dir = opendir(path);
    struct dirent *entry;

    if (!dir)
        return error_from_errno(errno, NULL, "can't read '%s'", path);
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
            continue;
        RETURN_IF_ERROR(array_reserve(&names->names, &names->capacity, names->num_names + 2,
                                      sizeof(*names->names)));
        names->names[names->num_names] = strdup(entry->d_name);
        if (!names->names[names->num_names])
            return &error_no_memory;
        names->names[++names->num_names] = NULL;
    }
    if (names->num_names)
        qsort(names->names, names->num_names, sizeof(*names->names), compare_names);
    return NULL;
}

static struct error *refusal(int err, const char *root)
{
    if (err == EACCES || err == EPERM)
        return error_create(ERROR_PERMISSION,
                            "run with sudo, or once: sudo mount -o remount,mode=755 "
                            "/sys/kernel/tracing",
                            "tracepoints are hidden: '%s' may not be read", root);
    return error_create(ERROR_NOT_FOUND, "sudo mount -t tracefs nodev /sys/kernel/tracing",
                        "tracepoints can't be looked up: tracefs is not mounted");
}

/* Finds the mounted tracefs. path_ret: PATH_MAX bytes, its folder of events. */
static struct error *find_events(const char *const *roots, char *path_ret)
{
    int denied = 0;
    const char *denied_root = NULL;

    for (; *roots; roots++) {
        CLEANUP(closedir) DIR *dir = NULL;

        snprintf(path_ret, PATH_MAX, "%s/events", *roots);
        dir = opendir(path_ret);
        if (dir)
            return NULL;
        if (errno == EACCES || errno == EPERM) {
            denied = errno;
            denied_root = *roots;
            break;
        }
    }
    return refusal(denied, denied_root);
}

/* Says that a folder of tracefs has no such entry, and which comes near. kind: "subsystem". */
static struct error *not_there(const char *path, const char *kind, const char *prefix,
                               const char *name)
{
    struct names names = {0};
    CLEANUP(names_deinit) UNUSED struct names *guard = &names;
    const char *nearest = NULL;
    char hint[256] = "all tracepoints: -e list";

    RETURN_IF_ERROR(names_read(path, &names));
    if (names.num_names)
        nearest = nearest_name(name, (const char *const *)names.names);
    if (nearest)
        snprintf(hint, sizeof(hint), "did you mean %s%s? all tracepoints: -e list", prefix,
                 nearest);
    return error_create(ERROR_NOT_FOUND, hint, "there is no %s '%s%s' on this machine", kind,
                        prefix, name);
}

struct error *tracefs_find_tracepoint(const char *const *roots, struct event_spec *spec)
{
    char path[PATH_MAX];
    char prefix[EVENT_SPEC_PART_BYTES + 1];
    size_t length;
    CLEANUP(free) char *text = NULL;
    struct error *err;
    char *end;

    RETURN_IF_ERROR(find_events(roots, path));
    length = strlen(path);
    snprintf(path + length, sizeof(path) - length, "/%s/%s/id", spec->subsystem, spec->tracepoint);
    err = file_read_all(AT_FDCWD, path, MAX_ID_BYTES, &text, NULL);
    if (!err) {
        spec->perf_config = strtoull(text, &end, 10);
        return end == text ? error_create(ERROR_FAILED, NULL, "'%s' holds no number", path) : NULL;
    }
    if (err->kind != ERROR_NOT_FOUND)
        return error_with_hint(err, "run with sudo");
    error_destroy(err);
    path[length] = '\0';
    snprintf(path + length, sizeof(path) - length, "/%s", spec->subsystem);
    snprintf(prefix, sizeof(prefix), "%s:", spec->subsystem);
    err = not_there(path, "tracepoint", prefix, spec->tracepoint);
    if (err->kind != ERROR_NOT_FOUND || err->errno_value != ENOENT)
        return err;
    error_destroy(err);
    path[length] = '\0';
    return not_there(path, "group of tracepoints", "", spec->subsystem);
}

struct error *tracefs_visit_tracepoints(const char *const *roots, tracefs_visitor_fn *visit,
                                        void *context)
{
    struct names subsystems = {0};
    CLEANUP(names_deinit) UNUSED struct names *guard = &subsystems;
    char path[PATH_MAX];
    size_t length;

    RETURN_IF_ERROR(find_events(roots, path));
    RETURN_IF_ERROR(names_read(path, &subsystems));
    length = strlen(path);
    for (size_t i = 0; i < subsystems.num_names; i++) {
        struct names names = {0};
        CLEANUP(names_deinit) UNUSED struct names *inner_guard = &names;

        if (strcmp(subsystems.names[i], "ftrace") == 0)
            continue; /* formats of the tracer's own records: nothing to sample by */
        snprintf(path + length, sizeof(path) - length, "/%s", subsystems.names[i]);
        RETURN_IF_ERROR(names_read(path, &names));
        for (size_t j = 0; j < names.num_names; j++)
            RETURN_IF_ERROR(visit(context, subsystems.names[i], names.names[j]));
    }
    return NULL;
}
