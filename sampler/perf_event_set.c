#include "sampler/perf_event_set.h"

#include "sampler/perf_event.h"

/* Gives all events one record layout: next to one that can't tell its period, clocks, which have a
 * constant one, don't tell theirs either. */
static struct error *unify(struct perf_event_set *set)
{
    bool has_period = false;

    for (size_t i = 0; i < set->num_events; i++)
        has_period |= set->events[i].period != 0;
    for (size_t i = 0; has_period && i < set->num_events; i++) {
        if (set->attrs[i].freq)
            return error_create(ERROR_UNSUPPORTED, "sample all of them by count",
                                "%s: by frequency it can't be sampled beside events by count",
                                set->events[i].spec.name);
        set->attrs[i].sample_type &= ~(uint64_t)PERF_SAMPLE_PERIOD;
    }
    return NULL;
}

struct error *perf_event_set_init(struct perf_event_set *set, const struct sampler_options *options,
                                  bool inherit, pid_t pid, int cpu, bool may_drop_kernel)
{
    set->fallback = (struct sampler_event){.spec = event_spec_cpu_clock, .hz = options->hz};
    set->events = options->events ? options->events : &set->fallback;
    set->num_events = options->events ? options->num_events : 1;
    set->wants_kernel = options->kernel;
    for (size_t i = 0; i < set->num_events; i++) {
        perf_event_attr_sampling(options, &set->events[i], inherit, &set->attrs[i]);
    }
    RETURN_IF_ERROR(unify(set));
    for (size_t i = 0; i < set->num_events; i++) {
        RETURN_IF_ERROR(perf_event_probe_sampling(&set->events[i].spec, &set->attrs[i], pid, cpu,
                                                  may_drop_kernel));
    }
    return NULL;
}

void perf_event_set_complete(const struct perf_event_set *set, uint32_t event,
                             struct sample *sample)
{
    sample->event = event < set->num_events ? event : 0;
    if (!(set->attrs[sample->event].sample_type & PERF_SAMPLE_PERIOD))
        sample->weight = set->attrs[sample->event].sample_period;
}

uint64_t perf_event_set_sample_type(const struct perf_event_set *set)
{
    return set->attrs[0].sample_type;
}

bool perf_event_set_has_kernel(const struct perf_event_set *set)
{
    return set->wants_kernel && !set->attrs[0].exclude_kernel;
}

uint64_t perf_event_set_period_ns(const struct perf_event_set *set)
{
    return set->events[0].spec.class == EVENT_CLASS_CLOCK ? set->attrs[0].sample_period : 0;
}
