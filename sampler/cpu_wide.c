#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/hash_index.h"
#include "sampler/bpf_filter.h"
#include "sampler/cpu_list.h"
#include "sampler/perf_event.h"
#include "sampler/perf_event_set.h"
#include "sampler/perf_merge.h"
#include "sampler/perf_record.h"
#include "sampler/perf_rings.h"
#include "sampler/perf_wakeup.h"
#include "sampler/sampler.h"

/* One sampling event on one CPU. */
struct cpu_event {
    int fd;
    uint64_t id;      /* PERF_SAMPLE_ID of its samples */
    uint32_t index;   /* into set.events */
    size_t cpu_index; /* into rings.cpus */
};

struct sampler {
    struct sampler_options options;
    struct perf_event_set set;
    struct perf_event_attr sideband_attr;
    struct perf_record_format sample_format;
    struct perf_record_format sideband_format;
    struct perf_rings rings;
    struct cpu_event *events; /* set.num_events for each of rings.cpus */
    size_t num_events;        /* of which are open */
    struct hash_index event_by_id;
    struct perf_wakeup wakeup;
    struct perf_merge merge;
    struct bpf_filter *filter;
    bool is_started;
    bool is_stopped;
};

static void cpu_wide_destroy(struct sampler *sampler)
{
    if (!sampler)
        return;
    for (size_t i = 0; i < sampler->num_events; i++)
        close(sampler->events[i].fd);
    free(sampler->events);
    hash_index_deinit(&sampler->event_by_id);
    perf_merge_deinit(&sampler->merge);
    perf_rings_deinit(&sampler->rings);
    bpf_filter_destroy(sampler->filter);
    free(sampler);
}

DEFINE_CLEANUP(cpu_wide_destroy, struct sampler *)

/* Opens the events and their rings on all CPUs, sampling still disabled. */
static struct error *open_rings(struct sampler *sampler)
{
    struct cpu_list cpus = {0};
    CLEANUP(cpu_list_deinit) UNUSED struct cpu_list *guard = &cpus;

    RETURN_IF_ERROR(cpu_list_online(&cpus));
    perf_event_attr_sideband(&sampler->options, false, &sampler->sideband_attr);
    if (sampler->options.cpus)
        RETURN_IF_ERROR(cpu_list_check_online(sampler->options.cpus));
    RETURN_IF_ERROR(
        perf_event_set_init(&sampler->set, &sampler->options, false, -1, (int)cpus.cpus[0], false));
    RETURN_IF_ERROR(perf_event_probe(&sampler->sideband_attr, -1, (int)cpus.cpus[0], false));
    return perf_rings_init(&sampler->options, &cpus, -1, &sampler->sideband_attr, &sampler->rings);
}

/* Refuses what goes wrong behind a filter. Of a tracepoint it would be everybody's: where a BPF
 * program says no, the kernel hides the event from all that look (perf_trace_run_bpf_submit() in
 * kernel/events/core.c). And a frequency is kept by the events of all processes on a CPU: where
 * they come in bursts, those of the target were found to add up to a third of what there was. */
static struct error *check_filterable(const struct perf_event_set *set)
{
    for (size_t i = 0; i < set->num_events; i++) {
        const struct event_spec *spec = &set->events[i].spec;

        if (spec->class == EVENT_CLASS_TRACEPOINT)
            return error_create(ERROR_UNSUPPORTED, "use --engine per-task",
                                "%s: a tracepoint can't be filtered by process CPU-wide without "
                                "hiding it from other tracers",
                                spec->name);
        if (spec->class == EVENT_CLASS_SOFTWARE && !set->events[i].period)
            return error_create(ERROR_UNSUPPORTED, "use --engine per-task, or -c COUNT",
                                "%s: by frequency it can't be counted CPU-wide for some processes",
                                spec->name);
    }
    return NULL;
}

/* Opens one sampling event on one CPU, behind the filter, writing into that CPU's ring. */
static struct error *open_event(struct sampler *sampler, size_t index, size_t cpu_index)
{
    const struct perf_cpu_rings *rings = &sampler->rings.cpus[cpu_index];
    const struct perf_event_attr *attr = &sampler->set.attrs[index];
    struct cpu_event *event = &sampler->events[sampler->num_events];
    int fd;

    if (rings->data.fd < 0)
        return NULL;
    fd = sampler->options.scope == SAMPLER_CGROUP
             ? perf_event_open_cgroup(attr, sampler->options.cgroup_fd, (int)rings->cpu)
             : perf_event_open(attr, -1, (int)rings->cpu);
    if (fd < 0)
        return perf_event_refusal(-fd, true);
    *event = (struct cpu_event){.fd = fd, .index = (uint32_t)index, .cpu_index = cpu_index};
    sampler->num_events++; /* from here on cpu_wide_destroy() knows it */
    if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, rings->data.fd) ||
        ioctl(fd, PERF_EVENT_IOC_ID, &event->id))
        return error_from_errno(errno, NULL, "can't sample CPU %u", rings->cpu);
    RETURN_IF_ERROR(hash_index_insert(&sampler->event_by_id, hash_u64(event->id),
                                      (uint32_t)(sampler->num_events - 1)));
    return sampler->filter ? bpf_filter_attach(sampler->filter, fd) : NULL;
}

