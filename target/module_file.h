/* Finding and opening the very file that a process has mapped: not the one that has its name by
 * now.
 *
 * Not ELF. Names come from the target and are hostile: only regular files are opened, never
 * blocking. Ownership: the caller owns what is filled in. Threads: any. Source: proc(5) (map_files,
 * root, exe), unwinding.md 7, design.md 4 (Mappings).
 */
#ifndef TARGET_MODULE_FILE_H
#define TARGET_MODULE_FILE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "target/module.h"

/* An opened file, or the attempt. */
struct module_file {
    int fd;             /* -1: could not be opened */
    struct stat status; /* valid when fd >= 0 */
    char *path;         /* as the target sees it, without " (deleted)" */
    char *root;         /* that of the request, if the file was there; "": to be filled in */
    bool is_deleted;    /* the path names another file by now, or none */
};

/* Opens the file of a mapping: by map_files, /proc/PID/root + path, /proc/PID/exe, request->root +
 * path, plain path; each only when its inode (and its device, where file systems tell one truth) is
 * the mapping's. file_ret: filled in also when nothing could be opened. Returns: NULL or
 * error_no_memory. */
struct error *module_file_open(const struct module_request *request,
                               struct module_file *file_ret) MUST_CHECK;

/* Opens `path` if it is a regular file. file_ret: as above. Returns: NULL or error_no_memory. */
struct error *module_file_open_path(const char *path, struct module_file *file_ret) MUST_CHECK;

/* Closes the file and frees the strings. A file with fd -1 and no strings is fine. */
void module_file_close(struct module_file *file);

/* Guard for a struct module_file in the caller's storage. */
static inline UNUSED void cleanup_module_file(struct module_file *file)
{
    module_file_close(file);
}

#endif
