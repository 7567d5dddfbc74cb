#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/hash_index.h"
#include "sampler/cpu_list.h"
#include "sampler/perf_event.h"
#include "sampler/perf_event_set.h"
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

#define SIDEBAND UINT32_MAX

/* One event of a task on one CPU. */
struct task_event {
    int fd;
    uint32_t index;     /* into set.events; SIDEBAND: none of these */
    uint64_t id;        /* sampling: PERF_SAMPLE_ID of its samples and of those of its heirs */
    uint32_t task;      /* index into tasks */
    uint32_t cpu_index; /* index into rings.cpus */
};

/* What all events together counted. */
struct counts {
    uint64_t exact[SAMPLER_MAX_EVENTS]; /* in the unit of each */
    uint64_t lost_samples;
    uint64_t lost_sideband;
};

struct sampler {
    struct sampler_options options;
    struct perf_event_set set;
    struct perf_event_attr sideband_attr;
    struct perf_record_format sample_format;
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
    struct counts counts_at_stop;
    bool has_twins; /* some thread had events of its own and inherited ones, too */
    bool is_started;
    bool is_stopped;
};

/* The attributes of event number `index` of the set, or of the sideband event. */
static const struct perf_event_attr *attr_of(const struct sampler *sampler, uint32_t index)
{
    return index == SIDEBAND ? &sampler->sideband_attr : &sampler->set.attrs[index];
}

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
    perf_event_attr_sideband(options, inherit, &sampler->sideband_attr);
    perf_event_attr_owner(&owner_attr);
    RETURN_IF_ERROR(
        perf_event_set_init(&sampler->set, options, inherit, 0, (int)cpus.cpus[0], true));
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
    sampler->sample_format = (struct perf_record_format){
        .sample_type = perf_event_set_sample_type(&sampler->set),
        .stack_bytes = options->stack_bytes,
    };
    sampler->sideband_format = (struct perf_record_format){
        .sample_type = sampler->sideband_attr.sample_type,
        .is_sideband = true,
    };
    RETURN_IF_ERROR(perf_merge_init(&sampler->merge));
    RETURN_IF_ERROR(perf_merge_add_rings(&sampler->merge, &sampler->rings, &sampler->sample_format,
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

/* Finds the event, of a task or of one it inherits from, that wrote a sample. Returns: its index
 * into sampler->events, or UINT32_MAX. */
static uint32_t find_source(const struct sampler *sampler, uint64_t id)
{
    struct hash_index_cursor cursor = hash_index_first(&sampler->event_by_id, hash_u64(id));
    uint32_t item;

    while (hash_index_next(&sampler->event_by_id, &cursor, &item)) {
        if (sampler->events[item].id == id)
            return item;
    }
    return UINT32_MAX;
}

/* Opens one event of the newest task and lets it write into the ring of its CPU.
 * Returns: 0 or a positive errno value; ENODEV (CPU offline) counts as done. */
static int open_event(struct sampler *sampler, pid_t tid, size_t cpu_index, uint32_t index)
{
    const struct perf_cpu_rings *rings = &sampler->rings.cpus[cpu_index];
    int ring_fd = index == SIDEBAND           ? rings->sideband.fd
                  : sampler->wakeup.is_urgent ? rings->urgent.fd
                                              : rings->data.fd;
    CLEANUP(close) int fd = -1;
    struct task_event event = {
        .index = index,
        .task = (uint32_t)sampler->num_tasks,
        .cpu_index = (uint32_t)cpu_index,
    };

    fd = perf_event_open(attr_of(sampler, index), tid, (int)rings->cpu);
    if (fd < 0)
        return fd == -ENODEV ? 0 : -fd;
    if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, ring_fd))
        return errno;
    if (index != SIDEBAND && ioctl(fd, PERF_EVENT_IOC_ID, &event.id))
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
        err = open_event(sampler, tid, i, SIDEBAND);
    for (uint32_t index = 0; index < sampler->set.num_events; index++) {
        for (size_t i = 0; i < sampler->rings.num_cpus && !err; i++) {
            if (sampler->rings.cpus[i].data.fd >= 0)
                err = open_event(sampler, tid, i, index);
        }
    }
    return err;
}

/* Enters the newest task and its events from `first_event` on into the indexes. */
static struct error *index_task(struct sampler *sampler, size_t first_event)
{
    const struct task *task = &sampler->tasks[sampler->num_tasks];

