/* In the kernel: lets a CPU-wide sampling event through only while it hits a process under profile,
 * and follows these processes over fork, exec and end.
 *
 * Loaded by sampler/bpf_filter.c, which tells the field offsets of the running kernel.
 * Source: kernel Documentation/bpf, include/trace/events/sched.h (arguments of the tracepoints).
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sampler/bpf/image.h"

#define MAX_PROCESSES 16384
#define COUNTING 1u /* value of a process whose samples pass; 0: armed, waits for its execve */

/* Where the running kernel has these fields of struct task_struct, bytes. */
BPF_IMAGE_NUMBER(task_pid_offset);
BPF_IMAGE_NUMBER(task_tgid_offset);

/* tgid -> COUNTING or 0. */
SEC("maps") struct bpf_image_map processes = {BPF_MAP_TYPE_HASH, 4, 4, MAX_PROCESSES};

/* Child processes that did not fit into `processes`, at index 0. */
SEC("maps") struct bpf_image_map unfollowed = {BPF_MAP_TYPE_ARRAY, 4, 8, 1};

/* Reads one field of a task, given as a tracepoint's argument. Returns: 0 (nobody of ours) when it
 * cannot be read. */
static __always_inline __u32 read_task(__u64 task, __u64 offset)
{
    __u32 value = 0;

    bpf_probe_read_kernel(&value, sizeof(value), (const void *)(task + offset));
    return value;
}

/* The filter of the sampling events. Returns: 0 drops the sample, 1 lets it through. */
SEC("perf_event")
int filter_sample(void *context)
{
    __u32 tgid = bpf_get_current_pid_tgid() >> 32;
    __u32 *state = bpf_map_lookup_elem(&processes, &tgid);

    return state && *state == COUNTING;
}

/* sched_process_fork(parent, child), in the parent: a child process is what its parent is. A child
 * of a stranger that got the number of a process of ours which is gone is a stranger. */
SEC("raw_tracepoint/sched_process_fork")
int follow_fork(struct bpf_raw_tracepoint_args *context)
{
    __u32 parent_tgid = read_task(context->args[0], BPF_IMAGE_VALUE(task_tgid_offset));
    __u32 child_tgid = read_task(context->args[1], BPF_IMAGE_VALUE(task_tgid_offset));
    __u32 zero = 0;
    __u32 copy;
    __u32 *state;
    __u64 *count;

    if (parent_tgid == child_tgid)
        return 0;
    state = bpf_map_lookup_elem(&processes, &parent_tgid);
    if (!state) {
        bpf_map_delete_elem(&processes, &child_tgid);
        return 0;
    }
    copy = *state;
    if (bpf_map_update_elem(&processes, &child_tgid, &copy, BPF_ANY) == 0)
        return 0;
    count = bpf_map_lookup_elem(&unfollowed, &zero);
    if (count)
        __sync_fetch_and_add(count, 1);
    return 0;
}

/* sched_process_exec(task, old_pid, binprm), at the end of execve: a process that waited for it
 * counts. */
SEC("raw_tracepoint/sched_process_exec")
int follow_exec(struct bpf_raw_tracepoint_args *context)
{
    __u32 tgid = bpf_get_current_pid_tgid() >> 32;
    __u32 *state = bpf_map_lookup_elem(&processes, &tgid);

    (void)context;
    if (state)
        *state = COUNTING;
    return 0;
}

/* sched_process_free(task), when the task is reaped and its number is free: until then the work of
 * its ending counts. The thread group leader is the last of its process to get there. */
SEC("raw_tracepoint/sched_process_free")
int forget_process(struct bpf_raw_tracepoint_args *context)
{
    __u32 pid = read_task(context->args[0], BPF_IMAGE_VALUE(task_pid_offset));
    __u32 tgid = read_task(context->args[0], BPF_IMAGE_VALUE(task_tgid_offset));

    if (pid == tgid)
        bpf_map_delete_elem(&processes, &tgid);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
