/* Which Debian package a file belongs to, for a remedy that can be typed.
 *
 * Reads dpkg's lists of files as they are: running dpkg would cost more than all naming.
 * Threads: none. Source: dpkg-query(1) (--search), /var/lib/dpkg/info/PACKAGE.list.
 */
#ifndef CMD_PACKAGE_OWNER_H
#define CMD_PACKAGE_OWNER_H

#include <stddef.h>

#include "base/error.h"

/* Where dpkg keeps its lists. */
#define PACKAGE_LISTS_DIR "/var/lib/dpkg/info"

/* Finds the package that installed the file `path` (absolute), with or without "/usr" before it.
 * lists_dir: PACKAGE_LISTS_DIR. package_ret: its name without the architecture, owned by the
 * caller; NULL when no list names the file, or reading took over half a second.
 * Returns: NULL or error_no_memory. */
struct error *package_owner_find(const char *lists_dir, const char *path,
                                 char **package_ret) MUST_CHECK;

#endif
