#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/hash_index.h"
#include "sampler/cpu_list.h"
#include "sampler/perf_event.h"
#include "sampler/perf_merge.h"
#include "sampler/perf_record.h"
#include "sampler/perf_rings.h"
#include "sampler/perf_wakeup.h"
#include "sampler/sampler.h"

/* One attached thread. Threads that inherit from it are not listed. */
struct task {
    pid_t pid;
    pid_t tid;
    bool has_ended; /* its tid may be somebody else's by now */
};

/* One event of a task on one CPU. */
struct task_event {
    int fd;
    bool is_clock;
    uint64_t id;        /* clock: PERF_SAMPLE_ID of its samples and of those of its heirs */
    uint32_t task;      /* index into tasks */
    uint32_t cpu_index; /* index into rings.cpus */
};

struct sampler {
    struct sampler_options options;
    struct perf_event_attr clock_attr;
    struct perf_event_attr sideband_attr;
    struct perf_record_format clock_format;
    struct perf_record_format sideband_format;
    struct perf_rings rings; /* owned by events on ourselves, so that they outlive every task */
    struct perf_wakeup wakeup;
    struct perf_merge merge;
    struct task *tasks;
    size_t num_tasks, tasks_capacity;
    struct task_event *events;
    size_t num_events, events_capacity;
    struct hash_index task_by_tid;
    struct hash_index event_by_id;
    uint64_t exact_cpu_ns; /* as of stop */
    bool has_twins;        /* some thread had events of its own and inherited ones, too */
    bool is_started;
    bool is_stopped;
};

static void per_task_destroy(struct sampler *sampler)
{
    if (!sampler)
        return;
    for (size_t i = 0; i < sampler->num_events; i++)
        close(sampler->events[i].fd);
    perf_merge_deinit(&sampler->merge);
    perf_rings_deinit(&sampler->rings);
    hash_index_deinit(&sampler->task_by_tid);
    hash_index_deinit(&sampler->event_by_id);
    free(sampler->events);
    free(sampler->tasks);
    free(sampler);
}

DEFINE_CLEANUP(per_task_destroy, struct sampler *)

static struct error *open_rings(struct sampler *sampler)
{
    struct cpu_list cpus = {0};
    CLEANUP(cpu_list_deinit) UNUSED struct cpu_list *guard = &cpus;
    const struct sampler_options *options = &sampler->options;
    bool inherit = options->scope == SAMPLER_PROCESSES || options->follow_children;
    struct perf_event_attr owner_attr;

    RETURN_IF_ERROR(cpu_list_online(&cpus));
    if (options->cpus)
        RETURN_IF_ERROR(cpu_list_check_online(options->cpus));
    perf_event_attr_clock(options, inherit, &sampler->clock_attr);
    perf_event_attr_sideband(options, inherit, &sampler->sideband_attr);
    perf_event_attr_owner(&owner_attr);
    RETURN_IF_ERROR(perf_event_probe(&sampler->clock_attr, 0, (int)cpus.cpus[0], true));
    RETURN_IF_ERROR(perf_event_probe(&sampler->sideband_attr, 0, (int)cpus.cpus[0], false));
    return perf_rings_init(options, &cpus, 0, &owner_attr, &sampler->rings);
}

static struct error *per_task_open(const struct sampler_options *options,
                                   struct sampler **sampler_ret)
{
    CLEANUP(per_task_destroy) struct sampler *sampler = NULL;

