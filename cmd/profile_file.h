/* A file that a profile of a recording goes to: checked before the recording starts, written whole
 * or not at all, kept elsewhere when its place turned out full.
 *
 * Not the format (output/), not the summary. Ownership: the caller owns the file. Threads: none.
 * Source: design.md 6 (Output).
 */
#ifndef CMD_PROFILE_FILE_H
#define CMD_PROFILE_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "profile/profile.h"

struct profile_file {
    const char *kind; /* "cpu", "heap", "growth": borrowed */
    char path[PATH_MAX];
    struct file_output *output; /* NULL: not open, or written already */
    uint64_t num_bytes;
    bool is_written;
};

/* Opens it, unless it is open. path: NULL: cprofiler.NAME.KIND.pprof here. name: of the target; may
 * be NULL when path is given. Returns: NULL or why it can't be written. */
struct error *profile_file_open(struct profile_file *file, const char *kind, const char *path,
                                const char *name) MUST_CHECK;

/* Writes the profile and puts the file in its place. Returns: NULL or an error; the old file, if
 * any, stays then. */
struct error *profile_file_write(struct profile_file *file,
                                 const struct profile *profile) MUST_CHECK;

/* Writes the profile; when its place turned out full, to the first place that takes it.
 * name: of the target. Returns: NULL; else what went wrong, with where it was kept as hint. */
struct error *profile_file_keep(struct profile_file *file, const struct profile *profile,
                                const char *name) MUST_CHECK;

/* Gives up what was not written. A zeroed file is fine. */
void profile_file_deinit(struct profile_file *file);

#endif
