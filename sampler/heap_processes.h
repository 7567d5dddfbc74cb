/* Which processes have breakpoints, and by what number the BPF programs know them.
 *
 * A number is given once: what is left of a process that ended is never taken for that of another
 * which got its pid. Ownership: the list owns the links. Threads: none.
 */
#ifndef SAMPLER_HEAP_PROCESSES_H
#define SAMPLER_HEAP_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "sampler/heap_probes.h"

/* A process with breakpoints. */
struct heap_process {
    pid_t pid;
    uint32_t number;
    struct heap_links links;
};

struct heap_processes {
    struct heap_process *processes; /* in no order */
    size_t num_processes, capacity;
    uint32_t last_number;
    uint64_t *dropped; /* one bit for each number: nothing of it is in use any more */
    size_t dropped_capacity;
};

/* Frees. There must be no links left (heap_processes_take_links()). A zeroed list is fine. */
void heap_processes_deinit(struct heap_processes *processes);

/* Finds a process, or adds it under a new number. process_ret: borrowed, until the next call.
 * Returns: NULL or error_no_memory. */
struct error *heap_processes_get(struct heap_processes *processes, pid_t pid,
                                 struct heap_process **process_ret) MUST_CHECK;

/* Takes a process off the list; it may come again, under another number. is_dropped: it has nothing
 * in use. links_ret: its links, now the caller's; none when it is not on the list. */
void heap_processes_remove(struct heap_processes *processes, pid_t pid, bool is_dropped,
                           struct heap_links *links_ret);

/* Takes links of processes, which stay on the list: of all, or where memory is short, of one.
 * links_ret: now the caller's. Returns: false when there are none left. */
bool heap_processes_take_links(struct heap_processes *processes, struct heap_links *links_ret);

/* Tells whether the process of that number has nothing in use any more. */
bool heap_processes_is_dropped(const struct heap_processes *processes, uint64_t number);

#endif
