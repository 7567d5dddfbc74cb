/* The events of one sampler, as the kernel is asked for them, and what a sample of each stands for.
 *
 * What both engines share: which events, their attributes after the probe, one record layout for
 * all. Not their descriptors, which the engines own. Threads: none.
 * Source: perf_event_open(2).
 */
#ifndef SAMPLER_PERF_EVENT_SET_H
#define SAMPLER_PERF_EVENT_SET_H

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "profile/sample.h"
#include "sampler/sampler.h"

struct perf_event_set {
    struct sampler_event fallback;      /* cpu-clock, where the options name no events */
    const struct sampler_event *events; /* the options', or `fallback`: the set must not be moved */
    size_t num_events;
    struct perf_event_attr attrs[SAMPLER_MAX_EVENTS]; /* all with one sample_type */
    bool wants_kernel;
};

/* Fills the set and probes every event of it (perf_event_probe_sampling() with pid and cpu).
 * inherit: as perf_event_attr_sampling(). may_drop_kernel: events that are worth something without
 * kernel mode may go without. Returns: NULL or why an event is refused. */
struct error *perf_event_set_init(struct perf_event_set *set, const struct sampler_options *options,
                                  bool inherit, pid_t pid, int cpu,
                                  bool may_drop_kernel) MUST_CHECK;

/* Completes a sample of event number `event` (0 when there is no such): which it is and, where the
 * kernel does not tell it, its weight. */
void perf_event_set_complete(const struct perf_event_set *set, uint32_t event,
                             struct sample *sample);

/* Tells the layout of its records. */
uint64_t perf_event_set_sample_type(const struct perf_event_set *set);

/* Tells whether kernel mode is sampled, by the first event. */
bool perf_event_set_has_kernel(const struct perf_event_set *set);

/* Tells the period of the first event in ns of CPU time; 0 when it is no clock. */
uint64_t perf_event_set_period_ns(const struct perf_event_set *set);

#endif
