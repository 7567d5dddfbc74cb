#include "cmd/profile_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/compiler.h"
#include "output/writer.h"

struct error *profile_file_open(struct profile_file *file, const char *kind, const char *path,
                                const char *name)
{
    int length;

    file->kind = kind;
    if (file->output)
        return NULL;
    length = path ? snprintf(file->path, sizeof(file->path), "%s", path)
                  : snprintf(file->path, sizeof(file->path), "cprofiler.%s.%s.pprof", name, kind);
    if ((size_t)length >= sizeof(file->path))
        return error_from_errno(ENAMETOOLONG, NULL, "cannot write '%.64s...'", path);
    return file_output_open(file->path, &file->output);
}

struct error *profile_file_write(struct profile_file *file, const struct profile *profile)
{
    struct file_output *output = take_ptr(file->output);
    struct error *err = writer_pprof.write(profile, file_output_fd(output), file->path);

    if (err) {
        file_output_destroy(output);
        return err;
    }
    RETURN_IF_ERROR(file_output_commit_take(output, &file->num_bytes));
    file->is_written = true;
    return NULL;
}

/* The place asked for turned out full: keep the recording in the first place that takes it. */
static struct error *rescue(struct profile_file *file, const struct profile *profile,
                            const char *name, struct error *cause)
{
    const char *const places[] = {getenv("TMPDIR"), "/var/tmp", "/tmp", "/dev/shm"};
    CLEANUP(error_destroy) struct error *first = cause;

    for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
        struct error *err;
        char hint[PATH_MAX + 64];
        int length;

        if (!places[i])
            continue;
        length = snprintf(file->path, sizeof(file->path), "%s/cprofiler.%.100s.%s.pprof", places[i],
                          name, file->kind);
        if ((size_t)length >= sizeof(file->path))
            continue;
        err = file_output_open(file->path, &file->output);
        if (!err)
            err = profile_file_write(file, profile);
        if (err) {
            error_destroy(err);
            continue;
        }
        snprintf(hint, sizeof(hint), "the profile was kept as %s", file->path);
        return error_create(ERROR_FAILED, hint, "%s", first->message);
    }
    return take_ptr(first);
}

struct error *profile_file_keep(struct profile_file *file, const struct profile *profile,
                                const char *name)
{
    struct error *err = profile_file_write(file, profile);

    return err ? rescue(file, profile, name, err) : NULL;
}

void profile_file_deinit(struct profile_file *file)
{
    file_output_destroy(file->output);
    file->output = NULL;
}
