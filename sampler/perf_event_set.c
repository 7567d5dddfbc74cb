#include "sampler/perf_event_set.h"

#include "sampler/perf_event.h"

struct error *perf_event_set_init(struct perf_event_set *set, const struct sampler_options *options,
                                  bool inherit, pid_t pid, int cpu, bool may_drop_kernel)
{
    set->fallback = (struct sampler_event){.spec = event_spec_cpu_clock, .hz = options->hz};
    set->events = options->events ? options->events : &set->fallback;
    set->num_events = options->events ? options->num_events : 1;
    set->wants_kernel = options->kernel;
    for (size_t i = 0; i < set->num_events; i++) {
        perf_event_attr_sampling(options, &set->events[i], inherit, &set->attrs[i]);
        RETURN_IF_ERROR(perf_event_probe_sampling(&set->events[i].spec, &set->attrs[i], pid, cpu,
                                                  may_drop_kernel));
    }
    return NULL;
}

void perf_event_set_complete(const struct perf_event_set *set, uint32_t event,
                             struct sample *sample)
{
    sample->event = event < set->num_events ? event : 0;
    if (set->events[sample->event].period)
        sample->weight = set->events[sample->event].period;
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
