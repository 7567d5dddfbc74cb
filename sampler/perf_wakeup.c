#include "sampler/perf_wakeup.h"

#include <linux/perf_event.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/log.h"

#define MAX_HZ 199 /* faster than this, batches are young enough */
#define NS_PER_S 1000000000u
#define MIN_SEEN_NS (NS_PER_S / 2) /* long enough to judge a rate */
#define MIN_FULL 4                 /* samples with a full stack before anything is done */
#define FULL_SHARE 16              /* one in so many samples */
#define MAX_MOVES_PER_STEP 4       /* each may take 10 ms */

void perf_wakeup_count(struct perf_wakeup *wakeup, const struct sample *sample)
{
    if (wakeup->num_samples++ == 0)
        wakeup->first_ns = sample->time_ns;
    if (sample->time_ns > wakeup->last_ns)
        wakeup->last_ns = sample->time_ns;
    wakeup->num_full += sample->stack_bytes > 0 && sample->stack_bytes == sample->stack_asked_bytes;
}

/* Tells whether samples come so slowly that each may wake us: asked for so, or found so. */
static bool is_slow(const struct perf_wakeup *wakeup, const struct sampler_options *options)
{
    uint64_t seen_ns = wakeup->last_ns - wakeup->first_ns;

    return options->hz <= MAX_HZ ||
           (seen_ns >= MIN_SEEN_NS && wakeup->num_samples <= seen_ns / (NS_PER_S / MAX_HZ));
}

static bool is_due(const struct perf_wakeup *wakeup, const struct sampler_options *options)
{
    return is_slow(wakeup, options) && wakeup->num_full >= MIN_FULL &&
           wakeup->num_full * FULL_SHARE >= wakeup->num_samples;
}

/* Opens the urgent rings and lets the merge read them. */
static struct error *open_urgent(struct perf_rings *rings, pid_t pid, struct perf_merge *merge,
                                 const struct perf_record_format *format)
{
    RETURN_IF_ERROR(perf_rings_open_urgent(rings, pid));
    for (size_t i = 0; i < rings->num_cpus; i++) {
        if (rings->cpus[i].urgent.fd >= 0)
            RETURN_IF_ERROR(perf_merge_add(merge, &rings->cpus[i].urgent, format));
    }
    return NULL;
}

void perf_wakeup_adapt(struct perf_wakeup *wakeup, const struct sampler_options *options,
                       struct perf_rings *rings, pid_t pid, struct perf_merge *merge,
                       const struct perf_record_format *format, size_t num_events,
                       struct perf_wakeup_event (*event_at)(const void *context, size_t index),
                       const void *context)
{
    if (!wakeup->is_urgent && !wakeup->is_refused && is_due(wakeup, options)) {
        CLEANUP(error_destroy) struct error *err = open_urgent(rings, pid, merge, format);

        wakeup->is_refused = err;
        wakeup->is_urgent = !err;
        if (err)
            log_info("deep stacks are completed late: %s", err->message);
    }
    if (!wakeup->is_urgent)
        return;
    for (int moves = 0; moves < MAX_MOVES_PER_STEP && wakeup->num_moved < num_events;
         wakeup->num_moved++) {
        struct perf_wakeup_event event = event_at(context, wakeup->num_moved);

        if (event.fd < 0)
            continue;
        /* A refusal leaves the event where it is, which works as well, only later. */
        (void)ioctl(event.fd, PERF_EVENT_IOC_SET_OUTPUT, rings->cpus[event.cpu_index].urgent.fd);
        moves++;
    }
}
