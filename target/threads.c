#include "target/threads.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/procfs.h"

/* A process that starts short-lived threads faster than we list them would keep us here for ever.
 * The threads that we have seen pass on their events to those they start, so few passes are enough.
 */
#define MAX_PASSES 32

/* The tids visited so far, ascending. */
struct visited {
    pid_t *tids;
    size_t num_tids, capacity;
};

static void cleanup_visited(struct visited *visited)
{
    free(visited->tids);
}

/* Notes `tid`. is_new_ret: whether it was not there. Returns: NULL or error_no_memory. */
static struct error *visited_add(struct visited *visited, pid_t tid, bool *is_new_ret)
{
    size_t position = array_search(visited->num_tids, at, visited->tids[at] < tid);

    *is_new_ret = position == visited->num_tids || visited->tids[position] != tid;
    if (!*is_new_ret)
        return NULL;
    RETURN_IF_ERROR(array_reserve(&visited->tids, &visited->capacity, visited->num_tids + 1,
                                  sizeof(*visited->tids)));
    memmove(visited->tids + position + 1, visited->tids + position,
            (visited->num_tids - position) * sizeof(*visited->tids));
    visited->tids[position] = tid;
    visited->num_tids++;
    return NULL;
}

/* Visits one thread. Returns: the visitor's error, unless the thread is just gone. */
static struct error *thread_visit(pid_t pid, pid_t tid, thread_visit_fn *visit, void *context,
                                  size_t *num_threads)
{
    CLEANUP(error_destroy) struct error *err = visit(context, pid, tid);

    if (err && err->kind != ERROR_GONE)
        return take_ptr(err);
    if (!err)
        ++*num_threads;
    return NULL;
}

/* Lists the threads once and visits the new ones. num_new_ret: how many there were. */
static struct error *pass_run(pid_t pid, struct visited *visited, thread_visit_fn *visit,
                              void *context, size_t *num_threads, size_t *num_new_ret)
{
    CLEANUP(free) pid_t *tids = NULL;
    size_t num_tids = 0, num_new = 0;
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    RETURN_IF_ERROR(procfs_list_ids(path, &tids, &num_tids));
    for (size_t i = 0; i < num_tids; i++) {
        bool is_new;

        RETURN_IF_ERROR(visited_add(visited, tids[i], &is_new));
        if (!is_new)
            continue;
        num_new++;
        RETURN_IF_ERROR(thread_visit(pid, tids[i], visit, context, num_threads));
    }
    *num_new_ret = num_new;
    return NULL;
}

struct error *threads_visit(pid_t pid, thread_visit_fn *visit, void *context,
                            size_t *num_threads_ret)
{
    CLEANUP(visited) struct visited visited = {0};
    size_t num_threads = 0, num_new = 1;

    for (int pass = 0; pass < MAX_PASSES && num_new > 0; pass++) {
        CLEANUP(error_destroy)
        struct error *err = pass_run(pid, &visited, visit, context, &num_threads, &num_new);

        /* Ended in the middle: what was found was there. */
        if (err && (err->kind != ERROR_GONE || num_threads == 0))
            return take_ptr(err);
        if (err)
            break;
    }
    if (num_threads == 0)
        return error_create(ERROR_GONE, NULL, "process %d has ended", (int)pid);
    if (num_threads_ret)
        *num_threads_ret = num_threads;
    return NULL;
}
