#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"

#define FILE_READ_STEP_BYTES 4096

static struct error *file_read_fd(int fd, const char *path, size_t max_bytes, char **content_ret,
                                  size_t *num_bytes_ret)
{
    CLEANUP(free) char *content = NULL;
    size_t num_bytes = 0;
    size_t capacity = 0;

    /* st_size is no guide in procfs (0): read until the end of the file. */
    for (;;) {
        RETURN_IF_ERROR(array_reserve(&content, &capacity, num_bytes + FILE_READ_STEP_BYTES, 1));
        ssize_t num_read = read(fd, content + num_bytes, capacity - num_bytes - 1);
        if (num_read < 0 && errno == EINTR)
            continue;
        if (num_read < 0)
            return error_from_errno(errno, NULL, "%s", path);
        if (num_read == 0)
            break;
        num_bytes += (size_t)num_read;
        if (num_bytes > max_bytes)
            return error_create(ERROR_FAILED, NULL, "%s: longer than %zu bytes", path, max_bytes);
    }
    content[num_bytes] = '\0';
    *content_ret = take_ptr(content);
    if (num_bytes_ret)
        *num_bytes_ret = num_bytes;
    return NULL;
}

struct error *file_read_all(int dir_fd, const char *path, size_t max_bytes, char **content_ret,
                            size_t *num_bytes_ret)
{
    /* O_NONBLOCK: a FIFO put where a file is expected must not hang us; no effect on regular files.
     */
    CLEANUP(close) int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return error_from_errno(errno, NULL, "%s", path);
    return file_read_fd(fd, path, max_bytes, content_ret, num_bytes_ret);
}

struct error *file_write_all(int fd, const void *bytes, size_t num_bytes, const char *name)
{
    const char *next = bytes;

    while (num_bytes) {
        ssize_t num_written = write(fd, next, num_bytes);
        if (num_written < 0 && errno == EINTR)
            continue;
        if (num_written < 0)
            return error_from_errno(errno, NULL, "%s", name);
        if (num_written == 0) /* write(2) leaves this open; do not spin on it */
            return error_from_errno(EIO, NULL, "%s", name);
        next += num_written;
        num_bytes -= (size_t)num_written;
    }
    return NULL;
}
