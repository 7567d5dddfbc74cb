#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/procfs.h"

#define TEMP_NAME_BYTES 40
#define TEMP_MAX_TRIES 100
#define MAX_OUTPUTS 64
#define TEMP_MODE 0600
#define FD_PATH_BYTES 32
#define COPY_STEP_BYTES 16384

/* The directory is held open, so that the names in it stay right when somebody changes the working
 * directory or moves the directory. */
struct file_output {
    char *name;            /* as the user gave it, for messages */
    char *path;            /* what is replaced: `name` with its last symbolic links followed */
    const char *base_name; /* last component of `path` */
    int dir_fd;
    bool is_in_place;
    char temp_name[TEMP_NAME_BYTES]; /* "" while the temporary file has no name */
    int fd;
    int slot;    /* in temp_slots, or -1 */
    mode_t mode; /* of the finished file */
    bool replaces;
    uid_t uid; /* owner of the file that is replaced */
    gid_t gid;
};

/* Temporary files that exist now. A signal handler reads it: fixed memory, and the state of a slot
 * decides whether the rest of it is whole. */
enum temp_state { TEMP_FREE, TEMP_FILLING, TEMP_SET };
static struct temp_slot {
    atomic_int state;
    int dir_fd;
    char name[TEMP_NAME_BYTES];
} temp_slots[MAX_OUTPUTS];

static int temp_slot_claim(int dir_fd, const char *name)
{
    for (int i = 0; i < MAX_OUTPUTS; i++) {
        int expected = TEMP_FREE;
        if (!atomic_compare_exchange_strong(&temp_slots[i].state, &expected, TEMP_FILLING))
            continue;
        temp_slots[i].dir_fd = dir_fd;
        memcpy(temp_slots[i].name, name, TEMP_NAME_BYTES);
        atomic_store(&temp_slots[i].state, TEMP_SET);
        return i;
    }
    return -1;
}

static void temp_slot_release(int slot)
{
    if (slot >= 0)
        atomic_store(&temp_slots[slot].state, TEMP_FREE);
}

void file_output_emergency_unlink(void)
{
    int saved_errno = errno;

    for (int i = 0; i < MAX_OUTPUTS; i++) {
        if (atomic_load(&temp_slots[i].state) == TEMP_SET)
            unlinkat(temp_slots[i].dir_fd, temp_slots[i].name, 0);
    }
    errno = saved_errno;
}

static struct error *output_error(const struct file_output *output, int err)
{
    const char *hint = NULL;

    if (err == EACCES || err == EPERM || err == EROFS)
        hint = "choose a directory you may write to with -o";
    else if (err == ENOSPC || err == EDQUOT)
        hint = "free some space or choose another file system with -o";
    else if (err == EISDIR)
        hint = "name a file in that directory with -o";
    else if (err == ENOENT || err == ENOTDIR)
        hint = "create the directory first or choose another file with -o";
    return error_from_errno(err, hint, "cannot write %s", output->name);
}

/* Follows the symbolic links of the last component, also to a file that does not exist yet (where
 * realpath(3) would fail). */
static struct error *output_resolve(struct file_output *output)
{
    CLEANUP(free) char *path = strdup(output->name);

    if (!path)
        return &error_no_memory;
    for (int i = 0; i < 40; i++) { /* as many as the kernel follows, path_resolution(7) */
        char target[PATH_MAX];
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        if (length < 0) {
            output->path = take_ptr(path);
            return NULL; /* EINVAL: no link; others show when the file is opened */
        }
        target[length] = '\0';
        const char *slash = strrchr(path, '/');
        int dir_bytes = target[0] == '/' || !slash ? 0 : (int)(slash - path + 1);
        char *next = NULL;
        if (asprintf(&next, "%.*s%s", dir_bytes, path, target) < 0)
            return &error_no_memory;
        free(path);
        path = next;
    }
    return output_error(output, ELOOP);
}

static struct error *output_open_dir(struct file_output *output)
{
    const char *slash = strrchr(output->path, '/');
    CLEANUP(free) char *directory = NULL;

