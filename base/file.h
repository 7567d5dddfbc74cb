/* Reading whole small files and writing files that are either complete or not there.
 *
 * Source: open(2), rename(2), fsync(2); design.md 6 (output rules).
 * Ownership: as told by each function. Threads: none.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Reads all of the file at `path`, relative to directory descriptor `dir_fd` (AT_FDCWD for the
 * working directory); works for procfs (size 0). Reading stops with an error past `max_bytes`.
 * content_ret: heap memory owned by the caller, with a NUL behind the last byte.
 * num_bytes_ret: bytes without that NUL; may be NULL. Returns: NULL or an error naming the path. */
struct error *file_read_all(int dir_fd, const char *path, size_t max_bytes, char **content_ret,
                            size_t *num_bytes_ret) MUST_CHECK;

/* Writes all `num_bytes` bytes to `fd`, continuing after short writes and EINTR.
 * name: what the error message calls the file. Returns: NULL or an error (ENOSPC, EPIPE, ...). */
struct error *file_write_all(int fd, const void *bytes, size_t num_bytes,
                             const char *name) MUST_CHECK;

/* An output file on its way. */
struct file_output;

/* Checks that `path` can be written and prepares to write it: a regular file (or none yet) gets a
 * temporary file in its directory, without a name where the file system can do that, so that even
 * SIGKILL leaves nothing behind; anything else that exists (/dev/null, a FIFO, a link of
 * /proc/PID/fd) is opened and written in place. "-" and "" are refused, and so is a directory. A
 * symbolic link is followed: the file that it names is replaced. output_ret: owned by the caller.
 * Returns: NULL or an error naming the path, with a hint. */
struct error *file_output_open(const char *path, struct file_output **output_ret) MUST_CHECK;

/* Tells the descriptor to write to; stays owned by `output`. */
int file_output_fd(const struct file_output *output);

/* Makes what was written permanent: fsync, modes as umask wants them (or those of the file that is
 * replaced), rename over the final name. Consumes `output` in any case; on an error the temporary
 * file is gone and the old file as it was.
 * num_bytes_ret: size of the file; may be NULL. Returns: NULL or an error naming the path. */
struct error *file_output_commit_take(struct file_output *output,
                                      uint64_t *num_bytes_ret) MUST_CHECK;

/* Throws away what was written; the old file stays. NULL is fine. */
void file_output_destroy(struct file_output *output);

/* Removes the temporary files of all outputs that are open. Async-signal-safe: for the second
 * SIGINT, just before _exit(). */
void file_output_emergency_unlink(void);

#endif
