#include "cmd/events.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "sampler/perf_event.h"
#include "sampler/tracefs.h"

#define COUNTED_HZ 4000 /* as perf-record(1); below, the kernel follows a changing rate badly */
#define UNKNOWN_HZ 1000 /* what rings have room for when a period is asked for */
#define NS_PER_S 1000000000u
#define MIN_CLOCK_PERIOD_NS (NS_PER_S / SAMPLER_MAX_HZ)

/* --- choosing ------------------------------------------------------------------------------- */

static struct error *check_use(const struct sampler_event *event, bool kernel)
{
    const struct event_spec *spec = &event->spec;

    if (spec->exclude_user && !kernel)
        return error_create(ERROR_USAGE, "leave out --no-kernel",
                            "record: -e %s is for kernel mode, --no-kernel is against it",
                            spec->name);
    if (spec->class == EVENT_CLASS_CLOCK && event->period && event->period < MIN_CLOCK_PERIOD_NS)
        return error_create(ERROR_USAGE,
                            "a count of a clock is in nanoseconds: -c 10000000 is 100 Hz",
                            "record: -c %llu is too often for %s; at least %u",
                            (unsigned long long)event->period, spec->name, MIN_CLOCK_PERIOD_NS);
    return NULL;
}

/* Gives `event` a column of its own among those of the list: two events may have one sample type
 * (cpu-clock, task-clock). */
static struct error *name_column(const struct event_list *list, struct event_spec *spec)
{
    for (size_t i = 0; i < list->num_events; i++) {
        if (strcmp(list->events[i].spec.name, spec->name) == 0)
            return error_create(ERROR_USAGE, "give each event once", "record: -e %s twice",
                                spec->name);
        if (strcmp(list->events[i].spec.sample_type, spec->sample_type) == 0)
            event_spec_sample_type_of_name(spec);
    }
    return NULL;
}

/* Whether the kernel counts an event in software, one by one. */
static bool is_counted(const struct event_spec *spec)
{
    return spec->class == EVENT_CLASS_SOFTWARE || spec->class == EVENT_CLASS_TRACEPOINT;
}

bool events_want_per_task(const struct event_list *list)
{
    for (size_t i = 0; i < list->num_events; i++)
        if (is_counted(&list->events[i].spec))
            return true;
    return false;
}

static struct error *add_event(const char *word, uint32_t hz, uint64_t period, bool kernel,
                               struct event_list *list)
{
    struct sampler_event event = {.period = period};

    if (list->num_events == SAMPLER_MAX_EVENTS)
        return error_create(ERROR_USAGE, "record the others in a second run",
                            "record: more than %d events", SAMPLER_MAX_EVENTS);
    RETURN_IF_ERROR(error_prefix_take(event_spec_parse(word, &event.spec), "record"));
    RETURN_IF_ERROR(check_use(&event, kernel));
    RETURN_IF_ERROR(name_column(list, &event.spec));
    if (event.spec.class == EVENT_CLASS_TRACEPOINT)
        RETURN_IF_ERROR(tracefs_find_tracepoint(tracefs_roots, &event.spec));
    event.hz = period ? 0 : hz ? hz : is_counted(&event.spec) ? COUNTED_HZ : SAMPLER_DEFAULT_HZ;
    list->events[list->num_events++] = event;
    return NULL;
}

struct error *events_choose(const struct option_list *words, uint32_t hz, uint64_t period,
                            bool kernel, struct event_list *list_ret)
{
    struct event_list list = {0};

    for (size_t i = 0; i < words->num_values; i++) {
        CLEANUP(free) char *copy = strdup(words->values[i]);
        char *rest = copy;
        char *word;

        if (!copy)
            return &error_no_memory;
        while ((word = strsep(&rest, ",")))
            RETURN_IF_ERROR(add_event(word, hz, period, kernel, &list));
    }
    if (list.num_events == 0)
        RETURN_IF_ERROR(add_event(event_spec_cpu_clock.name, hz, period, kernel, &list));
    *list_ret = list;
    return NULL;
}

struct error *events_join(struct event_list *list, const struct event_list *more)
{
    bool has_period = false, has_frequency = false;

