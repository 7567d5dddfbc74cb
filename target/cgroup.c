#include "target/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define MAX_PROC_CGROUPS_BYTES 65536
#define MAX_PROCS_BYTES ((size_t)64 << 20) /* PID_MAX_LIMIT lines of 8 bytes, twice */
#define MAX_DEPTH 64
#define MAX_MOUNTINFO_BYTES ((size_t)16 << 20) /* fs.mount-max allows 100000 mounts */
#define MOUNT_POINT_FIELD 4                    /* counted from 0 (proc(5)) */

/* Undoes \040 and the like, which mountinfo has for blanks and backslashes. */
static void unescape(char *text)
{
    char *out = text;

    while (*text) {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
            text[2] <= '7' && text[3] >= '0' && text[3] <= '7') {
            *out++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
            text += 4;
        } else {
            *out++ = *text++;
        }
    }
    *out = '\0';
}

/* Tells whether a list "rw,cpu,perf_event" has a word. */
static bool has_word(char *list, const char *word)
{
    char *item;

    while ((item = strsep(&list, ",")))
        if (strcmp(item, word) == 0)
            return true;
    return false;
}

bool cgroup_mount_parse(char *line, struct cgroup_mount *mount_ret)
{
    char *path = NULL;
    char *word;

    /* Optional fields end with a lone "-"; behind it: file system, source, its options. */
    for (size_t i = 0; (word = strsep(&line, " ")); i++) {
        if (i == MOUNT_POINT_FIELD)
            path = word;
        if (i > MOUNT_POINT_FIELD && strcmp(word, "-") == 0)
            break;
    }
    if (!word || !path)
        return false;
    word = strsep(&line, " ");
    if (!word || (strcmp(word, "cgroup") != 0 && strcmp(word, "cgroup2") != 0))
        return false;
    *mount_ret = (struct cgroup_mount){.path = path, .is_v2 = strcmp(word, "cgroup2") == 0};
    unescape(path);
    (void)strsep(&line, " ");
    mount_ret->has_events = line && !mount_ret->is_v2 && has_word(line, "perf_event");
    return true;
}

/* Says where the perf_event controller is: /proc/cgroups has a line "perf_event HIERARCHY ...", the
 * number is 0 for v2 (cgroups(7)). is_v2: whether only a mount of v2 was found.
 * Returns: NULL when it is where it was looked for; ERROR_UNSUPPORTED. */
static struct error *check_controller(bool is_v2)
{
    CLEANUP(free) char *text = NULL;
    const char *line;

    CLEANUP(error_destroy)
    struct error *err =
        file_read_all(AT_FDCWD, "/proc/cgroups", MAX_PROC_CGROUPS_BYTES, &text, NULL);
    line = err ? NULL : strstr(text, "\nperf_event\t");
    if (line && is_v2 && strtoul(line + strlen("\nperf_event\t"), NULL, 10) != 0)
        return error_create(ERROR_UNSUPPORTED,
                            "mount it: mount -t cgroup -o perf_event none DIRECTORY",
                            "perf events know a hierarchy of cgroup v1 that is not mounted here");
    return NULL;
}

/* Finds where the cgroups that perf events know are mounted. path_ret: owned by the caller.
 * Returns: NULL; ERROR_UNSUPPORTED when there are none. */
static struct error *find_mount(char **path_ret)
{
    CLEANUP(free) char *text = NULL;
    CLEANUP(free) char *found = NULL;
    bool is_v2 = true;
    char *rest;
    char *line;

    RETURN_IF_ERROR(
        file_read_all(AT_FDCWD, "/proc/self/mountinfo", MAX_MOUNTINFO_BYTES, &text, NULL));
    rest = text;
    while ((line = strsep(&rest, "\n"))) {
        struct cgroup_mount mount;

        if (!cgroup_mount_parse(line, &mount) || (!mount.has_events && (!mount.is_v2 || found)))
            continue;
        free(found);
        found = strdup(mount.path);
        if (!found)
            return &error_no_memory;
        is_v2 = mount.is_v2;
        if (mount.has_events)
            break;
    }
    if (!found)
        return error_create(ERROR_UNSUPPORTED, "mount -t cgroup2 none /sys/fs/cgroup",
                            "no cgroups are mounted that perf events know");
    RETURN_IF_ERROR(check_controller(is_v2));
    *path_ret = take_ptr(found);
    return NULL;
}

/* Opens a directory if it is a cgroup, of whatever hierarchy. Returns: descriptor, or a negative
 * errno value; -ENOTDIR also for directories that are none. */