    if (options->scope == SAMPLER_SYSTEM || options->scope == SAMPLER_CGROUP)
        return error_create(ERROR_UNSUPPORTED, "leave --engine out",
                            "the per-task engine samples processes and threads only");
    sampler = calloc(1, sizeof(*sampler));
    if (!sampler)
        return &error_no_memory;
    sampler->options = *options;
    sampler->rings.epoll_fd = -1;
    hash_index_init(&sampler->task_by_tid);
    hash_index_init(&sampler->event_by_id);
    perf_event_raise_nofile();
    RETURN_IF_ERROR(open_rings(sampler));
    sampler->clock_format = (struct perf_record_format){
        .sample_type = sampler->clock_attr.sample_type,
        .stack_bytes = options->stack_bytes,
    };
    sampler->sideband_format = (struct perf_record_format){
        .sample_type = sampler->sideband_attr.sample_type,
        .is_sideband = true,
    };
    RETURN_IF_ERROR(perf_merge_init(&sampler->merge));
    RETURN_IF_ERROR(perf_merge_add_rings(&sampler->merge, &sampler->rings, &sampler->clock_format,
                                         &sampler->sideband_format));
    *sampler_ret = take_ptr(sampler);
    return NULL;
}

/* Finds the attached thread that has `tid` now. Returns: its index, or UINT32_MAX. */
static uint32_t find_task(const struct sampler *sampler, uint32_t tid)
{
    struct hash_index_cursor cursor = hash_index_first(&sampler->task_by_tid, hash_u64(tid));
    uint32_t item;

    while (hash_index_next(&sampler->task_by_tid, &cursor, &item)) {
        const struct task *task = &sampler->tasks[item];

        if ((uint32_t)task->tid == tid && !task->has_ended)
            return item;
    }
    return UINT32_MAX;
}

/* Finds the task whose event, or whose heir's event, wrote a sample. Returns: index, or UINT32_MAX.
 */
static uint32_t find_source(const struct sampler *sampler, uint64_t id)
{
    struct hash_index_cursor cursor = hash_index_first(&sampler->event_by_id, hash_u64(id));
    uint32_t item;

    while (hash_index_next(&sampler->event_by_id, &cursor, &item)) {
        if (sampler->events[item].id == id)
            return sampler->events[item].task;
    }
    return UINT32_MAX;
}

/* Opens one event of the newest task and lets it write into the ring of its CPU.
 * Returns: 0 or a positive errno value; ENODEV (CPU offline) counts as done. */
static int open_event(struct sampler *sampler, pid_t tid, size_t cpu_index, bool is_clock)
{
    const struct perf_cpu_rings *rings = &sampler->rings.cpus[cpu_index];
    int ring_fd = !is_clock                   ? rings->sideband.fd
                  : sampler->wakeup.is_urgent ? rings->urgent.fd
                                              : rings->data.fd;
    CLEANUP(close) int fd = -1;
    struct task_event event = {
        .is_clock = is_clock,
        .task = (uint32_t)sampler->num_tasks,
        .cpu_index = (uint32_t)cpu_index,
    };

    fd = perf_event_open(is_clock ? &sampler->clock_attr : &sampler->sideband_attr, tid,
                         (int)rings->cpu);
    if (fd < 0)
        return fd == -ENODEV ? 0 : -fd;
    if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, ring_fd))
        return errno;
    if (is_clock && ioctl(fd, PERF_EVENT_IOC_ID, &event.id))
        return errno;
    event.fd = take_fd(&fd);
    sampler->events[sampler->num_events++] = event; /* room was made by add_task() */
    return 0;
}

/* Opens all events of the newest task. Sideband comes first: no sample without its mappings. */
static int open_events(struct sampler *sampler, pid_t tid)
{
    int err = 0;

    for (size_t i = 0; i < sampler->rings.num_cpus && !err; i++)
        err = open_event(sampler, tid, i, false);
    for (size_t i = 0; i < sampler->rings.num_cpus && !err; i++) {
        if (sampler->rings.cpus[i].data.fd >= 0)
            err = open_event(sampler, tid, i, true);
    }
    return err;
}

/* Enters the newest task and its events from `first_event` on into the indexes. */
static struct error *index_task(struct sampler *sampler, size_t first_event)
{
    const struct task *task = &sampler->tasks[sampler->num_tasks];

