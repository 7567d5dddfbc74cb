#include "sampler/heap_processes.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"

void heap_processes_deinit(struct heap_processes *processes)
{
    free(processes->processes);
    free(processes->dropped);
    *processes = (struct heap_processes){0};
}

static struct heap_process *find(const struct heap_processes *processes, pid_t pid)
{
    for (size_t i = 0; i < processes->num_processes; i++) {
        if (processes->processes[i].pid == pid)
            return &processes->processes[i];
    }
    return NULL;
}

struct error *heap_processes_get(struct heap_processes *processes, pid_t pid,
                                 struct heap_process **process_ret)
{
    struct heap_process *process = find(processes, pid);
    size_t num_words = ((size_t)processes->last_number + 1) / 64 + 1;

    if (!process) {
        size_t num_words_before = processes->dropped_capacity;

        RETURN_IF_ERROR(array_reserve(&processes->dropped, &processes->dropped_capacity, num_words,
                                      sizeof(*processes->dropped)));
        memset(processes->dropped + num_words_before, 0,
               (processes->dropped_capacity - num_words_before) * sizeof(*processes->dropped));
        RETURN_IF_ERROR(array_reserve(&processes->processes, &processes->capacity,
                                      processes->num_processes + 1, sizeof(*processes->processes)));
        process = &processes->processes[processes->num_processes++];
        *process = (struct heap_process){.pid = pid, .number = ++processes->last_number};
    }
    *process_ret = process;
    return NULL;
}

void heap_processes_remove(struct heap_processes *processes, pid_t pid, bool is_dropped,
                           struct heap_links *links_ret)
{
    struct heap_process *process = find(processes, pid);

    *links_ret = (struct heap_links){0};
    if (!process)
        return;
    *links_ret = process->links;
    if (is_dropped)
        processes->dropped[process->number / 64] |= 1ull << (process->number % 64);
    *process = processes->processes[--processes->num_processes];
}

bool heap_processes_take_links(struct heap_processes *processes, struct heap_links *links_ret)
{
    struct heap_links links = {0};

    for (size_t i = 0; i < processes->num_processes; i++) {
        struct heap_links *more = &processes->processes[i].links;

        if (more->num_fds == 0)
            continue;
        if (links.num_fds == 0) {
            links = *more;
        } else {
            if (array_reserve(&links.fds, &links.capacity, links.num_fds + more->num_fds,
                              sizeof(*links.fds)))
                break; /* &error_no_memory, which nobody has to destroy */
            memcpy(links.fds + links.num_fds, more->fds, more->num_fds * sizeof(*more->fds));
            links.num_fds += more->num_fds;
            free(more->fds);
        }
        *more = (struct heap_links){0};
    }
    *links_ret = links;
    return links.num_fds > 0;
}

bool heap_processes_is_dropped(const struct heap_processes *processes, uint64_t number)
{
    return number <= processes->last_number && processes->dropped[number / 64] >> (number % 64) & 1;
}
