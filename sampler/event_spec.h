/* What to sample by: from the words that a user types after -e to what the kernel is asked for.
 *
 *     cpu-clock   page-faults   cycles:u   L1-dcache-load-misses   r01c2   sched:sched_switch
 *
 * Not how often (sampler/sampler.h), not opening (sampler/perf_event.h), not where tracepoints get
 * their numbers from (sampler/tracefs.h). Threads: pure functions over values.
 * Source: perf_event_open(2), linux/perf_event.h; names and aliases as perf-list(1) has them.
 */
#ifndef SAMPLER_EVENT_SPEC_H
#define SAMPLER_EVENT_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define EVENT_SPEC_NAME_BYTES 192
#define EVENT_SPEC_PART_BYTES 80 /* subsystem or name of a tracepoint */

enum event_class {
    EVENT_CLASS_CLOCK,      /* a clock of the kernel; its unit is the nanosecond */
    EVENT_CLASS_SOFTWARE,   /* the kernel counts it: faults, switches */
    EVENT_CLASS_HARDWARE,   /* a counter of the processor */
    EVENT_CLASS_TRACEPOINT, /* a place in the kernel */
};

struct event_spec {
    char name[EVENT_SPEC_NAME_BYTES];        /* as perf spells it, with modifiers: "page-faults" */
    char sample_type[EVENT_SPEC_NAME_BYTES]; /* of pprof, [A-Za-z0-9_]: "cpu", "page_faults" */
    enum event_class class;
    uint32_t perf_type; /* PERF_TYPE_* */
    uint64_t perf_config;
    bool exclude_user;                      /* modifier k */
    bool exclude_kernel;                    /* modifier u */
    bool fires_in_kernel;                   /* hits in kernel mode whatever the task was doing */
    char subsystem[EVENT_SPEC_PART_BYTES];  /* tracepoints: "sched"; else empty */
    char tracepoint[EVENT_SPEC_PART_BYTES]; /* "sched_switch"; perf_config is its number */
};

/* The event that is sampled by when nothing else is asked for: cpu-clock. */
extern const struct event_spec event_spec_cpu_clock;

/* Reads one event: a name or alias of perf-list(1), rHEX for a raw counter, or SUBSYSTEM:NAME for a
 * tracepoint, "tracepoint:" may stand before it; then modifiers: ":u" user mode only, ":k" kernel
 * mode only. spec_ret: a tracepoint has no number yet (tracefs_find_tracepoint()).
 * Returns: NULL; ERROR_USAGE with the nearest name as hint. */
struct error *event_spec_parse(const char *text, struct event_spec *spec_ret) MUST_CHECK;

/* Makes the sample type from the whole name: for a second event with the sample type of the first
 * ("task_clock" beside "cpu", "sched_sched_switch" beside another's "sched_switch"). */
void event_spec_sample_type_of_name(struct event_spec *spec);

/* Tells the unit of the event as pprof spells it: "nanoseconds" or "count". */
const char *event_spec_unit(const struct event_spec *spec);

/* Tells the event number `index` of those that have a name of their own, in the order of a list for
 * people. alias_ret: its other name, or NULL. help_ret: one line, or NULL when the name says it
 * all. Returns: false when there are no more. */
bool event_spec_at(size_t index, struct event_spec *spec_ret, const char **alias_ret,
                   const char **help_ret);

#endif
