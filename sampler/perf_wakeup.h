/* When the reader must hurry: moves sampling events from their batched rings to rings that wake us
 * at each sample, once it shows that many stacks are deeper than what a sample copies.
 *
 * Such a stack is completed from the live process, which must be read at once; all other samples
 * can wait, and should: a wakeup costs ten times what reading a sample does, and on a busy CPU it
 * ends the time slice of the task just sampled, so that ticks hit our target more often than its
 * share. Ownership: the rings are borrowed. Threads: one reader. Source: perf_event_open(2)
 * (PERF_EVENT_IOC_SET_OUTPUT), unwinding.md 2 (live tail).
 */
#ifndef SAMPLER_PERF_WAKEUP_H
#define SAMPLER_PERF_WAKEUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "profile/sample.h"
#include "sampler/perf_merge.h"
#include "sampler/perf_rings.h"
#include "sampler/sampler.h"

/* A sampling event that may be moved. */
struct perf_wakeup_event {
    int fd;
    size_t cpu_index; /* into perf_rings.cpus */
};

struct perf_wakeup {
    uint64_t num_samples;
    uint64_t num_full; /* of which the stack filled all that was asked for */
    uint64_t first_ns; /* time of the first sample */
    uint64_t last_ns;
    bool is_urgent;   /* urgent rings are open; new events belong there */
    bool is_refused;  /* they could not be opened: all stays batched */
    size_t num_moved; /* events [0, num_moved) have been moved */
};

/* Takes note of a sample. */
void perf_wakeup_count(struct perf_wakeup *wakeup, const struct sample *sample);

/* Opens the urgent rings when it is time, and moves some of the events to them; call it after each
 * drain. Moving takes the kernel a grace period for each event (some 10 ms), so it goes by small
 * steps. pid: as the rings were opened with. event_at: tells event number `index` of `num_events`;
 * those with fd -1 are skipped. context: passed on. */
void perf_wakeup_adapt(struct perf_wakeup *wakeup, const struct sampler_options *options,
                       struct perf_rings *rings, pid_t pid, struct perf_merge *merge,
                       const struct perf_record_format *format, size_t num_events,
                       struct perf_wakeup_event (*event_at)(const void *context, size_t index),
                       const void *context);

#endif
