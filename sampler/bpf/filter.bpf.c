/* In the kernel: lets a CPU-wide sampling event through only while it hits a process under profile
 * (or, when so asked, a thread), and follows these over fork, exec and end.
 *
 * Loaded by sampler/bpf_filter.c, which tells the field offsets of the running kernel.
 * Source: kernel Documentation/bpf, include/trace/events/sched.h (arguments of the tracepoints).
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sampler/bpf/image.h"

#define MAX_TASKS 16384
#define COUNTING 1u /* value of a task whose samples pass; 0: armed, waits for its execve */

/* Where the running kernel has these fields of struct task_struct, bytes. */
BPF_IMAGE_NUMBER(task_pid_offset);
BPF_IMAGE_NUMBER(task_tgid_offset);
/* 1: tasks are threads, and `tasks` has tids, not tgids. */
BPF_IMAGE_NUMBER(by_thread);

/* tgid (or tid) -> COUNTING or 0. */
SEC("maps") struct bpf_image_map tasks = {BPF_MAP_TYPE_HASH, 4, 4, MAX_TASKS};

/* Children that did not fit into `tasks`, at index 0. */
SEC("maps") struct bpf_image_map unfollowed = {BPF_MAP_TYPE_ARRAY, 4, 8, 1};

/* Reads one field of a task, given as a tracepoint's argument. Returns: 0 (nobody of ours) when it
 * cannot be read. */
static __always_inline __u32 read_task(__u64 task, __u64 offset)
{
    __u32 value = 0;

    bpf_probe_read_kernel(&value, sizeof(value), (const void *)(task + offset));
    return value;
}

/* By what a task given as a tracepoint's argument is found in `tasks`. */
static __always_inline __u32 task_key(__u64 task)
{
    return read_task(task, BPF_IMAGE_VALUE(by_thread) ? BPF_IMAGE_VALUE(task_pid_offset)
                                                      : BPF_IMAGE_VALUE(task_tgid_offset));
}

/* The same of the running task. */
static __always_inline __u32 current_key(void)
{
    __u64 tgid_pid = bpf_get_current_pid_tgid();

    return BPF_IMAGE_VALUE(by_thread) ? (__u32)tgid_pid : tgid_pid >> 32;
}

/* The filter of the sampling events. Returns: 0 drops the sample, 1 lets it through. */
SEC("perf_event")
int filter_sample(void *context)
{
    __u32 key = current_key();
    __u32 *state = bpf_map_lookup_elem(&tasks, &key);

    return state && *state == COUNTING;
}

/* sched_process_fork(parent, child), in the parent: a child is what its parent is. A child of a
 * stranger that got the number of a task of ours which is gone is a stranger. */
SEC("raw_tracepoint/sched_process_fork")
int follow_fork(struct bpf_raw_tracepoint_args *context)
{
    __u32 parent = task_key(context->args[0]);
    __u32 child = task_key(context->args[1]);
    __u32 zero = 0;
    __u32 copy;
    __u32 *state;
    __u64 *count;

    if (parent == child)
        return 0;
    state = bpf_map_lookup_elem(&tasks, &parent);
    if (!state) {
        bpf_map_delete_elem(&tasks, &child);
        return 0;
    }
    copy = *state;
    if (bpf_map_update_elem(&tasks, &child, &copy, BPF_ANY) == 0)
        return 0;
    count = bpf_map_lookup_elem(&unfollowed, &zero);
    if (count)
        __sync_fetch_and_add(count, 1);
    return 0;
}

/* sched_process_exec(task, old_pid, binprm), at the end of execve: a task that waited for it
 * counts. A thread gets the number of its process by it; by its old one it is forgotten right
 * after. */
SEC("raw_tracepoint/sched_process_exec")
int follow_exec(struct bpf_raw_tracepoint_args *context)
{
    __u32 key = current_key();
    __u32 old_pid = context->args[1];
    __u32 counting = COUNTING;

    if (bpf_map_lookup_elem(&tasks, &key) ||
        (BPF_IMAGE_VALUE(by_thread) && bpf_map_lookup_elem(&tasks, &old_pid)))
        bpf_map_update_elem(&tasks, &key, &counting, BPF_ANY);
    return 0;
}

/* sched_process_free(task), when the task is reaped and its number is free: until then the work of
 * its ending counts. The thread group leader is the last of its process to get there. */
SEC("raw_tracepoint/sched_process_free")
int forget_task(struct bpf_raw_tracepoint_args *context)
{
    __u32 pid = read_task(context->args[0], BPF_IMAGE_VALUE(task_pid_offset));
    __u32 tgid = read_task(context->args[0], BPF_IMAGE_VALUE(task_tgid_offset));

    if (BPF_IMAGE_VALUE(by_thread) || pid == tgid)
        bpf_map_delete_elem(&tasks, &pid);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
