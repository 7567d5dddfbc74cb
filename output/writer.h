/* What the user keeps: a profile as bytes. One writer = one format.
 *
 * Not files and their names (base/file.h, cmd/). Writers read the profile and never change it.
 * Ownership: everything is borrowed during the call. Threads: none.
 */
#ifndef OUTPUT_WRITER_H
#define OUTPUT_WRITER_H

#include "base/error.h"
#include "profile/profile.h"

struct writer_ops {
    const char *name;   /* "pprof" */
    const char *suffix; /* ".pprof" */
    /* Writes the whole profile to `fd`. name: of the file, for error messages.
     * Returns: NULL or an error (ENOSPC and the like); then the file is worthless. */
    struct error *(*write)(const struct profile *profile, int fd, const char *name);
};

/* gzipped profile.proto: self-contained, dense ids, valid UTF-8; equal profiles give equal bytes.
 */
extern const struct writer_ops writer_pprof;

#endif
