/* Errors: the operation stops, and this value says why.
 *
 * An error is a value: `struct error *`, NULL means success. It carries one line of message (what
 * failed, on which object, why) and one line of hint (the one smallest thing the operator can do),
 * or no hint. Whoever receives an error either passes it on (perhaps with more context) or destroys
 * it. A function that returns an error leaves its `_ret` outputs untouched.
 *
 * Not for losses: one sample or frame that is worse than it could be is counted in struct loss
 * (profile/loss.h). Only cmd/main.c prints errors and picks the exit status from the kind.
 *
 * Ownership: the receiver owns the error. `error_no_memory` is a static object that error_destroy()
 * leaves alone, so running out of memory needs no memory.
 * Threads: values are not shared; no global state.
 * Source of truth: manner of osandov/drgn libdrgn/error.h.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/compiler.h"

/* What kind of failure it is; decides the exit status (design.md 1: 1 failed, 2 usage). */
enum error_kind {
    ERROR_FAILED,      /* the operation could not be done: exit status 1 */
    ERROR_USAGE,       /* the command line is wrong: exit status 2 */
    ERROR_NO_MEMORY,   /* out of memory: exit status 1 */
    ERROR_NOT_FOUND,   /* no such command, process or file: 1 */
    ERROR_PERMISSION,  /* refused by the kernel or by file modes: 1 */
    ERROR_UNSUPPORTED, /* this kernel, machine or build cannot do it: 1; a caller may fall back */
    ERROR_GONE,        /* the process went away while we looked at it: 1; often no failure at all */
};

struct error {
    enum error_kind kind;
    int errno_value; /* the errno behind it, 0 when there is none */
    char *message;   /* one line, no newline at the end, no "cprofiler:" prefix */
    char *hint;      /* one line, or NULL */
};

/* The error for "out of memory"; never freed, may be returned any number of times. */
extern struct error error_no_memory;

/* Makes an error of `kind` with a formatted one-line message and an optional hint.
 * hint: copied; NULL for none. format: printf format of the message.
 * Returns: a new error owned by the caller; &error_no_memory when memory is short. Never NULL. */
struct error *error_create(enum error_kind kind, const char *hint, const char *format, ...)
    PRINTF_LIKE(3, 4) MUST_CHECK;

/* Makes an error from an errno value: the message is the formatted text + ": " + strerror(err).
 * The kind follows from err: ENOMEM -> ERROR_NO_MEMORY, EPERM/EACCES -> ERROR_PERMISSION,
 * ENOENT -> ERROR_NOT_FOUND, ESRCH -> ERROR_GONE, ENOSYS/EOPNOTSUPP -> ERROR_UNSUPPORTED,
 * all else ERROR_FAILED.
 * err: a positive errno value. hint: copied; NULL for none (EMFILE then gets the hint to raise the
 * limit). Returns: a new error owned by the caller; never NULL. Source: errno(3). */
struct error *error_from_errno(int err, const char *hint, const char *format, ...)
    PRINTF_LIKE(3, 4) MUST_CHECK;

/* Puts a formatted text and ": " in front of the message of `err`, which it consumes.
 * err: may be NULL, then NULL is returned. Returns: the error to use from now on. */
struct error *error_prefix_take(struct error *err, const char *format, ...)
    PRINTF_LIKE(2, 3) MUST_CHECK;

/* Sets the hint of `err` unless it has one, and returns `err` (NULL stays NULL).
 * hint: copied. Failure to copy leaves the error without a hint. */
struct error *error_with_hint(struct error *err, const char *hint) MUST_CHECK;

/* Frees an error; NULL and &error_no_memory are fine. */
void error_destroy(struct error *err);

/* Returns `err` from the current function when it is not NULL. */
#define RETURN_IF_ERROR(expression)                    \
    do {                                               \
        struct error *return_if_error_ = (expression); \
        if (return_if_error_)                          \
            return return_if_error_;                   \
    } while (0)

#endif
