/* The threads of a live process, found without missing one that starts meanwhile.
 *
 * Not their names (target/target.h). Source: proc(5) /proc/PID/task; unwinding.md 8.1.
 * Threads: none.
 */
#ifndef TARGET_THREADS_H
#define TARGET_THREADS_H

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* Called once for each thread found. Returns: NULL to go on; ERROR_GONE is swallowed (the thread
 * ended meanwhile); any other error ends the enumeration. */
typedef struct error *thread_visit_fn(void *context, pid_t pid, pid_t tid);

/* Visits every thread of `pid`: lists /proc/PID/task again and again until a pass finds no new one.
 * num_threads_ret: how many were visited; may be NULL.
 * Returns: NULL; ERROR_GONE when the process is not there; the visitor's error. */
struct error *threads_visit(pid_t pid, thread_visit_fn *visit, void *context,
                            size_t *num_threads_ret) MUST_CHECK;

#endif
