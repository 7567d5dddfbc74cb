/* Opening files where a target sees them: below its root directory, symbolic links resolved there.
 *
 * Only regular files are opened, and never in a way that could block (a hostile FIFO).
 * Ownership: the caller closes the descriptor. Threads: any. Source: openat2(2).
 */
#ifndef SYMBOLIZE_ROOT_FILE_H
#define SYMBOLIZE_ROOT_FILE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/compiler.h"

/* Opens the regular file `path` (absolute) for reading.
 * root: directory that stands for "/", such as /proc/PID/root; "" for our own root.
 * follow_last: whether a symbolic link as last component is followed.
 * stat_ret: what fstat(2) tells of it; may be NULL. Returns: the descriptor, or -1 for any reason.
 */
int root_file_open(const char *root, const char *path, bool follow_last,
                   struct stat *stat_ret) MUST_CHECK;

#endif
