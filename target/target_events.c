/* What kernel events tell: new mappings, names, threads and processes, and their ends. */
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "target/target_internal.h"

/* Finds the process of an event, or makes it when all are followed. row_ret: NULL when it is not
 * ours. */
static struct error *event_row(struct target *target, const struct event *event,
                               struct process_row **row_ret)
{
    *row_ret = target_row_find(target, event->pid);
    if (*row_ret || !target->follows_all)
        return NULL;
    return target_row_see(target, event->pid, row_ret);
}

static struct error *mmap_handle(struct target *target, const struct event *event)
{
    const struct mmap_event *mmap = &event->mmap;
    struct range range = {.start = mmap->start,
                          .limit = mmap->limit,
                          .file_off = mmap->file_off,
                          .dev_major = mmap->dev_major,
                          .dev_minor = mmap->dev_minor,
                          .inode = mmap->inode,
                          .path = mmap->path ? mmap->path : ""};
    struct process_row *row;
    bool has_changed = false;

    if (!(mmap->prot & PROT_EXEC))
        return NULL;
    RETURN_IF_ERROR(event_row(target, event, &row));
    if (!row)
        return NULL;
    return target_range_add(target, row, &range, &has_changed);
}

/* execve: a new address space, and no thread but the one that called it, which is the leader now.
 */
static struct error *exec_handle(struct process_row *row, uint64_t time_ns)
{
    struct process *process = &row->process;
    struct maps *empty = NULL;

    RETURN_IF_ERROR(maps_create(&empty));
    maps_put(process->maps);
    process->maps = empty;
    process->num_threads = 0;
    process->exec_time_ns = time_ns;
    process->maps_reread = false;
    process->jit_dump = NULL;
    row->reread_after_ns = 0;
    row->reread_interval_ns = 0;
    row->has_leader_ended = false;
    row->has_status = false; /* a set-user-ID program has another owner */
    return NULL;
}

static struct error *comm_handle(struct target *target, const struct event *event)
{
    struct process_row *row;
    size_t num_threads = target->num_threads;
    uint32_t name;

    RETURN_IF_ERROR(event_row(target, event, &row));
    if (!row)
        return NULL;
    RETURN_IF_ERROR(target_name_add(target, event->comm.comm ? event->comm.comm : "", &name));
    if (event->comm.is_exec)
        RETURN_IF_ERROR(exec_handle(row, event->time_ns));
    RETURN_IF_ERROR(target_thread_set(target, row, event->tid, name));
    if (event->comm.is_exec)
        target->num_threads = num_threads; /* the leader is no new thread */
    return NULL;
}

/* Makes the row of a forked child: all that it shares with its parent. */
static struct error *child_add(struct target *target, const struct event *event,
                               const struct process *parent_now)
{
    const uint32_t name = process_thread_name(parent_now, event->fork.parent_tid);
    const struct process parent = *parent_now; /* the rows may move, its maps don't */
    struct process_row *row;

    RETURN_IF_ERROR(target_row_reset(target, event->pid, &row));
    row->parent_pid = parent.pid;
    maps_put(row->process.maps);
    row->process.maps = maps_get(parent.maps);
    row->process.uid = parent.uid;
    row->process.jit_dump = parent.jit_dump;
    row->process.root = parent.root ? strdup(parent.root) : NULL;
    if (parent.ns_pid == parent.pid) /* in our namespace; else only /proc knows, when it is asked */
        row->process.ns_pid = event->pid;
    return target_thread_set(target, row, event->tid, name);
}

static struct error *fork_handle(struct target *target, const struct event *event)
{
    struct process_row *parent = target_row_find(target, event->fork.parent_pid);
    struct process_row *row;

    /* The parent is likely to live still, a child that does not execve may be gone already. */
    if (!parent && target->follows_all && event->fork.parent_pid != 0)
        RETURN_IF_ERROR(target_row_see(target, event->fork.parent_pid, &parent));
    if (event->pid == event->fork.parent_pid) { /* a thread */
        RETURN_IF_ERROR(event_row(target, event, &row));
        if (!row)
            return NULL;
        return target_thread_set(target, row, event->tid,
                                 process_thread_name(&row->process, event->fork.parent_tid));
    }
    row = target_row_find(target, event->pid);
    /* Attach reads /proc after events are on: a child may be known from there before its fork. */
    if (row && !row->process.has_ended && !target->has_lost_events &&
        (row->process.start_time_ticks != 0 || row->awaits_main))
        return NULL;
    if (!parent)
        return event_row(target, event, &row);
    return child_add(target, event, &parent->process);
}

/* The kernel tells the end of each thread. The process ends with the last one: the leader may be
 * gone long before (pthread_exit in main), its threads running on. */
static struct error *exit_handle(struct target *target, const struct event *event)
{
    struct process_row *row = target_row_find(target, event->pid);

    if (!row || row->process.has_ended)
        return NULL;
    target_thread_remove(row, event->tid);
    if (event->tid == event->pid)
        row->has_leader_ended = true;
    if (row->has_leader_ended && (row->process.num_threads == 0 || target->has_lost_events))
        return target_row_end(target, row);
    return NULL;
}

/* A process that has ended keeps what it had. */
static struct error *maps_handle(struct target *target, const struct event *event)
{
    struct process_row *row = target_row_find(target, event->pid);
    CLEANUP(error_destroy) struct error *err = NULL;
    bool has_changed = false;

    if (!row || row->process.has_ended)
        return NULL;
    err = target_maps_read(target, row, row->awaits_main, &has_changed);
    return err && err->kind == ERROR_NO_MEMORY ? take_ptr(err) : NULL;
}

struct error *target_handle_event(struct target *target, const struct event *event)
{
    /* 0 and -1: tasks outside our pid namespace, or with no pid left (perf_event_open(2)). */
    bool has_pid = event->pid != 0 && event->pid != UINT32_MAX;

    switch (event->type) {
    case EVENT_MMAP:
        return has_pid ? mmap_handle(target, event) : NULL;
    case EVENT_COMM:
        return has_pid ? comm_handle(target, event) : NULL;
    case EVENT_FORK:
        return has_pid ? fork_handle(target, event) : NULL;
    case EVENT_EXIT:
        return has_pid ? exit_handle(target, event) : NULL;
    case EVENT_MAPS:
        return has_pid ? maps_handle(target, event) : NULL;
    case EVENT_LOSS:
        if (event->loss.kind == LOSS_SIDEBAND && event->loss.count > 0)
            target->has_lost_events = true;
        return NULL;
    case EVENT_SAMPLE:
        break;
    }
    return NULL;
}