    for (size_t i = first_event; i < sampler->num_events; i++) {
        if (sampler->events[i].index != SIDEBAND)
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

/* Starts sampling from event `first_event` on. */
static struct error *enable_events(const struct sampler *sampler, size_t first_event)
{
    for (size_t i = first_event; i < sampler->num_events; i++) {
        if (sampler->events[i].index != SIDEBAND &&
            ioctl(sampler->events[i].fd, PERF_EVENT_IOC_ENABLE, 0))
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
    RETURN_IF_ERROR(
        array_reserve(&sampler->events, &sampler->events_capacity,
                      first_event + (1 + sampler->set.num_events) * sampler->rings.num_cpus,
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

static struct perf_wakeup_event event_at(const void *context, size_t index)
{
    const struct sampler *sampler = context;
    const struct task_event *event = &sampler->events[index];

    return (struct perf_wakeup_event){
        .fd = event->index != SIDEBAND ? event->fd : -1,
        .cpu_index = event->cpu_index,
    };
}

/* Drops what reaches us twice, or though nobody asked for it.
 *
 * A thread born while its parent was being attached inherits some of the parent's events and is
 * then found and attached itself: its samples count only when they come from its own events.
 * Kernels without inherit_thread (before 5.13) follow child processes even when we should not. */
static bool is_wanted(struct sampler *sampler, const struct perf_record *record, uint32_t source)
{
    const struct event *event = &record->event;
    uint32_t task;

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
    if (source == UINT32_MAX || sampler->events[source].task == task)
        return true;
    sampler->has_twins = true;
    return false;
}

static bool accept_record(void *context, struct perf_record *record)
{
    struct sampler *sampler = context;
    bool is_sample = record->event.type == EVENT_SAMPLE;
    uint32_t source = is_sample ? find_source(sampler, record->source_id) : UINT32_MAX;

    if (!is_wanted(sampler, record, source))
        return false;
    if (!is_sample)
        return true;
    perf_event_set_complete(&sampler->set, source == UINT32_MAX ? 0 : sampler->events[source].index,
                            &record->sample);
    perf_wakeup_count(&sampler->wakeup, &record->sample);
    return true;
}

/* Adds up what all events counted, inherited ones included. */
static void read_counts(const struct sampler *sampler, struct counts *counts_ret)
{
    *counts_ret = (struct counts){0};
    for (size_t i = 0; i < sampler->num_events; i++) {
        const struct task_event *event = &sampler->events[i];
        struct perf_event_count count;

        if (!perf_event_read(event->fd, attr_of(sampler, event->index), &count))
            continue;
        if (event->index == SIDEBAND) {
            counts_ret->lost_sideband += count.lost;
        } else {
            counts_ret->lost_samples += count.lost;
            counts_ret->exact[event->index] += count.value;
        }
    }
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

    if (final) {
        struct counts counts;

        read_counts(sampler, &counts);
        perf_merge_deliver_rest(&sampler->merge, LOSS_LOST, counts.lost_samples, &sink);
        perf_merge_deliver_rest(&sampler->merge, LOSS_SIDEBAND, counts.lost_sideband, &sink);
    } else {
        perf_wakeup_adapt(&sampler->wakeup, &sampler->options, &sampler->rings, 0, &sampler->merge,
                          &sampler->sample_format, sampler->num_events, event_at, sampler);
    }
    *num_samples_ret = num_samples;
    return NULL;
}

static void per_task_stop(struct sampler *sampler)
{
    if (sampler->is_stopped)
        return;
    sampler->is_stopped = true;
    for (size_t i = 0; i < sampler->num_events; i++)
        ioctl(sampler->events[i].fd, PERF_EVENT_IOC_DISABLE, 0);
    read_counts(sampler, &sampler->counts_at_stop);
}

static void per_task_info(const struct sampler *sampler, struct sampler_info *info_ret)
{
    struct counts counts = sampler->counts_at_stop;

    if (!sampler->is_stopped)
        read_counts(sampler, &counts);
    *info_ret = (struct sampler_info){
        .engine = "perf (per-task)",
        .period_ns = perf_event_set_period_ns(&sampler->set),
        .num_events = sampler->num_events + sampler->rings.num_events,
        .ring_bytes = sampler->rings.bytes,
        .ring_is_small = sampler->rings.is_small,
        .has_kernel = perf_event_set_has_kernel(&sampler->set),
        .has_exact = !sampler->has_twins,
    };
    memcpy(info_ret->exact, counts.exact, sizeof(info_ret->exact));
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
