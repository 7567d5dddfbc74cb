#include "cmd/resident.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/procfs.h"

#define INTERVAL_NS 1000000000ULL

static void add_process(void *context, struct process *process)
{
    struct resident *sum = context;
    struct procfs_memory memory = {0};

    if (process->has_ended)
        return;
    CLEANUP(error_destroy)
    UNUSED struct error *err = procfs_memory_read((pid_t)process->pid, &memory);
    sum->now_bytes += memory.rss_bytes;
    resident_add_peak(sum, memory.peak_rss_bytes);
}

void resident_add_peak(struct resident *resident, uint64_t peak_bytes)
{
    if (peak_bytes > resident->peak_bytes)
        resident->peak_bytes = peak_bytes;
}

void resident_look(struct resident *resident, struct target *target, bool is_last)
{
    uint64_t now_ns = clock_monotonic_ns();
    struct resident sum = {.looked_ns = now_ns, .peak_bytes = resident->peak_bytes};

    if (!is_last && now_ns - resident->looked_ns < INTERVAL_NS)
        return;
    target_each_process(target, add_process, &sum);
    resident_add_peak(&sum, sum.now_bytes);
    *resident = sum;
}