    for (size_t i = first_event; i < sampler->num_events; i++) {
        if (sampler->events[i].is_clock)
            RETURN_IF_ERROR(hash_index_insert(&sampler->event_by_id,
                                              hash_u64(sampler->events[i].id), (uint32_t)i));
    }
    return hash_index_insert(&sampler->task_by_tid, hash_u64((uint32_t)task->tid),
                             (uint32_t)sampler->num_tasks);
}

/* Closes what was opened of a task that could not be attached as a whole. */
static void close_events_from(struct sampler *sampler, size_t first_event)
{
    while (sampler->num_events > first_event)
        close(sampler->events[--sampler->num_events].fd);
}

/* Starts the clocks from event `first_event` on. */
static struct error *enable_events(const struct sampler *sampler, size_t first_event)
{
    for (size_t i = first_event; i < sampler->num_events; i++) {
        if (sampler->events[i].is_clock && ioctl(sampler->events[i].fd, PERF_EVENT_IOC_ENABLE, 0))
            return error_from_errno(errno, NULL, "can't start sampling");
    }
    return NULL;
}

static struct error *per_task_attach(struct sampler *sampler, pid_t pid, pid_t tid)
{
    size_t first_event = sampler->num_events;
    int open_errno;

    if (find_task(sampler, (uint32_t)tid) != UINT32_MAX)
        return NULL;
    RETURN_IF_ERROR(array_reserve(&sampler->tasks, &sampler->tasks_capacity, sampler->num_tasks + 1,
                                  sizeof(*sampler->tasks)));
    RETURN_IF_ERROR(array_reserve(&sampler->events, &sampler->events_capacity,
                                  first_event + 2 * sampler->rings.num_cpus,
                                  sizeof(*sampler->events)));
    sampler->tasks[sampler->num_tasks] = (struct task){.pid = pid, .tid = tid};
    open_errno = open_events(sampler, tid);
    if (open_errno) {
        close_events_from(sampler, first_event);
        return perf_event_task_refusal(open_errno, pid, tid, first_event);
    }
    RETURN_IF_ERROR(index_task(sampler, first_event));
    sampler->num_tasks++;
    if (sampler->is_started && !sampler->options.enable_on_exec)
        return enable_events(sampler, first_event);
    return NULL;
}

static struct error *per_task_start(struct sampler *sampler)
{
    sampler->is_started = true;
    if (sampler->options.enable_on_exec)
        return NULL; /* execve(2) of the launched command does it */
    return enable_events(sampler, 0);
}

static int per_task_wait_fd(const struct sampler *sampler)
{
    return sampler->rings.epoll_fd;
}

static bool is_attached_process(const struct sampler *sampler, uint32_t pid)
{
    uint32_t leader = find_task(sampler, pid);

    if (leader != UINT32_MAX)
        return true;
    for (size_t i = 0; i < sampler->num_tasks; i++) {
        if ((uint32_t)sampler->tasks[i].pid == pid)
            return true;
    }
    return false;
}

static struct perf_wakeup_event clock_at(const void *context, size_t index)
{
    const struct sampler *sampler = context;
    const struct task_event *event = &sampler->events[index];

    return (struct perf_wakeup_event){
        .fd = event->is_clock ? event->fd : -1,
        .cpu_index = event->cpu_index,
    };
}

/* Drops what reaches us twice, or though nobody asked for it.
 *
 * A thread born while its parent was being attached inherits some of the parent's events and is
 * then found and attached itself: its samples count only when they come from its own events.
 * Kernels without inherit_thread (before 5.13) follow child processes even when we should not. */
static bool is_wanted(struct sampler *sampler, const struct perf_record *record)
{
    const struct event *event = &record->event;
    uint32_t task;
    uint32_t source;

    if (event->type == EVENT_LOSS || sampler->options.scope == SAMPLER_THREADS)
        return true;
    if (!sampler->options.follow_children && !is_attached_process(sampler, event->pid))
        return false;
    if (sampler->num_tasks == 1 || (event->type != EVENT_SAMPLE && event->type != EVENT_EXIT))
        return true;
    task = find_task(sampler, event->tid);
    if (task == UINT32_MAX)
        return true;
    if (event->type == EVENT_EXIT) {
        sampler->tasks[task].has_ended = true;
        return true;
    }
    source = find_source(sampler, record->source_id);
    if (source == task || source == UINT32_MAX)
        return true;
    sampler->has_twins = true;
    return false;
}