static struct error *open_events(struct sampler *sampler)
{
    sampler->events =
        calloc(sampler->rings.num_cpus * sampler->set.num_events, sizeof(*sampler->events));
    if (!sampler->events)
        return &error_no_memory;
    for (size_t i = 0; i < sampler->set.num_events; i++) {
        for (size_t j = 0; j < sampler->rings.num_cpus; j++)
            RETURN_IF_ERROR(open_event(sampler, i, j));
    }
    return NULL;
}

static struct error *join_rings(struct sampler *sampler)
{
    sampler->sample_format = (struct perf_record_format){
        .sample_type = perf_event_set_sample_type(&sampler->set),
        .stack_bytes = sampler->options.stack_bytes,
    };
    sampler->sideband_format = (struct perf_record_format){
        .sample_type = sampler->sideband_attr.sample_type,
        .is_sideband = true,
    };
    RETURN_IF_ERROR(perf_merge_init(&sampler->merge));
    return perf_merge_add_rings(&sampler->merge, &sampler->rings, &sampler->sample_format,
                                &sampler->sideband_format);
}

/* The whole system needs no filter, and a cgroup's events the kernel filters itself. */
static bool has_filter(const struct sampler_options *options)
{
    return options->scope == SAMPLER_PROCESSES || options->scope == SAMPLER_THREADS;
}

static struct error *cpu_wide_open(const struct sampler_options *options,
                                   struct sampler **sampler_ret)
{
    CLEANUP(cpu_wide_destroy) struct sampler *sampler = calloc(1, sizeof(*sampler));

    if (!sampler)
        return &error_no_memory;
    sampler->options = *options;
    sampler->rings.epoll_fd = -1;
    hash_index_init(&sampler->event_by_id);
    perf_event_raise_nofile();
    RETURN_IF_ERROR(open_rings(sampler));
    if (has_filter(options))
        RETURN_IF_ERROR(check_filterable(&sampler->set));
    RETURN_IF_ERROR(join_rings(sampler));
    if (has_filter(options))
        RETURN_IF_ERROR(bpf_filter_create(options->scope == SAMPLER_THREADS,
                                          options->follow_children, &sampler->filter));
    RETURN_IF_ERROR(open_events(sampler));
    *sampler_ret = take_ptr(sampler);
    return NULL;
}

static struct error *cpu_wide_attach(struct sampler *sampler, pid_t pid, pid_t tid)
{
    bool by_thread = sampler->options.scope == SAMPLER_THREADS;

    if (syscall(SYS_tgkill, pid, by_thread ? tid : pid, 0) && errno == ESRCH)
        return by_thread ? error_create(ERROR_GONE, NULL, "thread %d has ended", (int)tid)
                         : error_create(ERROR_GONE, NULL, "process %d has ended", (int)pid);
    return bpf_filter_add(sampler->filter, by_thread ? tid : pid,
                          sampler->options.enable_on_exec && !sampler->is_started);
}

static struct error *cpu_wide_start(struct sampler *sampler)
{
    for (size_t i = 0; i < sampler->num_events; i++) {
        const struct cpu_event *event = &sampler->events[i];

        if (ioctl(event->fd, PERF_EVENT_IOC_ENABLE, 0))
            return error_from_errno(errno, NULL, "can't start sampling CPU %u",
                                    sampler->rings.cpus[event->cpu_index].cpu);
    }
    sampler->is_started = true;
    return NULL;
}

static int cpu_wide_wait_fd(const struct sampler *sampler)
{
    return sampler->rings.epoll_fd;
}

/* Delivers what was lost without a record telling so: after the last record of a ring, or forks
 * that found the filter's map full. */
static void deliver_untold_loss(struct sampler *sampler, const struct perf_merge_sink *sink)
{
    uint64_t lost[2] = {0, 0};

    for (size_t i = 0; i < sampler->num_events; i++) {
        const struct cpu_event *event = &sampler->events[i];
        struct perf_event_count count;

        if (perf_event_read(event->fd, &sampler->set.attrs[event->index], &count))
            lost[0] += count.lost;
    }
    for (size_t i = 0; i < sampler->rings.num_cpus; i++) {
        struct perf_event_count count;

        if (perf_event_read(sampler->rings.cpus[i].sideband.fd, &sampler->sideband_attr, &count))
            lost[1] += count.lost;
    }
    perf_merge_deliver_rest(&sampler->merge, LOSS_LOST, lost[0], sink);
    perf_merge_deliver_rest(
        &sampler->merge, LOSS_SIDEBAND,
        lost[1] + (sampler->filter ? bpf_filter_num_unfollowed(sampler->filter) : 0), sink);
}

