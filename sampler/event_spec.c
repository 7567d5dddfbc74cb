#include "sampler/event_spec.h"

#include <ctype.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/nearest.h"

#define TRACEPOINT_PREFIX "tracepoint:"
#define CLOCK_SAMPLE_TYPE "cpu"
#define MAX_RAW_DIGITS 16

const struct event_spec event_spec_cpu_clock = {
    .name = "cpu-clock",
    .sample_type = CLOCK_SAMPLE_TYPE,
    .class = EVENT_CLASS_CLOCK,
    .perf_type = PERF_TYPE_SOFTWARE,
    .perf_config = PERF_COUNT_SW_CPU_CLOCK,
};

#define CLOCK(config) EVENT_CLASS_CLOCK, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_##config
#define SOFTWARE(config) EVENT_CLASS_SOFTWARE, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_##config
#define HARDWARE(config) EVENT_CLASS_HARDWARE, PERF_TYPE_HARDWARE, PERF_COUNT_HW_##config

static const struct {
    const char *name;
    const char *alias;
    enum event_class class;
    uint32_t perf_type;
    uint64_t perf_config;
    bool fires_in_kernel;
    const char *help;
} named_events[] = {
    {"cpu-clock", NULL, CLOCK(CPU_CLOCK), false, "CPU time (the default)"},
    {"task-clock", NULL, CLOCK(TASK_CLOCK), false, "CPU time by the clock of the task"},
    {"page-faults", "faults", SOFTWARE(PAGE_FAULTS), false,
     "first touches of memory, and pages read in"},
    {"minor-faults", NULL, SOFTWARE(PAGE_FAULTS_MIN), false, "page faults without reading a disk"},
    {"major-faults", NULL, SOFTWARE(PAGE_FAULTS_MAJ), false, "page faults that waited for a disk"},
    {"context-switches", "cs", SOFTWARE(CONTEXT_SWITCHES), true,
     "where a thread gave its CPU away, or lost it"},
    {"cpu-migrations", "migrations", SOFTWARE(CPU_MIGRATIONS), true,
     "where a thread went on on another CPU"},
    {"cgroup-switches", NULL, SOFTWARE(CGROUP_SWITCHES), true,
     "context switches to another control group"},
    {"alignment-faults", NULL, SOFTWARE(ALIGNMENT_FAULTS), false,
     "never on x86-64, which handles them itself"},
    {"emulation-faults", NULL, SOFTWARE(EMULATION_FAULTS), false,
     "instructions that the kernel emulates"},
    {"cycles", "cpu-cycles", HARDWARE(CPU_CYCLES), false, NULL},
    {"instructions", NULL, HARDWARE(INSTRUCTIONS), false, NULL},
    {"ref-cycles", NULL, HARDWARE(REF_CPU_CYCLES), false,
     "cycles at the nominal speed of the processor"},
    {"bus-cycles", NULL, HARDWARE(BUS_CYCLES), false, NULL},
    {"cache-references", NULL, HARDWARE(CACHE_REFERENCES), false, "look-ups in the last cache"},
    {"cache-misses", NULL, HARDWARE(CACHE_MISSES), false, "look-ups that had to go to memory"},
    {"branches", "branch-instructions", HARDWARE(BRANCH_INSTRUCTIONS), false, NULL},
    {"branch-misses", NULL, HARDWARE(BRANCH_MISSES), false, "mispredicted branches"},
};

/* Cache events: every cache with every operation; config = cache | operation << 8 | result << 16.
 */
static const struct {
    const char *name;
    uint64_t config;
} caches[] = {
    {"L1-dcache", PERF_COUNT_HW_CACHE_L1D}, {"L1-icache", PERF_COUNT_HW_CACHE_L1I},
    {"LLC", PERF_COUNT_HW_CACHE_LL},        {"dTLB", PERF_COUNT_HW_CACHE_DTLB},
    {"iTLB", PERF_COUNT_HW_CACHE_ITLB},     {"branch", PERF_COUNT_HW_CACHE_BPU},
    {"node", PERF_COUNT_HW_CACHE_NODE},
};

#define CACHE_CONFIG(operation, result) \
    PERF_COUNT_HW_CACHE_OP_##operation << 8 | PERF_COUNT_HW_CACHE_RESULT_##result << 16

static const struct {
    const char *suffix;
    uint64_t config;
} cache_operations[] = {
    {"-loads", CACHE_CONFIG(READ, ACCESS)},
    {"-load-misses", CACHE_CONFIG(READ, MISS)},
    {"-stores", CACHE_CONFIG(WRITE, ACCESS)},
    {"-store-misses", CACHE_CONFIG(WRITE, MISS)},
    {"-prefetches", CACHE_CONFIG(PREFETCH, ACCESS)},
    {"-prefetch-misses", CACHE_CONFIG(PREFETCH, MISS)},
};

