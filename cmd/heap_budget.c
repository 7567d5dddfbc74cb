#include "cmd/heap_budget.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/procfs.h"

#define ADMISSION_NS 100000000L
#define LOOK_INTERVAL_NS 1000000000ULL
#define MAX_SECONDS_OVER 3
#define MIN_CPU_NS 100000000.0 /* less tells nothing: /proc counts in ticks of 10 ms */
#define MIN_EXACT_CPU_NS 10000000.0
#define MAX_OVERHEAD 20.0
#define SECOND_PROCESS_NS 200.0
#define NEXT_PROCESS_NS 48.0

void heap_budget_init(struct heap_budget *budget, double limit, const struct heap_costs *costs)
{
    *budget = (struct heap_budget){.limit = limit, .costs = *costs, .admitted = -1};
}

/* CPU time of all processes that live, and of the children that they waited for: what a child used
 * goes from the one to the other when it ends. */
static uint64_t sum_cpu_ns(const struct heap_probes *probes)
{
    uint64_t ticks = 0;

    for (size_t i = 0; i < probes->num_processes; i++) {
        CLEANUP(error_destroy) struct error *err = NULL;
        struct procfs_stat stat;

        if (probes->processes[i].has_ended)
            continue;
        err = procfs_stat_read((pid_t)probes->processes[i].pid, &stat);
        if (!err)
            ticks += stat.utime_ticks + stat.stime_ticks + stat.children_ticks;
    }
    return ticks * 1000000000ULL / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* What calls between two readings cost. At a breakpoint of several processes in one file the kernel
 * walks through the links of all, and catches the return always (measured with 2 to 32). */
static double spent_ns(const struct heap_budget *budget, const struct heap_counts *before,
                       const struct heap_counts *after, size_t num_processes)
{
    double num_allocs = (double)(after->num_allocs + after->num_nested) -
                        (double)(before->num_allocs + before->num_nested);
    double num_frees = (double)after->num_frees - (double)before->num_frees;
    double num_stepped = (double)after->num_stepped - (double)before->num_stepped;
    double crowd_ns =
        num_processes > 1 ? SECOND_PROCESS_NS + NEXT_PROCESS_NS * (double)(num_processes - 1) : 0;

    return num_allocs * budget->costs.alloc_ns + num_frees * budget->costs.free_ns +
           num_stepped * budget->costs.stepped_ns + (num_allocs + num_frees) * crowd_ns;
}

static double overhead_of(double traps_ns, double cpu_ns)
{
    double own_ns = cpu_ns - traps_ns;

    if (traps_ns <= 0)
        return 0;
    return own_ns * MAX_OVERHEAD > traps_ns ? traps_ns / own_ns : MAX_OVERHEAD;
}

void heap_budget_start(struct heap_budget *budget, struct heap_probes *probes)
{
    budget->last_ns = clock_monotonic_ns();
    budget->last_cpu_ns = sum_cpu_ns(probes);
    heap_sampler_counts(probes->sampler, &budget->last_counts);
}

/* CPU time in ns, to the ns: a tenth of a second has ten ticks only. */
static uint64_t sum_exact_cpu_ns(const struct heap_probes *probes)
{
    uint64_t sum_ns = 0;

    for (size_t i = 0; i < probes->num_processes; i++) {
        CLEANUP(error_destroy) struct error *err = NULL;
        uint64_t cpu_ns;

        err = procfs_cpu_ns_read((pid_t)probes->processes[i].pid, &cpu_ns);
        if (!err)
            sum_ns += cpu_ns;
    }
    return sum_ns;
}

struct error *heap_budget_admit(struct heap_budget *budget, const struct heap_probes *probes)
{
    const struct timespec pause = {.tv_nsec = ADMISSION_NS};
    struct heap_counts before, after;
    double cpu_ns = -(double)sum_exact_cpu_ns(probes);
    double traps_ns, num_calls;

    heap_sampler_counts(probes->sampler, &before);
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    heap_sampler_counts(probes->sampler, &after);
    traps_ns = spent_ns(budget, &before, &after, probes->num_alive);
    cpu_ns += (double)sum_exact_cpu_ns(probes);
    num_calls = (double)(after.num_allocs + after.num_frees - before.num_allocs - before.num_frees);
    budget->admitted = cpu_ns < MIN_EXACT_CPU_NS ? 0 : overhead_of(traps_ns, cpu_ns);
    if (!budget->limit || budget->admitted <= budget->limit)
        return NULL;
    return error_create(
        ERROR_FAILED,
        "--heap-budget PERCENT or none accepts that; --heap-mode growth costs next to nothing; -o "
        "FILE without --heap shows who allocates by CPU time",
        "heap: probes would slow the target down by %.0f %% (%.0f calls of the allocator in 0.1 s, "
        "%.1f us for malloc and free), the budget is %.5g %%",
        100 * budget->admitted, num_calls, (budget->costs.alloc_ns + budget->costs.free_ns) / 1000,
        100 * budget->limit);
}

/* Reckons what was spent since the last look. */
static double look_at_traps(struct heap_budget *budget, struct heap_probes *probes)
{
    struct heap_counts counts;
    double traps_ns;

    heap_sampler_counts(probes->sampler, &counts);
    traps_ns = spent_ns(budget, &budget->last_counts, &counts, probes->most_alive);
    budget->last_counts = counts;
    probes->most_alive = probes->num_alive;
    return traps_ns;
}

/* The same with what was used. */
static void look(struct heap_budget *budget, struct heap_probes *probes, uint64_t now_ns)
{
    uint64_t cpu_ns = sum_cpu_ns(probes);
    double traps_ns = look_at_traps(budget, probes);
    double used_ns = (double)cpu_ns - (double)budget->last_cpu_ns;

    budget->last_ns = now_ns;
    budget->last_cpu_ns = cpu_ns;
    budget->current = 0;
    if (used_ns < 0) { /* one has ended: how much it used since the last look nobody knows */
        budget->unmatched_ns += traps_ns;
        return;
    }
    budget->cpu_ns += used_ns;
    budget->trap_ns += traps_ns;
    if (used_ns >= MIN_CPU_NS)
        budget->current = overhead_of(traps_ns, used_ns);
}

bool heap_budget_look(struct heap_budget *budget, struct heap_probes *probes)
{
    uint64_t now_ns = clock_monotonic_ns();

    if (now_ns - budget->last_ns < LOOK_INTERVAL_NS)
        return false;
    look(budget, probes, now_ns);
    if (budget->current > budget->worst)
        budget->worst = budget->current;
    budget->num_over = budget->limit && budget->current > budget->limit ? budget->num_over + 1 : 0;
    return budget->num_over >= MAX_SECONDS_OVER;
}

void heap_budget_end(struct heap_budget *budget, struct heap_probes *probes,
                     uint64_t command_cpu_ns)
{
    look(budget, probes, clock_monotonic_ns());
    if (command_cpu_ns) {
        budget->cpu_ns = (double)command_cpu_ns;
        budget->trap_ns += budget->unmatched_ns;
    }
}

double heap_budget_overhead(const struct heap_budget *budget)
{
    return budget->cpu_ns < MIN_CPU_NS ? 0 : overhead_of(budget->trap_ns, budget->cpu_ns);
}
