/* Which files a command will map when it starts: itself, the interpreter, its libraries.
 *
 * Asked from the program's own dynamic linker (INTERP --list FILE), which knows LD_PRELOAD,
 * LD_LIBRARY_PATH, caches and namespaces as they will hold. It runs no code of the program. What is
 * loaded later (dlopen) or by programs that a script starts is not here. An answer is a help, never
 * needed: what can't be known or takes too long is left out.
 * Ownership: as told. Threads: none. Source: ld.so(8), execve(2) (scripts).
 */
#ifndef TARGET_NEEDED_H
#define TARGET_NEEDED_H

#include <stddef.h>

#include "base/error.h"

#define NEEDED_MAX_FILES 4096
#define NEEDED_MAX_MS 500

struct needed_files {
    char **paths; /* in the order in which the dynamic linker searches them: the program first */
    size_t num_paths, capacity;
};

/* Finds what `path`, a file that execve would run, maps at its start; a script stands for its #!
 * interpreter, one that is only text for /bin/sh. Never runs the linker for a program with set-uid,
 * set-gid or file capabilities, nor for one that we may not execute: then the list has the program
 * and its interpreter alone. Takes NEEDED_MAX_MS at most, kills what runs longer.
 * needed_ret: owned by the caller (needed_files_deinit()); empty when `path` is no ELF file for
 * this machine. Returns: NULL or error_no_memory. */
struct error *needed_files_find(const char *path, struct needed_files *needed_ret) MUST_CHECK;

/* Frees. A zeroed list is fine. */
void needed_files_deinit(struct needed_files *needed);

#endif