    if (list->num_events + more->num_events > SAMPLER_MAX_EVENTS)
        return error_create(ERROR_USAGE, "record the others in a second run",
                            "record: more than %d events", SAMPLER_MAX_EVENTS);
    memcpy(&list->events[list->num_events], more->events, more->num_events * sizeof(*more->events));
    list->num_events += more->num_events;
    for (size_t i = 0; i < list->num_events; i++) {
        has_period |= list->events[i].period != 0;
        has_frequency |= !list->events[i].period && list->events[i].spec.class != EVENT_CLASS_CLOCK;
    }
    return has_period && has_frequency
               ? error_create(ERROR_USAGE, "sample these by count, too: -c COUNT",
                              "record: events by frequency and page faults by count can't be "
                              "sampled together")
               : NULL;
}

/* --- what there is -------------------------------------------------------------------------- */

bool events_is_question(const struct option_list *words)
{
    for (size_t i = 0; i < words->num_values; i++)
        if (strcmp(words->values[i], "list") == 0 || strcmp(words->values[i], "help") == 0)
            return true;
    return false;
}

/* Tells whether this machine counts an event, by asking for it. */
static bool is_available(const struct event_spec *spec)
{
    struct sampler_event event = {.spec = *spec, .hz = 1};
    struct sampler_options options = {.hz = 1, .follow_children = true};
    struct perf_event_attr attr;
    struct error *err;
    bool is_refused;

    perf_event_attr_sampling(&options, &event, false, &attr);
    err = perf_event_probe_sampling(spec, &attr, 0, -1, true);
    is_refused = err && err->kind == ERROR_UNSUPPORTED;
    error_destroy(err);
    return !is_refused;
}

static struct error *print_tracepoint(void *context, const char *subsystem, const char *name)
{
    FILE *stream = context;

    fprintf(stream, "  %s:%s\n", subsystem, name);
    return NULL;
}

struct error *events_print(FILE *stream)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    struct event_spec spec;
    const char *alias;
    const char *help;

    fprintf(stream,
            "Events for -e (modifiers: EVENT:u user mode only, EVENT:k kernel mode only):\n");
    for (size_t i = 0; event_spec_at(i, &spec, &alias, &help); i++) {
        bool available = is_available(&spec);
        char names[EVENT_SPEC_NAME_BYTES + 32];

        if (!available && spec.perf_type == PERF_TYPE_HW_CACHE)
            continue;
        snprintf(names, sizeof(names), "%s%s%s", spec.name, alias ? ", " : "", alias ? alias : "");
        fprintf(stream, "  %-45s %s%s%s\n", names, help ? help : "", help && !available ? "; " : "",
                available ? "" : "not on this machine");
    }
    fprintf(stream, "  %-45s %s\n", "rHEX", "a raw counter of this processor");
    fprintf(stream, "Tracepoints (-e SUBSYSTEM:NAME):\n");
    err = tracefs_visit_tracepoints(tracefs_roots, print_tracepoint, stream);
    if (err)
        fprintf(stream, "  none to be seen: %s\n  %s\n", err->message, err->hint ? err->hint : "");
    if (fflush(stream) || ferror(stream))
        return error_from_errno(errno ? errno : EIO, NULL, "cannot write the list of events");
    return NULL;
}

/* --- the profile ---------------------------------------------------------------------------- */

struct error *events_init_profile(const struct event_list *list, struct stack_table *table,
                                  struct profile *profile)
{
    const struct sampler_event *first = &list->events[0];
    uint64_t period = first->period                            ? first->period
                      : first->spec.class == EVENT_CLASS_CLOCK ? NS_PER_S / first->hz
                                                               : 1;

    RETURN_IF_ERROR(profile_init(profile, table));
    RETURN_IF_ERROR(profile_add_value_type(profile, "samples", "count"));
    for (size_t i = 0; i < list->num_events; i++)
        RETURN_IF_ERROR(profile_add_value_type(profile, list->events[i].spec.sample_type,
                                               event_spec_unit(&list->events[i].spec)));
    profile->period_type = profile->value_types[1];
    profile->period = period < INT64_MAX ? (int64_t)period : INT64_MAX;
    profile->default_type = list->num_events > 1 ? profile->value_types[1].type : 0;
    return NULL;
}

