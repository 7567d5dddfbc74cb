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

struct error *heap_processes_get(struct heap_processes *processes, pid_t pid, uint32_t *number_ret)
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
    *number_ret = process->number;
    return NULL;
}

uint32_t heap_processes_remove(struct heap_processes *processes, pid_t pid, bool is_dropped)
{
    struct heap_process *process = find(processes, pid);
    uint32_t number;

    if (!process)
        return 0;
    number = process->number;
    if (is_dropped)
        processes->dropped[number / 64] |= 1ull << (number % 64);
    *process = processes->processes[--processes->num_processes];
    return number;
}

bool heap_processes_is_dropped(const struct heap_processes *processes, uint64_t number)
{
    return number <= processes->last_number && processes->dropped[number / 64] >> (number % 64) & 1;
}