/* Tells which event wrote a sample. Returns: an index into set.events. */
static uint32_t find_event(const struct sampler *sampler, uint64_t id)
{
    struct hash_index_cursor cursor = hash_index_first(&sampler->event_by_id, hash_u64(id));
    uint32_t item;

    if (sampler->set.num_events == 1)
        return 0;
    while (hash_index_next(&sampler->event_by_id, &cursor, &item)) {
        if (sampler->events[item].id == id)
            return sampler->events[item].index;
    }
    return 0;
}

/* Passes all records on; the filter has sorted out strangers' samples. */
static bool complete_record(void *context, struct perf_record *record)
{
    struct sampler *sampler = context;

    if (record->event.type != EVENT_SAMPLE)
        return true;
    perf_event_set_complete(&sampler->set, find_event(sampler, record->source_id), &record->sample);
    perf_wakeup_count(&sampler->wakeup, &record->sample);
    return true;
}

static struct perf_wakeup_event event_at(const void *context, size_t index)
{
    const struct sampler *sampler = context;

    return (struct perf_wakeup_event){
        .fd = sampler->events[index].fd,
        .cpu_index = sampler->events[index].cpu_index,
    };
}

static struct error *cpu_wide_drain(struct sampler *sampler, bool final, event_handler_fn *handler,
                                    void *context, size_t *num_samples_ret)
{
    struct perf_merge_sink sink = {
        .handler = handler,
        .handler_context = context,
        .accept = complete_record,
        .accept_context = sampler,
    };
    uint64_t limit_ns = final ? UINT64_MAX : clock_monotonic_ns();
    size_t num_samples = perf_merge_drain(&sampler->merge, limit_ns, &sink);

    if (final)
        deliver_untold_loss(sampler, &sink);
    else
        perf_wakeup_adapt(&sampler->wakeup, &sampler->options, &sampler->rings, -1, &sampler->merge,
                          &sampler->sample_format, sampler->num_events, event_at, sampler);
    *num_samples_ret = num_samples;
    return NULL;
}

static void cpu_wide_stop(struct sampler *sampler)
{
    if (sampler->is_stopped)
        return;
    sampler->is_stopped = true;
    for (size_t i = 0; i < sampler->num_events; i++)
        ioctl(sampler->events[i].fd, PERF_EVENT_IOC_DISABLE, 0);
    for (size_t i = 0; i < sampler->rings.num_cpus; i++) {
        ioctl(sampler->rings.cpus[i].sideband.fd, PERF_EVENT_IOC_DISABLE, 0);
    }
}

/* Adds up what the events counted. exact_ret: SAMPLER_MAX_EVENTS, zeroed. Returns: whether that is
 * of the target alone; CPU-wide clocks go on while a CPU idles. */
static bool read_exact(const struct sampler *sampler, uint64_t *exact_ret)
{
    bool has_clock = false;

    for (size_t i = 0; i < sampler->num_events; i++) {
        const struct cpu_event *event = &sampler->events[i];
        struct perf_event_count count;

        has_clock |= sampler->set.events[event->index].spec.class == EVENT_CLASS_CLOCK;
        if (perf_event_read(event->fd, &sampler->set.attrs[event->index], &count))
            exact_ret[event->index] += count.value;
    }
    return sampler->options.scope == SAMPLER_CGROUP ||
           (sampler->options.scope == SAMPLER_SYSTEM && !has_clock);
}

static void cpu_wide_info(const struct sampler *sampler, struct sampler_info *info_ret)
{
    *info_ret = (struct sampler_info){
        .engine = "perf (cpu-wide)",
        .period_ns = perf_event_set_period_ns(&sampler->set),
        .num_events = sampler->num_events + sampler->rings.num_events,
        .ring_bytes = sampler->rings.bytes,
        .ring_is_small = sampler->rings.is_small,
        .has_kernel = perf_event_set_has_kernel(&sampler->set),
    };
    info_ret->has_exact = read_exact(sampler, info_ret->exact);
}

const struct sampler_ops sampler_cpu_wide = {
    .name = "cpu-wide",
    .open = cpu_wide_open,
    .attach = cpu_wide_attach,
    .start = cpu_wide_start,
    .wait_fd = cpu_wide_wait_fd,
    .drain = cpu_wide_drain,
    .stop = cpu_wide_stop,
    .info = cpu_wide_info,
    .destroy = cpu_wide_destroy,
};