/* Multiplies a column, so that its sum becomes `total`. What rounding takes from one sample the
 * next one gets. */
static void scale_column(struct profile *profile, size_t column, uint64_t sum, uint64_t total)
{
    double factor = (double)total / (double)sum;
    double exact = 0;
    int64_t given = 0;

    for (size_t i = 0; i < profile->num_samples; i++) {
        int64_t *value = &profile->samples[i].values[column];
        int64_t limit;

        exact += (double)*value * factor;
        limit = (int64_t)(exact + 0.5);
        *value = limit - given;
        given = limit;
    }
}

void events_settle(const struct event_list *list, const struct sampler_info *info,
                   struct event_tally *tallies, struct profile *profile)
{
    for (size_t i = 0; i < list->num_events; i++) {
        tallies[i].sampled = tallies[i].weight;
        if (!is_counted(&list->events[i].spec) || list->events[i].period || !info->has_exact ||
            tallies[i].weight == 0 || info->exact[i] == 0 || info->exact[i] > INT64_MAX / 2)
            continue;
        scale_column(profile, 1 + i, tallies[i].weight, info->exact[i]);
        tallies[i].weight = info->exact[i];
    }
    if (!list->events[0].period && list->events[0].spec.class != EVENT_CLASS_CLOCK &&
        tallies[0].weight > tallies[0].num_samples)
        profile->period =
            (int64_t)((tallies[0].weight + tallies[0].num_samples / 2) / tallies[0].num_samples);
}

void events_set_values(const struct event_list *list, size_t event, uint64_t weight,
                       int64_t *values)
{
    for (size_t i = 0; i < list->num_events; i++)
        values[1 + i] = 0;
    values[0] = 1;
    values[1 + event] = weight < INT64_MAX ? (int64_t)weight : INT64_MAX;
}

/* --- words ---------------------------------------------------------------------------------- */

size_t events_find_clock(const struct event_list *list)
{
    size_t i = 0;

    while (i < list->num_events && list->events[i].spec.class != EVENT_CLASS_CLOCK)
        i++;
    return i;
}

static size_t describe_period(const struct sampler_event *event, const char *separator, char *text,
                              size_t num_bytes)
{
    unsigned long long period = event->period;

    if (event->spec.class == EVENT_CLASS_CLOCK)
        return (size_t)snprintf(text, num_bytes, "%severy %llu ns of %s", separator, period,
                                event->spec.name);
    if (period == 1)
        return (size_t)snprintf(text, num_bytes, "%sall %s", separator, event->spec.name);
    return (size_t)snprintf(text, num_bytes, "%s1 in %llu %s", separator, period, event->spec.name);
}

void events_describe(const struct event_list *list, uint32_t clock_hz, char *text)
{
    size_t used = 0;

    for (size_t i = 0; i < list->num_events && used < EVENTS_TEXT_BYTES; i++) {
        const struct sampler_event *event = &list->events[i];
        bool is_clock = event->spec.class == EVENT_CLASS_CLOCK;
        bool is_default = strcmp(event->spec.name, event_spec_cpu_clock.name) == 0;
        uint32_t hz = i == 0 && is_clock ? clock_hz : event->hz;
        const char *separator = i ? ", " : "";
        size_t left = EVENTS_TEXT_BYTES - used;

        if (event->period)
            used += describe_period(event, separator, text + used, left);
        else if (is_default && list->num_events == 1)
            used += (size_t)snprintf(text + used, left, "%u Hz", hz);
        else
            used += (size_t)snprintf(text + used, left, "%s%s at %s%u Hz", separator,
                                     event->spec.name, is_clock ? "" : "up to ", hz);
    }
}

uint32_t events_ring_hz(const struct event_list *list)
{
    uint32_t hz = 0;

    for (size_t i = 0; i < list->num_events; i++) {
        const struct sampler_event *event = &list->events[i];
        bool is_clock = event->spec.class == EVENT_CLASS_CLOCK;

        hz += !event->period                         ? event->hz
              : is_clock && event->period < NS_PER_S ? (uint32_t)(NS_PER_S / event->period)
              : is_clock                             ? 1
                                                     : UNKNOWN_HZ;
    }
    return hz < SAMPLER_MAX_HZ ? hz : SAMPLER_MAX_HZ;
}
