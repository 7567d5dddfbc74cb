#include "target/roots.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"

/* Fills in who a root is. Returns: whether both could be looked at. */
static bool root_identify(int dir_fd, int ns_fd, struct root *root_ret)
{
    struct stat dir, ns;

    if (fstat(dir_fd, &dir) != 0 || fstat(ns_fd, &ns) != 0)
        return false;
    root_ret->dev = dir.st_dev;
    root_ret->inode = dir.st_ino;
    root_ret->ns_inode = ns.st_ino;
    return true;
}

static bool root_equals(const struct root *one, const struct root *other)
{
    return one->dev == other->dev && one->inode == other->inode && one->ns_inode == other->ns_inode;
}

static int open_of(const char *process, const char *name, int flags)
{
    char path[48];

    snprintf(path, sizeof(path), "/proc/%s/%s", process, name);
    return open(path, flags | O_CLOEXEC);
}

static bool is_our_root(const struct root *root)
{
    CLEANUP(close) int dir_fd = open_of("self", "root", O_PATH | O_DIRECTORY);
    CLEANUP(close) int ns_fd = open_of("self", "ns/mnt", O_RDONLY);
    struct root ours;

    return dir_fd < 0 || ns_fd < 0 || !root_identify(dir_fd, ns_fd, &ours) ||
           root_equals(root, &ours);
}

struct error *roots_get(struct roots *roots, uint32_t pid, const char **path_ret)
{
    CLEANUP(close) int dir_fd = -1;
    CLEANUP(close) int ns_fd = -1;
    char process[16];
    struct root root;

    *path_ret = "";
    if (pid == 0)
        return NULL;
    snprintf(process, sizeof(process), "%u", pid);
    dir_fd = open_of(process, "root", O_PATH | O_DIRECTORY);
    ns_fd = open_of(process, "ns/mnt", O_RDONLY);
    if (dir_fd < 0 || ns_fd < 0 || !root_identify(dir_fd, ns_fd, &root) || is_our_root(&root))
        return NULL;
    for (size_t i = 0; i < roots->num; i++) {
        if (root_equals(&roots->rows[i], &root)) {
            *path_ret = roots->rows[i].path;
            return NULL;
        }
    }
    if (roots->num >= ROOTS_MAX)
        return NULL;
    RETURN_IF_ERROR(
        array_reserve(&roots->rows, &roots->capacity, roots->num + 1, sizeof(*roots->rows)));
    root.dir_fd = take_fd(&dir_fd);
    root.ns_fd = take_fd(&ns_fd);
    snprintf(root.path, sizeof(root.path), "/proc/self/fd/%d", root.dir_fd);
    roots->rows[roots->num] = root;
    *path_ret = roots->rows[roots->num++].path;
    return NULL;
}

void roots_deinit(struct roots *roots)
{
    for (size_t i = 0; i < roots->num; i++) {
        close(roots->rows[i].dir_fd);
        close(roots->rows[i].ns_fd);
    }
    free(roots->rows);
}