#define NUM_CACHE_EVENTS (ARRAY_LENGTH(caches) * ARRAY_LENGTH(cache_operations))
#define MAX_NAMES (2 * ARRAY_LENGTH(named_events))

/* Viewers split identifiers at ':' and refuse '-' in sample types (Pyroscope, Parca). */
static void make_sample_type(const char *name, char *sample_type)
{
    size_t length = strlen(name);

    for (size_t i = 0; i <= length; i++)
        sample_type[i] = isalnum((unsigned char)name[i]) || !name[i] ? name[i] : '_';
}

static void set_named(size_t index, struct event_spec *spec)
{
    *spec = (struct event_spec){
        .class = named_events[index].class,
        .perf_type = named_events[index].perf_type,
        .perf_config = named_events[index].perf_config,
        .fires_in_kernel = named_events[index].fires_in_kernel,
    };
    snprintf(spec->name, sizeof(spec->name), "%s", named_events[index].name);
    make_sample_type(spec->class == EVENT_CLASS_CLOCK ? CLOCK_SAMPLE_TYPE : spec->name,
                     spec->sample_type);
}

static void set_cache(size_t index, struct event_spec *spec)
{
    size_t cache = index / ARRAY_LENGTH(cache_operations);
    size_t operation = index % ARRAY_LENGTH(cache_operations);

    *spec = (struct event_spec){
        .class = EVENT_CLASS_HARDWARE,
        .perf_type = PERF_TYPE_HW_CACHE,
        .perf_config = caches[cache].config | cache_operations[operation].config,
    };
    snprintf(spec->name, sizeof(spec->name), "%s%s", caches[cache].name,
             cache_operations[operation].suffix);
    make_sample_type(spec->name, spec->sample_type);
}

bool event_spec_at(size_t index, struct event_spec *spec_ret, const char **alias_ret,
                   const char **help_ret)
{
    *alias_ret = NULL;
    *help_ret = NULL;
    if (index < ARRAY_LENGTH(named_events)) {
        set_named(index, spec_ret);
        *alias_ret = named_events[index].alias;
        *help_ret = named_events[index].help;
        return true;
    }
    index -= ARRAY_LENGTH(named_events);
    if (index >= NUM_CACHE_EVENTS)
        return false;
    set_cache(index, spec_ret);
    return true;
}

/* Reads "rHEX". Returns: false when `name` is something else. */
static bool parse_raw(const char *name, struct event_spec *spec)
{
    size_t num_digits = strspn(name + (name[0] != '\0'), "0123456789abcdefABCDEF");

    if (name[0] != 'r' || num_digits == 0 || num_digits > MAX_RAW_DIGITS || name[1 + num_digits])
        return false;
    *spec = (struct event_spec){
        .class = EVENT_CLASS_HARDWARE,
        .perf_type = PERF_TYPE_RAW,
        .perf_config = strtoull(name + 1, NULL, 16),
    };
    snprintf(spec->name, sizeof(spec->name), "%s", name);
    make_sample_type(name, spec->sample_type);
    return true;
}

/* Reads a name that is no tracepoint. Returns: false when there is no such event. */
static bool parse_name(const char *name, struct event_spec *spec)
{
    for (size_t i = 0; i < ARRAY_LENGTH(named_events); i++) {
        const char *alias = named_events[i].alias;

        if (strcmp(name, named_events[i].name) == 0 || (alias && strcmp(name, alias) == 0)) {
            set_named(i, spec);
            return true;
        }
    }
    for (size_t i = 0; i < NUM_CACHE_EVENTS; i++) {
        set_cache(i, spec);
        if (strcmp(name, spec->name) == 0)
            return true;
    }
    return parse_raw(name, spec);
}