    output->base_name = slash ? slash + 1 : output->path;
    if (!*output->base_name)
        return output_error(output, EISDIR);
    if (slash) {
        directory =
            strndup(output->path, slash == output->path ? 1 : (size_t)(slash - output->path));
        if (!directory)
            return &error_no_memory;
    }
    output->dir_fd = open(directory ? directory : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return output->dir_fd < 0 ? output_error(output, errno) : NULL;
}

/* Draws a name for the temporary file and registers it for the emergency: first, since a signal
 * between making the file and registering it would leave it behind. Unlinking a name that is not
 * made yet is harmless: nobody else has it. */
static void output_draw_temp_name(struct file_output *output)
{
    temp_slot_release(output->slot);
    snprintf(output->temp_name, sizeof(output->temp_name), ".cprofiler-%016llx",
             (unsigned long long)hash_seed_draw());
    output->slot = temp_slot_claim(output->dir_fd, output->temp_name);
}

static void output_drop_temp_name(struct file_output *output)
{
    temp_slot_release(output->slot);
    output->slot = -1;
    output->temp_name[0] = '\0';
}

/* Tells the path by which linkat(2) gives a name to a file that has none. */
static void fd_path_print(int fd, char path[FD_PATH_BYTES])
{
    snprintf(path, FD_PATH_BYTES, "/proc/self/fd/%d", fd);
}

/* A file without a name (O_TMPFILE) vanishes by itself when we are killed in mid-recording. */
static bool output_create_unnamed(struct file_output *output)
{
    char path[FD_PATH_BYTES];

    output->fd = openat(output->dir_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, TEMP_MODE);
    if (output->fd < 0)
        return false; /* not every file system can */
    fd_path_print(output->fd, path);
    if (access(path, F_OK) == 0)
        return true;
    close(take_fd(&output->fd)); /* no /proc: it could never get its name */
    return false;
}

/* Makes the temporary file beside the final one: rename(2) works within one file system only. */
static struct error *output_create_temp(struct file_output *output)
{
    int err = EEXIST;

    RETURN_IF_ERROR(output_open_dir(output));
    if (output_create_unnamed(output))
        return NULL;
    for (int i = 0; i < TEMP_MAX_TRIES && err == EEXIST; i++) {
        output_draw_temp_name(output);
        output->fd = openat(output->dir_fd, output->temp_name,
                            O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, TEMP_MODE);
        if (output->fd >= 0)
            return NULL;
        err = errno;
        output_drop_temp_name(output);
    }
    return output_error(output, err);
}

/* Names the unnamed file for the moment before its rename: linkat(2) replaces nothing. */
static struct error *output_name_temp(struct file_output *output)
{
    char path[FD_PATH_BYTES];
    int err = EEXIST;

