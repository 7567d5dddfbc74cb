/* The files that tell about one module: itself, its separate debug file, the dwz file these share,
 * and the MiniDebugInfo inside it. Each separate file is taken only when its build-id (or, for a
 * .gnu_debuglink, its CRC) proves that it belongs here.
 *
 * Looked for below the target's root first, then below our own; on the network only by
 * debug_files_fetch().
 * Ownership: the caller owns the struct; handles inside are borrowed by the sources. Threads: none.
 * Source: GDB manual "Debugging Information in Separate Files", "MiniDebugInfo"; dwz(1).
 */
#ifndef SYMBOLIZE_DEBUG_FILES_H
#define SYMBOLIZE_DEBUG_FILES_H

#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "target/module.h"

struct debug_server;

/* Largest compressed debug info we read, inflated: it has to be in memory while its module is
 * named. What is not compressed is mapped and costs nothing. */
#define DEBUG_FILES_MAX_INFO_BYTES ((uint64_t)512 << 20)
#define DEBUG_FILES_MAX_BYTES ((uint64_t)1536 << 20)

struct debug_files {
    const struct module *module;
    char **dirs; /* debug directories: those of the user, then /usr/lib/debug */
    size_t num_dirs;
    Elf *main;         /* the module itself, by a handle of our own */
    Elf *debug;        /* separate debug file, NULL = none */
    Elf *alt;          /* dwz file, NULL = none */
    Elf *mini;         /* MiniDebugInfo, only when there is neither a .symtab nor a debug file */
    Elf *dwarf;        /* main or debug, whichever has DWARF that may be read; NULL = neither */
    char *debug_path;  /* as opened, below debug_root; NULL = none */
    bool is_go;        /* a Go program: names are not mangled, "." has a meaning of its own */
    bool is_too_large; /* there is DWARF, but beyond the limits above */
    bool is_loaded;    /* debug_files_load_dwarf() was called */
    struct debug_server *server; /* for the dwz file; NULL = not asked */
    int debug_fd;
    int alt_fd;
    char *mini_image;
};

/* Opens all files of a module. A missing or unfit debug file is no error.
 * module: outlives the result. debug_dir: looked into before /usr/lib/debug; several are separated
 * by ':' (as gdb's debug-file-directory); NULL = none.
 * files_ret: owned by the caller. Returns: NULL; error_no_memory; ERROR_FAILED when the module
 * itself cannot be read. */
struct error *debug_files_open(const struct module *module, const char *debug_dir,
                               struct debug_files **files_ret) MUST_CHECK;

/* Asks a server for the debug file, where none was found and one would help.
 * server: outlives files. */
void debug_files_fetch(struct debug_files *files, struct debug_server *server);

/* Finds the dwz file of files->dwarf, once: only when debug info is asked for.
 * Returns: NULL or error_no_memory. */
struct error *debug_files_load_dwarf(struct debug_files *files) MUST_CHECK;

/* Closes all files. NULL is fine. */
void debug_files_close(struct debug_files *files);

DEFINE_CLEANUP(debug_files_close, struct debug_files *)

#endif
