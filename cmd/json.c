#include "cmd/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/string_table.h"

struct error *json_print_string(const char *text, FILE *stream)
{
    CLEANUP(free) char *clean = NULL;

    RETURN_IF_ERROR(utf8_sanitize(text, &clean));
    fputc('"', stream);
    for (const char *c = clean; *c; c++) {
        if (*c == '"' || *c == '\\')
            fputc('\\', stream);
        fputc(*c, stream);
    }
    fputc('"', stream);
    return NULL;
}

static struct error *print_all(json_print_fn *print, const void *context, FILE *stream)
{
    RETURN_IF_ERROR(print(context, stream));
    if (fflush(stream) || ferror(stream))
        return error_from_errno(errno ? errno : EIO, NULL, "cannot write the JSON summary");
    return NULL;
}

struct error *json_write(const char *path, json_print_fn *print, const void *context)
{
    struct file_output *output = NULL;
    CLEANUP(fclose) FILE *stream = NULL;
    struct error *err;

    if (!*path)
        return print_all(print, context, stderr);
    RETURN_IF_ERROR(file_output_open(path, &output));
    stream = fdopen(fcntl(file_output_fd(output), F_DUPFD_CLOEXEC, 3), "w");
    err = stream ? print_all(print, context, stream)
                 : error_from_errno(errno, NULL, "cannot write '%s'", path);
    if (err) {
        file_output_destroy(output);
        return err;
    }
    return file_output_commit_take(output, NULL);
}
