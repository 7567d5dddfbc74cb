#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char no_memory_message[] = "out of memory";

struct error error_no_memory = {
    .kind = ERROR_NO_MEMORY,
    .errno_value = ENOMEM,
    .message = no_memory_message,
};

/* One message is one line: what is quoted in it (paths, names) may hold any bytes. */
static void text_make_one_line(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

/* Consumes `message`; NULL stands for an allocation that failed. */
static struct error *error_create_take(enum error_kind kind, int errno_value, const char *hint,
                                       char *message)
{
    if (!message)
        return &error_no_memory;
    struct error *err = malloc(sizeof(*err));
    if (!err) {
        free(message);
        return &error_no_memory;
    }
    text_make_one_line(message);
    *err = (struct error){.kind = kind, .errno_value = errno_value, .message = message};
    return error_with_hint(err, hint);
}

static char *text_vformat(const char *format, va_list args)
{
    char *text = NULL;

    if (vasprintf(&text, format, args) < 0)
        return NULL;
    return text;
}

struct error *error_create(enum error_kind kind, const char *hint, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    char *message = text_vformat(format, args);
    va_end(args);
    return error_create_take(kind, 0, hint, message);
}

static enum error_kind errno_kind(int err)
{
    switch (err) {
    case ENOMEM:
        return ERROR_NO_MEMORY;
    case EPERM:
    case EACCES:
        return ERROR_PERMISSION;
    case ENOENT:
        return ERROR_NOT_FOUND;
    case ESRCH:
        return ERROR_GONE;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERROR_UNSUPPORTED;
    default:
        return ERROR_FAILED;
    }
}

struct error *error_from_errno(int err, const char *hint, const char *format, ...)
{
    va_list args;
    char *message = NULL;

    va_start(args, format);
    char *what = text_vformat(format, args);
    va_end(args);
    /* glibc's strerror_r: thread-safe, needs no memory for known values. */
    char reason[128];
    const char *reason_text = strerror_r(err, reason, sizeof(reason));
    if (what && asprintf(&message, "%s: %s", what, reason_text) < 0)
        message = NULL;
    free(what);
    if (!hint && err == EMFILE) /* the same remedy whatever was being opened */
        hint = "raise the limit: ulimit -n 1024";
    return error_create_take(errno_kind(err), err, hint, message);
}

struct error *error_prefix_take(struct error *err, const char *format, ...)
{
    /* The static object cannot carry a prefix: it is shared. */
    if (!err || err == &error_no_memory)
        return err;

    va_list args;
    va_start(args, format);
    char *prefix = text_vformat(format, args);
    va_end(args);
    char *message = NULL;
    if (prefix && asprintf(&message, "%s: %s", prefix, err->message) < 0)
        message = NULL;
    free(prefix);
    if (!message)
        return err; /* the message without its prefix tells more than "out of memory" */
    text_make_one_line(message);
    free(err->message);
    err->message = message;
    return err;
}

struct error *error_with_hint(struct error *err, const char *hint)
{
    if (!err || err == &error_no_memory || err->hint || !hint)
        return err;
    err->hint = strdup(hint);
    if (err->hint)
        text_make_one_line(err->hint);
    return err;
}

void error_destroy(struct error *err)
{
    if (!err || err == &error_no_memory)
        return;
    free(err->message);
    free(err->hint);
    free(err);
}