/* Tells whether `part` can be the name of a folder of tracefs, and no other. */
static bool is_tracepoint_part(const char *part)
{
    size_t length = strlen(part);

    return length > 0 && length < EVENT_SPEC_PART_BYTES && part[0] != '.' &&
           strspn(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
               length;
}

static struct error *parse_tracepoint(const char *subsystem, const char *name,
                                      struct event_spec *spec)
{
    if (strpbrk(subsystem, "*?[") || strpbrk(name, "*?["))
        return error_create(ERROR_USAGE, "give each tracepoint its own -e",
                            "-e takes no patterns: '%s:%s'", subsystem, name);
    if (!is_tracepoint_part(subsystem) || !is_tracepoint_part(name))
        return error_create(ERROR_USAGE, "type for example: -e tracepoint:sched:sched_switch",
                            "'%s:%s' can't be a tracepoint", subsystem, name);
    *spec = (struct event_spec){
        .class = EVENT_CLASS_TRACEPOINT,
        .perf_type = PERF_TYPE_TRACEPOINT,
        .fires_in_kernel = true,
    };
    snprintf(spec->subsystem, sizeof(spec->subsystem), "%s", subsystem);
    snprintf(spec->tracepoint, sizeof(spec->tracepoint), "%s", name);
    snprintf(spec->name, sizeof(spec->name), "%s:%s", subsystem, name);
    make_sample_type(name, spec->sample_type);
    return NULL;
}

/* Reads what stands behind the last colon. modifiers: NULL when there is none. */
static struct error *parse_modifiers(const char *modifiers, struct event_spec *spec)
{
    bool user = modifiers && strchr(modifiers, 'u');
    bool kernel = modifiers && strchr(modifiers, 'k');
    size_t length = strlen(spec->name);

    if (!modifiers)
        return NULL;
    if (!*modifiers || modifiers[strspn(modifiers, "uk")])
        return error_create(ERROR_USAGE,
                            "modifiers: u (user mode only), k (kernel mode only); tracepoints: -e "
                            "SUBSYSTEM:NAME",
                            "event %s has no modifier '%s'", spec->name, modifiers);
    if (user && !kernel && spec->fires_in_kernel)
        return error_create(ERROR_USAGE, "leave out ':u'", "%s happens in kernel mode only",
                            spec->name);
    if (user == kernel)
        return NULL; /* both: as without */
    spec->exclude_user = kernel;
    spec->exclude_kernel = user;
    snprintf(spec->name + length, sizeof(spec->name) - length, ":%c", user ? 'u' : 'k');
    if (spec->class != EVENT_CLASS_CLOCK) {
        length = strlen(spec->sample_type);
        snprintf(spec->sample_type + length, sizeof(spec->sample_type) - length, "_%c",
                 user ? 'u' : 'k');
    }
    return NULL;
}

static struct error *unknown_event(const char *name)
{
    const char *names[MAX_NAMES + 1];
    size_t num_names = 0;
    const char *nearest;
    char hint[160];

    for (size_t i = 0; i < ARRAY_LENGTH(named_events); i++) {
        names[num_names++] = named_events[i].name;
        if (named_events[i].alias)
            names[num_names++] = named_events[i].alias;
    }
    names[num_names] = NULL;
    nearest = nearest_name(name, names);
    if (nearest)
        snprintf(hint, sizeof(hint), "did you mean -e %s? all events: -e list", nearest);
    else
        snprintf(hint, sizeof(hint), "all events: -e list; a tracepoint: -e SUBSYSTEM:NAME");
    return error_create(ERROR_USAGE, hint, "there is no event '%s'", name);
}

/* Splits a text at its first colon. Returns: what stands behind it, or NULL. */
static char *split(char *text)
{
    char *colon = strchr(text, ':');

    if (colon)
        *colon++ = '\0';
    return colon;
}

struct error *event_spec_parse(const char *text, struct event_spec *spec_ret)
{
    char copy[EVENT_SPEC_NAME_BYTES];
    char *first = copy;
    char *second;
    char *third;
    struct event_spec spec;

    if (strlen(text) >= sizeof(copy))
        return error_create(ERROR_USAGE, "all events: -e list", "the name of an event is too long");
    snprintf(copy, sizeof(copy), "%s", text);
    if (strncmp(copy, TRACEPOINT_PREFIX, strlen(TRACEPOINT_PREFIX)) == 0)
        first += strlen(TRACEPOINT_PREFIX);
    second = split(first);
    if (first == copy && parse_name(first, &spec)) {
        RETURN_IF_ERROR(parse_modifiers(second, &spec));
    } else if (second) {
        third = split(second);
        RETURN_IF_ERROR(parse_tracepoint(first, second, &spec));
        RETURN_IF_ERROR(parse_modifiers(third, &spec));
    } else {
        return unknown_event(first);
    }
    *spec_ret = spec;
    return NULL;
}

void event_spec_sample_type_of_name(struct event_spec *spec)
{
    make_sample_type(spec->name, spec->sample_type);
}

const char *event_spec_unit(const struct event_spec *spec)
{
    return spec->class == EVENT_CLASS_CLOCK ? "nanoseconds" : "count";
}