static int open_directory(const char *path)
{
    CLEANUP(close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct statfs status;

    if (fd < 0)
        return -errno;
    if (fstatfs(fd, &status))
        return -errno;
    if (status.f_type != CGROUP_SUPER_MAGIC && status.f_type != CGROUP2_SUPER_MAGIC)
        return -ENOTDIR;
    return take_fd(&fd);
}

static struct error *refusal(int err, const char *name, const char *mount)
{
    char hint[PATH_MAX + 64];

    snprintf(hint, sizeof(hint), "list them with: find %s -type d", mount);
    if (err == EACCES || err == EPERM)
        return error_from_errno(err, "run with sudo", "can't open cgroup '%s'", name);
    if (err == ENOENT)
        return error_create(ERROR_NOT_FOUND, hint, "no cgroup '%s' below %s", name, mount);
    if (err == ENOTDIR)
        return error_create(ERROR_NOT_FOUND, hint, "'%s' is no cgroup", name);
    return error_from_errno(err, hint, "can't open cgroup '%s'", name);
}

/* Tells whether a directory is in the hierarchy that is mounted at `mount`. */
static bool is_below(int fd, const char *mount)
{
    struct stat status, mount_status;

    return fstat(fd, &status) == 0 && stat(mount, &mount_status) == 0 &&
           status.st_dev == mount_status.st_dev;
}

struct error *cgroup_open(const char *name, struct cgroup *cgroup_ret)
{
    CLEANUP(free) char *mount = NULL;
    CLEANUP(free) char *path = NULL;
    CLEANUP(close) int fd = -1;

    RETURN_IF_ERROR(find_mount(&mount));
    if (name[0] == '/') {
        fd = open_directory(name);
        path = fd >= 0 ? strdup(name) : NULL;
    }
    if (fd < 0) {
        int absolute_fd = fd;

        if (asprintf(&path, "%s/%s", mount, name + strspn(name, "/")) < 0)
            return &error_no_memory;
        fd = open_directory(path);
        if (fd < 0) /* of an absolute path, "is no cgroup" tells more than "not below the mount" */
            return refusal(name[0] == '/' && absolute_fd == -ENOTDIR ? ENOTDIR : -fd, name, mount);
    }
    if (!path)
        return &error_no_memory;
    for (size_t length = strlen(path); length > 1 && path[length - 1] == '/'; length--)
        path[length - 1] = '\0';
    if (!is_below(fd, mount))
        return error_create(ERROR_UNSUPPORTED, "name the same group below that mount",
                            "perf events know the cgroups below %s, not '%s'", mount, name);
    cgroup_ret->fd = take_fd(&fd);
    cgroup_ret->path = take_ptr(path);
    return NULL;
}

/* Visits the processes that are in one group itself. */
static struct error *visit_members(int fd, cgroup_visit_fn *visit, void *context)
{
    CLEANUP(free) char *text = NULL;
    char *rest;

    CLEANUP(error_destroy)
    struct error *err = file_read_all(fd, "cgroup.procs", MAX_PROCS_BYTES, &text, NULL);
    if (err && err->kind == ERROR_NO_MEMORY)
        return take_ptr(err);
    if (err)
        return NULL;
    for (char *line = text; *line; line = rest) {
        long pid = strtol(line, &rest, 10);

        if (rest == line)
            break;
        rest += strspn(rest, "\n");
        if (pid > 0 && pid <= INT_MAX) /* 0: not of our pid namespace */
            RETURN_IF_ERROR(visit(context, (pid_t)pid));
    }
    return NULL;
}

/* Visits one group, and those below it down to `depth` levels. fd: taken over. */
static struct error *visit_group(int fd, int depth, cgroup_visit_fn *visit, void *context)
{
    CLEANUP(closedir) DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (!directory) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    RETURN_IF_ERROR(visit_members(fd, visit, context));
    while (depth > 0 && (entry = readdir(directory))) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        RETURN_IF_ERROR(
            visit_group(openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
                        depth - 1, visit, context));
    }
    return NULL;
}

struct error *cgroup_visit(const struct cgroup *cgroup, cgroup_visit_fn *visit, void *context)
{
    int fd = openat(cgroup->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return visit_group(fd, MAX_DEPTH, visit, context);
}

bool cgroup_is_there(const struct cgroup *cgroup)
{
    return faccessat(cgroup->fd, "cgroup.procs", F_OK, 0) == 0;
}

void cgroup_deinit(struct cgroup *cgroup)
{
    if (cgroup->fd >= 0)
        close(cgroup->fd);
    free(cgroup->path);
    *cgroup = (struct cgroup){.fd = -1};
}