static bool accept_record(void *context, const struct perf_record *record)
{
    struct sampler *sampler = context;

    if (!is_wanted(sampler, record))
        return false;
    if (record->event.type == EVENT_SAMPLE)
        perf_wakeup_count(&sampler->wakeup, &record->sample);
    return true;
}

/* Adds up what all events counted. Returns: ns of CPU. lost_ret: records lost, [is_clock]. */
static uint64_t read_counts(const struct sampler *sampler, uint64_t lost_ret[2])
{
    uint64_t cpu_ns = 0;

    lost_ret[0] = 0;
    lost_ret[1] = 0;
    for (size_t i = 0; i < sampler->num_events; i++) {
        const struct task_event *event = &sampler->events[i];
        struct perf_event_count count;

        if (!perf_event_read(event->fd,
                             event->is_clock ? &sampler->clock_attr : &sampler->sideband_attr,
                             &count))
            continue;
        lost_ret[event->is_clock] += count.lost;
        if (event->is_clock)
            cpu_ns += count.value;
    }
    return cpu_ns;
}

static struct error *per_task_drain(struct sampler *sampler, bool final, event_handler_fn *handler,
                                    void *context, size_t *num_samples_ret)
{
    struct perf_merge_sink sink = {
        .handler = handler,
        .handler_context = context,
        .accept = accept_record,
        .accept_context = sampler,
    };
    uint64_t limit_ns = final ? UINT64_MAX : clock_monotonic_ns();
    size_t num_samples = perf_merge_drain(&sampler->merge, limit_ns, &sink);
    uint64_t lost[2];

    if (final) {
        read_counts(sampler, lost);
        perf_merge_deliver_rest(&sampler->merge, LOSS_LOST, lost[true], &sink);
        perf_merge_deliver_rest(&sampler->merge, LOSS_SIDEBAND, lost[false], &sink);
    } else {
        perf_wakeup_adapt(&sampler->wakeup, &sampler->options, &sampler->rings, 0, &sampler->merge,
                          &sampler->clock_format, sampler->num_events, clock_at, sampler);
    }
    *num_samples_ret = num_samples;
    return NULL;
}

static void per_task_stop(struct sampler *sampler)
{
    uint64_t lost[2];

    if (sampler->is_stopped)
        return;
    sampler->is_stopped = true;
    for (size_t i = 0; i < sampler->num_events; i++)
        ioctl(sampler->events[i].fd, PERF_EVENT_IOC_DISABLE, 0);
    sampler->exact_cpu_ns = read_counts(sampler, lost);
}

static void per_task_info(const struct sampler *sampler, struct sampler_info *info_ret)
{
    uint64_t lost[2];

    *info_ret = (struct sampler_info){
        .engine = "perf (per-task)",
        .period_ns = sampler->clock_attr.sample_period,
        .num_events = sampler->num_events + sampler->rings.num_events,
        .ring_bytes = sampler->rings.bytes,
        .ring_is_small = sampler->rings.is_small,
        .has_kernel = !sampler->clock_attr.exclude_kernel,
        .has_exact_cpu = !sampler->has_twins,
        .exact_cpu_ns = sampler->is_stopped ? sampler->exact_cpu_ns : read_counts(sampler, lost),
    };
}

const struct sampler_ops sampler_per_task = {
    .name = "per-task",
    .open = per_task_open,
    .attach = per_task_attach,
    .start = per_task_start,
    .wait_fd = per_task_wait_fd,
    .drain = per_task_drain,
    .stop = per_task_stop,
    .info = per_task_info,
    .destroy = per_task_destroy,
};
