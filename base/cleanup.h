/* Scope guards: what a block owns is released when the block is left, on every path.
 *
 *     CLEANUP(free) char *path = NULL;          one of the guards below
 *     CLEANUP(close) int fd = open(...);
 *     return take_fd(&fd);                       hand-over: the guard finds nothing to do
 *
 * A type `struct noun` with noun_destroy() gets its guard by one line in its header:
 *     DEFINE_CLEANUP(noun_destroy, struct noun *)
 * and is then used as `CLEANUP(noun_destroy) struct noun *n = NULL;`.
 *
 * Not reference counting, not error handling. Threads: none.
 * Source: GCC manual, variable attribute `cleanup`; manner of osandov/drgn libdrgn/cleanup.h.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/error.h"

/* Declares a guarded variable; `function` names a guard made by DEFINE_CLEANUP. */
#define CLEANUP(function) __attribute__((cleanup(cleanup_##function)))

/* Defines the guard cleanup_<function> for variables of pointer type `type`; NULL is skipped. */
#define DEFINE_CLEANUP(function, type)                           \
    static inline UNUSED void cleanup_##function(type *variable) \
    {                                                            \
        if (*variable)                                           \
            function(*variable);                                 \
    }

DEFINE_CLEANUP(error_destroy, struct error *)
DEFINE_CLEANUP(fclose, FILE *)
DEFINE_CLEANUP(closedir, DIR *)

/* Guard for heap memory of any pointer type. variable: address of the pointer. */
static inline UNUSED void cleanup_free(void *variable)
{
    free(*(void **)variable);
}

/* Guard for a file descriptor; negative means none. fd: address of the variable. */
static inline UNUSED void cleanup_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

/* Hands over a guarded pointer: yields its value and leaves NULL behind. */
#define take_ptr(pointer)                             \
    ({                                                \
        __typeof__(pointer) *take_from_ = &(pointer); \
        __typeof__(pointer) taken_ = *take_from_;     \
        *take_from_ = NULL;                           \
        taken_;                                       \
    })

/* Hands over a guarded file descriptor: yields it and leaves -1 behind.
 * fd: address of the variable. Returns: the descriptor. */
static inline UNUSED int take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

#endif
