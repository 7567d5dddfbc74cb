/* What a heap recording costs its target, and when that is too much.
 *
 * A breakpoint costs a fixed time at each call, which is measured on a child of our own; how many
 * calls there are the kernel counts exactly. The overhead is that time as a share of the CPU time
 * that the target would have used without it.
 * Not the breakpoints (cmd/heap_probes.h). Ownership: the caller's storage. Threads: none.
 * Source: docs/adr (heap recordings).
 */
#ifndef CMD_HEAP_BUDGET_H
#define CMD_HEAP_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cmd/heap_probes.h"
#include "sampler/heap.h"

#define HEAP_DEFAULT_BUDGET 0.05

struct heap_budget {
    double limit; /* share of the target's CPU time; 0: none */
    struct heap_costs costs;
    uint64_t last_ns; /* when it was looked at last */
    uint64_t last_cpu_ns;
    struct heap_counts last_counts;
    double unmatched_ns; /* spent in breakpoints when the CPU time of the target was not known */
    double cpu_ns;       /* of the target, since the start */
    double trap_ns;      /* of that, spent in breakpoints */
    double worst;        /* overhead of the worst second */
    double current;      /* overhead of the last second */
    unsigned num_over;   /* seconds in a row above the limit */
    bool is_exceeded;    /* for too long: the probes were let go */
    double admitted;     /* overhead found before the recording; < 0: not looked at */
};

/* Makes one. limit: share, 0: none. costs: copied. */
void heap_budget_init(struct heap_budget *budget, double limit, const struct heap_costs *costs);

/* Notes where the counts stand: from here on it is reckoned. */
void heap_budget_start(struct heap_budget *budget, struct heap_probes *probes);

/* Counts for a tenth of a second what the probed processes call, and predicts the overhead.
 * Returns: NULL; ERROR_FAILED with the number and what to do when it is above the limit. */
struct error *heap_budget_admit(struct heap_budget *budget,
                                const struct heap_probes *probes) MUST_CHECK;

/* Looks at the overhead, when a second has passed since the last look.
 * Returns: true when it is too much for too long: the probes have to go. */
bool heap_budget_look(struct heap_budget *budget, struct heap_probes *probes);

/* Takes the last look. command_cpu_ns: CPU time of a command that has ended, with all its children;
 * 0: as /proc tells. */
void heap_budget_end(struct heap_budget *budget, struct heap_probes *probes,
                     uint64_t command_cpu_ns);

/* Tells the overhead of the whole recording, a share. */
double heap_budget_overhead(const struct heap_budget *budget);

#endif
