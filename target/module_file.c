#include "target/module_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#define DELETED_SUFFIX " (deleted)"

/* statfs(2) f_type of file systems whose stat() tells another device than /proc/PID/maps does: the
 * inode number alone has to decide there. */
#define BTRFS_TYPE 0x9123683e
#define OVERLAYFS_TYPE 0x794c7630
#define BCACHEFS_TYPE 0xca451a4e

/* Hands a guarded file over: the guard finds nothing to close. */
static struct module_file module_file_take(struct module_file *file)
{
    struct module_file taken = *file;

    *file = (struct module_file){.fd = -1};
    return taken;
}

static bool same_file(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* Tells whether what was opened is the file that the mapping names. */
static bool is_mapped_file(int fd, const struct stat *status, const struct module_request *request)
{
    struct statfs file_system;

    if (request->inode == 0 || status->st_ino != request->inode)
        return false;
    if (status->st_dev == makedev(request->dev_major, request->dev_minor))
        return true;
    if (fstatfs(fd, &file_system) != 0)
        return false;
    return file_system.f_type == BTRFS_TYPE || file_system.f_type == OVERLAYFS_TYPE ||
           file_system.f_type == BCACHEFS_TYPE;
}

/* Opens a regular file without side effects: opening a device node or a FIFO may have some, so its
 * type is looked at before. status_ret: of the open file. Returns: the descriptor or -1. */
static int regular_file_open(const char *path, struct stat *status_ret)
{
    CLEANUP(close) int fd = -1;

    if (stat(path, status_ret) != 0 || !S_ISREG(status_ret->st_mode))
        return -1;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, status_ret) != 0 || !S_ISREG(status_ret->st_mode))
        return -1;
    return take_fd(&fd);
}

/* Opens one candidate and keeps it when it is the mapped file. Returns: whether it was. */
static bool candidate_try(const char *path, const struct module_request *request,
                          struct module_file *file)
{
    CLEANUP(close) int fd = regular_file_open(path, &file->status);

    if (fd < 0 || !is_mapped_file(fd, &file->status, request))
        return false;
    file->fd = take_fd(&fd);
    return true;
}

/* Looks below the root directory of a related process. Returns: NULL or error_no_memory. */
static struct error *related_root_try(const struct module_request *request,
                                      struct module_file *file)
{
    CLEANUP(free) char *rooted = NULL;
    CLEANUP(free) char *root = strdup(request->root);

    if (!root || asprintf(&rooted, "%s%s", root, file->path) < 0) {
        rooted = NULL;
        return &error_no_memory;
    }
    if (candidate_try(rooted, request, file)) {
        free(file->root);
        file->root = take_ptr(root);
    }
    return NULL;
}

/* Tries all ways through /proc, then the plain path. Returns: NULL or error_no_memory. */
static struct error *candidates_try(const struct module_request *request, const char *root,
                                    struct module_file *file)
{
    CLEANUP(free) char *rooted = NULL;
    char name[96];

    if (request->pid > 0) {
        snprintf(name, sizeof(name), "/proc/%u/map_files/%lx-%lx", request->pid,
                 (unsigned long)request->start, (unsigned long)request->limit);
        if (candidate_try(name, request, file))
            return NULL;
        if (asprintf(&rooted, "%s%s", root, file->path) < 0) {
            rooted = NULL;
            return &error_no_memory;
        }
        if (candidate_try(rooted, request, file))
            return NULL;
        /* Deleted binaries of our own user: map_files wants CAP_CHECKPOINT_RESTORE, exe does not.
         */
        snprintf(name, sizeof(name), "/proc/%u/exe", request->pid);
        if (candidate_try(name, request, file))
            return NULL;
    }
    if (request->root && request->root[0])
        RETURN_IF_ERROR(related_root_try(request, file));
    if (file->fd < 0)
        candidate_try(file->path, request, file);
    return NULL;
}

/* Sets is_deleted: does the open file still go by its name, in our root or the target's? */
static struct error *name_settle(const char *root, struct module_file *file)
{
    CLEANUP(free) char *rooted = NULL;
    struct stat status;

    if (stat(file->path, &status) == 0 && same_file(&status, &file->status))
        return NULL;
    if (asprintf(&rooted, "%s%s", root, file->path) < 0) {
        rooted = NULL;
        return &error_no_memory;
    }
    file->is_deleted =
        root[0] == '\0' || stat(rooted, &status) != 0 || !same_file(&status, &file->status);
    return NULL;
}

/* Cuts " (deleted)" off, unless a file really has such a name. Returns: whether it was cut. */
static bool deleted_suffix_cut(const struct module_request *request, char *path)
{
    size_t length = strlen(path);
    size_t suffix_length = strlen(DELETED_SUFFIX);
    struct stat status;

    if (length <= suffix_length || strcmp(path + length - suffix_length, DELETED_SUFFIX) != 0)
        return false;
    if (stat(path, &status) == 0 && request->inode != 0 && status.st_ino == request->inode)
        return false;
    path[length - suffix_length] = '\0';
    return true;
}

struct error *module_file_open(const struct module_request *request, struct module_file *file_ret)
{
    CLEANUP(module_file) struct module_file file = {.fd = -1};
    char root[32] = "";

    file.path = strdup(request->path ? request->path : "");
    file.root = strdup("");
    if (!file.path || !file.root)
        return &error_no_memory;
    if (request->pid > 0)
        snprintf(root, sizeof(root), "/proc/%u/root", request->pid);
    file.is_deleted = deleted_suffix_cut(request, file.path);
    RETURN_IF_ERROR(candidates_try(request, root, &file));
    if (file.fd >= 0) {
        file.is_deleted = false;
        RETURN_IF_ERROR(name_settle(file.root[0] ? file.root : root, &file));
    }
    *file_ret = module_file_take(&file);
    return NULL;
}

struct error *module_file_open_path(const char *path, struct module_file *file_ret)
{
    CLEANUP(module_file) struct module_file file = {.fd = -1};

    file.path = strdup(path);
    file.root = strdup("");
    if (!file.path || !file.root)
        return &error_no_memory;
    file.fd = regular_file_open(path, &file.status);
    *file_ret = module_file_take(&file);
    return NULL;
}

void module_file_close(struct module_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    free(file->root);
    *file = (struct module_file){.fd = -1};
}
