/* The root directories of targets that see other files than we do: containers, chroots, mount
 * namespaces. Kept open, so that debug files and maps of JIT code in there are found after the
 * process is gone.
 *
 * With a root its mount namespace is kept open, else its mounts would fall apart with the last
 * process in it. Both hold file systems busy no longer than the modules that are kept open anyway.
 * Ownership: the table owns the descriptors. Threads: none. Source: proc(5) (root, ns/mnt),
 * mount_namespaces(7).
 */
#ifndef TARGET_ROOTS_H
#define TARGET_ROOTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* More different roots than this are looked up by pid as long as the process lives. */
#define ROOTS_MAX 256

/* One root directory in one mount namespace. */
struct root {
    int dir_fd;
    int ns_fd;
    uint64_t dev, inode, ns_inode;
    char path[32]; /* by which dir_fd is opened again: /proc/self/fd/N */
};

struct roots {
    struct root *rows;
    size_t num, capacity;
};

/* Finds or opens the root directory of a process.
 * path_ret: a path that means it, for root_file_open() and openat2(2); valid until
 * roots_deinit() or the next call; "" when it is the same as ours, or cannot be known.
 * Returns: NULL or error_no_memory. */
struct error *roots_get(struct roots *roots, uint32_t pid, const char **path_ret) MUST_CHECK;

/* Closes all. A zeroed table is fine. */
void roots_deinit(struct roots *roots);

#endif
