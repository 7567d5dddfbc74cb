#include "symbolize/root_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

static int open_below(const char *root, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)flags, .resolve = RESOLVE_IN_ROOT};
    CLEANUP(close) int dir_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (dir_fd < 0)
        return -1;
    return (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
}

int root_file_open(const char *root, const char *path, bool follow_last, struct stat *stat_ret)
{
    int flags = O_PATH | O_CLOEXEC | (follow_last ? 0 : O_NOFOLLOW);
    CLEANUP(close) int place_fd = -1;
    CLEANUP(close) int fd = -1;
    struct stat status;
    char name[40];

    if (path[0] != '/')
        return -1;
    /* Opening a device or a FIFO may do things or block: first only point at what is there. */
    place_fd = root[0] ? open_below(root, path, flags) : open(path, flags);
    if (place_fd < 0 || fstat(place_fd, &status) < 0 || !S_ISREG(status.st_mode))
        return -1;
    snprintf(name, sizeof(name), "/proc/self/fd/%d", place_fd);
    fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -1;
    if (stat_ret)
        *stat_ret = status;
    return take_fd(&fd);
}
