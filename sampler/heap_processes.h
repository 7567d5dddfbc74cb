/* Which processes have breakpoints, and by what number the BPF programs know them.
 *
 * A number is given once: what is left of a process that ended is never taken for that of another
 * which got its pid. Ownership: the caller owns the list. Threads: none.
 */
#ifndef SAMPLER_HEAP_PROCESSES_H
#define SAMPLER_HEAP_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* A process with breakpoints. */
struct heap_process {
    pid_t pid;
    uint32_t number;
};

struct heap_processes {
    struct heap_process *processes; /* in no order */
    size_t num_processes, capacity;
    uint32_t last_number;
    uint64_t *dropped; /* one bit for each number: nothing of it is in use any more */
    size_t dropped_capacity;
};

/* Frees. A zeroed list is fine. */
void heap_processes_deinit(struct heap_processes *processes);

/* Finds the number of a process, or adds it under a new one. Returns: NULL or error_no_memory. */
struct error *heap_processes_get(struct heap_processes *processes, pid_t pid,
                                 uint32_t *number_ret) MUST_CHECK;

/* Takes a process off the list; it may come again, under another number. is_dropped: it has nothing
 * in use. Returns: the number that it had; 0 when it is not on the list. */
uint32_t heap_processes_remove(struct heap_processes *processes, pid_t pid, bool is_dropped);

/* Tells whether the process of that number has nothing in use any more. */
bool heap_processes_is_dropped(const struct heap_processes *processes, uint64_t number);

#endif