    fd_path_print(output->fd, path);
    for (int i = 0; i < TEMP_MAX_TRIES && err == EEXIST; i++) {
        output_draw_temp_name(output);
        if (linkat(AT_FDCWD, path, output->dir_fd, output->temp_name, AT_SYMLINK_FOLLOW) == 0)
            return NULL;
        err = errno;
        output_drop_temp_name(output);
    }
    return output_error(output, err);
}

/* umask(2) can only be read by setting it, which other threads would see; /proc tells it. */
static mode_t umask_read(void)
{
    CLEANUP(free) char *status = NULL;
    struct error *err = file_read_all(AT_FDCWD, "/proc/self/status", 65536, &status, NULL);

    if (!err) {
        const char *field = procfs_status_find(status, "Umask");
        if (field)
            return (mode_t)strtoul(field, NULL, 8) & 0777;
    }
    error_destroy(err);
    mode_t mask = umask(022);
    umask(mask);
    return mask;
}

static struct error *output_open_in_place(struct file_output *output)
{
    /* O_NONBLOCK only to open: a FIFO without a reader would hang us before the command starts, and
     * gives ENXIO this way (fifo(7)). */
    output->is_in_place = true;
    output->fd = open(output->name, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (output->fd < 0 && errno == ENXIO)
        return error_create(ERROR_FAILED, "start the reader of the FIFO first",
                            "cannot write %s: nobody reads it", output->name);
    if (output->fd < 0)
        return output_error(output, errno);
    int flags = fcntl(output->fd, F_GETFL);
    if (flags < 0 || fcntl(output->fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        return output_error(output, errno);
    return NULL;
}

/* Tells whether `path` names the file of `status`: links in /proc/PID/fd may not lead where their
 * text says ("/tmp/x (deleted)"). */
static bool path_names_file(const char *path, const struct stat *status)
{
    struct stat other;

    return stat(path, &other) == 0 && other.st_dev == status->st_dev &&
           other.st_ino == status->st_ino;
}

static struct error *output_open(struct file_output *output)
{
    struct stat status;

    if (stat(output->name, &status) < 0) {
        if (errno != ENOENT)
            return output_error(output, errno);
        output->mode = 0666 & ~umask_read();
        RETURN_IF_ERROR(output_resolve(output));
        return output_create_temp(output);
    }
    if (S_ISDIR(status.st_mode))
        return output_error(output, EISDIR);
    if (!S_ISREG(status.st_mode))
        return output_open_in_place(output);
    /* A file that may not be written is not to be replaced either, though rename would do it. */
    if (faccessat(AT_FDCWD, output->name, W_OK, AT_EACCESS) < 0)
        return output_error(output, errno);
    RETURN_IF_ERROR(output_resolve(output));
    if (!path_names_file(output->path, &status))
        return output_open_in_place(output);
    output->replaces = true;
    output->mode = status.st_mode & 0777;
    output->uid = status.st_uid;
    output->gid = status.st_gid;
    return output_create_temp(output);
}

DEFINE_CLEANUP(file_output_destroy, struct file_output *)

struct error *file_output_open(const char *path, struct file_output **output_ret)
{
    if (!path || !*path)
        return error_create(ERROR_USAGE, "name a file with -o", "the output file has no name");
    if (strcmp(path, "-") == 0)
        return error_create(ERROR_USAGE, "name a file with -o; standard output is the target's",
                            "cannot write a profile to standard output");

    CLEANUP(file_output_destroy) struct file_output *output = calloc(1, sizeof(*output));
    if (!output)
        return &error_no_memory;
    output->fd = -1;
    output->dir_fd = -1;
    output->slot = -1;
    output->name = strdup(path);
    if (!output->name)
        return &error_no_memory;
    RETURN_IF_ERROR(output_open(output));
    *output_ret = take_ptr(output);
    return NULL;
}

int file_output_fd(const struct file_output *output)
{
    return output->fd;
}

/* Makes the new name permanent, too: fsync of a file does not cover its directory (fsync(2)). */
static void directory_sync(int dir_fd)
{
    CLEANUP(close) int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    /* Not an error: the file is complete and in its place; some file systems refuse this. */
    if (fd >= 0)
        fsync(fd);
}

/* A file that may be written but not replaced: a mount point (a file bound into a container:
 * EBUSY), or somebody else's in a sticky directory such as /tmp (EPERM, EACCES). rename(2). */
static bool rename_is_barred(const struct file_output *output, int err)
{
    return output->replaces && (err == EBUSY || err == EPERM || err == EACCES || err == EXDEV);
}

/* The last resort of a finished recording: its bytes go into the old file. */
static struct error *output_copy_over(struct file_output *output)
{
    char buffer[COPY_STEP_BYTES];
    CLEANUP(close)
    int fd = openat(output->dir_fd, output->base_name, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 || lseek(output->fd, 0, SEEK_SET) < 0)
        return output_error(output, errno);
    for (;;) {
        ssize_t num_read = read(output->fd, buffer, sizeof(buffer));
        if (num_read < 0 && errno == EINTR)
            continue;
        if (num_read < 0)
            return output_error(output, errno);
        if (num_read == 0)
            break;
        RETURN_IF_ERROR(file_write_all(fd, buffer, (size_t)num_read, output->name));
    }
    return fsync(fd) < 0 ? output_error(output, errno) : NULL; /* destroy removes the temporary */
}

static struct error *output_commit_temp(struct file_output *output)
{
    if (fsync(output->fd) < 0)
        return output_error(output, errno);
    /* Root keeps the owner of a file that it replaces; for others this fails and changes nothing.
     */
    if (output->replaces && (output->uid != geteuid() || output->gid != getegid()) &&
        fchown(output->fd, output->uid, output->gid) < 0)
        errno = 0;
    if (fchmod(output->fd, output->mode) < 0)
        return output_error(output, errno);
    if (!*output->temp_name)
        RETURN_IF_ERROR(output_name_temp(output));
    if (renameat(output->dir_fd, output->temp_name, output->dir_fd, output->base_name) < 0)
        return rename_is_barred(output, errno) ? output_copy_over(output)
                                               : output_error(output, errno);
    output_drop_temp_name(output);
    directory_sync(output->dir_fd);
    return NULL;
}

static struct error *output_commit_in_place(struct file_output *output)
{
    struct stat status;

    if (fstat(output->fd, &status) < 0)
        return output_error(output, errno);
    /* A regular file without a name: cut off what it held beyond. */
    if (S_ISREG(status.st_mode) && ftruncate(output->fd, lseek(output->fd, 0, SEEK_CUR)) < 0)
        return output_error(output, errno);
    /* EINVAL, EROFS: "fd is bound to a special file which does not support synchronization". */
    if (fsync(output->fd) < 0 && errno != EINVAL && errno != EROFS)
        return output_error(output, errno);
    return NULL;
}

struct error *file_output_commit_take(struct file_output *output, uint64_t *num_bytes_ret)
{
    CLEANUP(file_output_destroy) struct file_output *guard = output;
    struct stat status;

    RETURN_IF_ERROR(guard->is_in_place ? output_commit_in_place(output)
                                       : output_commit_temp(output));
    if (fstat(output->fd, &status) < 0)
        return output_error(output, errno);
    /* NFS and quotas report late, at close (close(2)). */
    if (close(take_fd(&output->fd)) < 0 && errno != EINTR)
        return output_error(output, errno);
    if (num_bytes_ret)
        *num_bytes_ret = (uint64_t)status.st_size;
    return NULL;
}

void file_output_destroy(struct file_output *output)
{
    if (!output)
        return;
    if (output->fd >= 0)
        close(output->fd);
    if (*output->temp_name)
        unlinkat(output->dir_fd, output->temp_name, 0);
    temp_slot_release(output->slot);
    if (output->dir_fd >= 0)
        close(output->dir_fd);
    free(output->path);
    free(output->name);
    free(output);
}
