/* The files behind the mappings of a profile that was read back: found by build-id, so that places
 * can be named later and elsewhere.
 *
 * A mapping gets a module (its executable, or a separate debug file when only that is there) when a
 * file with the very build-id of the mapping is found: at the mapping's own path, in the debug
 * directories, in /usr/lib/debug, and last, if wanted, on a debuginfod server. A file with another
 * build-id is never taken.
 * Not names (symbolize_table() with SYMBOLIZE_FILES), not what a live process maps
 * (target/module.h). Paths and build-ids come from the profile and are hostile: only regular files
 * are opened, never blocking; time is bounded.
 * Ownership: modules belong to the target's module table. Threads: none.
 * Source: GDB manual "Separate Debug Files"; objcopy(1) --only-keep-debug.
 */
#ifndef SYMBOLIZE_MAPPING_FILES_H
#define SYMBOLIZE_MAPPING_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "profile/stack_table.h"
#include "target/target.h"

struct debug_server;

/* What became of a mapping. */
enum mapping_file_status {
    MAPPING_FILE_NOT_NEEDED,  /* nothing in it needs a name */
    MAPPING_FILE_NONE,        /* no file: kernel, JIT code, vdso, anonymous memory */
    MAPPING_FILE_FOUND,       /* it has a module now */
    MAPPING_FILE_MISSING,     /* no such file, or it may not be read */
    MAPPING_FILE_OTHER_BUILD, /* what lies there has another build-id */
    MAPPING_FILE_NO_BUILD_ID, /* the profile tells no build-id, so nothing can be verified */
    MAPPING_FILE_NUM_STATUSES
};

struct mapping_files_options {
    const char *debug_dir; /* directories separated by ':'; NULL = none. Each may be a tree like
                            * /usr/lib/debug, a root directory (DIR/usr/bin/x), or a plain folder of
                            * executables and debug files. */
    bool unverified;       /* without a build-id in the profile take the file at the path */
    bool again;            /* places that have lines count as well */
    uint64_t deadline_ns;  /* CLOCK_MONOTONIC; 0 none: what is left then counts as missing */
    struct debug_server *server; /* asked for the debug file, else for the executable, where nothing
                                  * is here; NULL = none */
};

/* Finds the files and sets module and kind of the mappings.
 * table: as read from a profile; target: made over it. statuses_ret: [num_mappings], by mapping id
 * - 1, heap memory of the caller. Returns: NULL or error_no_memory. */
struct error *mapping_files_find(struct stack_table *table, struct target *target,
                                 const struct mapping_files_options *options,
                                 enum mapping_file_status **statuses_ret) MUST_CHECK;

#endif
