#include "sampler/bpf_filter.h"

#include "base/cleanup.h"
#include "sampler/btf_offset.h"

#if HAVE_BPF

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bpf.h"
#include "sampler/bpf_loader.h"

#define INIT_PID_NAMESPACE_INODE 0xEFFFFFFCu /* linux/proc_ns.h PROC_PID_INIT_INO */
#define COUNTING 1u                          /* as in sampler/bpf/filter.bpf.c */
#define KERNEL_BTF "/sys/kernel/btf/vmlinux"

/* The compiled programs, found by the assembler on the include path (-I$(O)). */
__asm__(".pushsection .rodata\n"
        ".balign 8\n"
        "bpf_filter_object:\n"
        ".incbin \"sampler/bpf/filter.bpf.o\"\n"
        "bpf_filter_object_limit:\n"
        ".balign 8\n"
        "bpf_filter_object_bytes:\n"
        ".quad bpf_filter_object_limit - bpf_filter_object\n"
        ".popsection\n");
extern const uint8_t bpf_filter_object[];
extern const uint64_t bpf_filter_object_bytes;

#define NUM_TRACEPOINTS 3

struct bpf_filter {
    int tasks_fd;
    int unfollowed_fd;
    int program_fd;                /* the filter itself */
    int link_fds[NUM_TRACEPOINTS]; /* programs at tracepoints */
};

DEFINE_CLEANUP(bpf_filter_destroy, struct bpf_filter *)

/* What the programs are told; see sampler/bpf/filter.bpf.c. */
struct filter_numbers {
    uint32_t pid_offset;
    uint32_t tgid_offset;
    bool by_thread;
};

static struct error *refusal(int err, const char *what)
{
    return bpf_loader_refusal(err, what, "use --engine per-task");
}

/* The kernel tells BPF programs pids of the initial namespace, and perf tells us those of ours. */
static struct error *check_pid_namespace(void)
{
    struct stat status;

    if (stat("/proc/self/ns/pid", &status) || status.st_ino != INIT_PID_NAMESPACE_INODE)
        return error_create(ERROR_UNSUPPORTED, "run on the host for the CPU-wide engine",
                            "CPU-wide sampling does not work in a pid namespace");
    return NULL;
}

/* Creates the maps. Their elements are allocated when needed, if the kernel lets a perf event's
 * program use such maps (since Linux 6.1): 16384 at once take most of the time of a start. */
static int create_maps(struct bpf_filter *filter, const struct bpf_image *image, uint32_t flags)
{
    filter->tasks_fd = bpf_loader_create_map(image, "tasks", flags, 0);
    if (filter->tasks_fd < 0)
        return filter->tasks_fd;
    if (filter->unfollowed_fd < 0)
        filter->unfollowed_fd = bpf_loader_create_map(image, "unfollowed", 0, 0);
    return filter->unfollowed_fd < 0 ? filter->unfollowed_fd : 0;
}

static int load_program(const struct bpf_filter *filter, const struct bpf_image *image,
                        const char *section, const struct filter_numbers *numbers)
{
    const struct bpf_symbol symbols[] = {
        {"tasks", (uint64_t)filter->tasks_fd},    {"unfollowed", (uint64_t)filter->unfollowed_fd},
        {"task_pid_offset", numbers->pid_offset}, {"task_tgid_offset", numbers->tgid_offset},
        {"by_thread", numbers->by_thread},
    };

    return bpf_loader_load(image, section, 0, symbols, ARRAY_LENGTH(symbols));
}

static struct error *load_filter(struct bpf_filter *filter, const struct bpf_image *image,
                                 const struct filter_numbers *numbers)
{
    int err = create_maps(filter, image, BPF_F_NO_PREALLOC);

    if (err)
        return refusal(-err, "can't make a BPF map");
    filter->program_fd = load_program(filter, image, "perf_event", numbers);
    if (filter->program_fd == -EINVAL) {
        close(take_fd(&filter->tasks_fd));
        err = create_maps(filter, image, 0);
        if (err)
            return refusal(-err, "can't make a BPF map");
        filter->program_fd = load_program(filter, image, "perf_event", numbers);
    }
    if (filter->program_fd < 0)
        return refusal(-filter->program_fd, "the kernel refuses the BPF filter");
    return NULL;
}

static struct error *attach_tracepoints(struct bpf_filter *filter, const struct bpf_image *image,
                                        const struct filter_numbers *numbers, bool follow_children)
{
    static const char *const sections[NUM_TRACEPOINTS] = {"raw_tracepoint/sched_process_fork",
                                                          "raw_tracepoint/sched_process_exec",
                                                          "raw_tracepoint/sched_process_free"};

    for (size_t i = follow_children ? 0 : 1; i < NUM_TRACEPOINTS; i++) {
        CLEANUP(close) int program_fd = load_program(filter, image, sections[i], numbers);

        if (program_fd < 0)
            return refusal(-program_fd, "the kernel refuses the BPF filter");
        filter->link_fds[i] = bpf_loader_attach(sections[i], program_fd);
        if (filter->link_fds[i] < 0)
            return refusal(-filter->link_fds[i], "can't follow processes by BPF");
    }
    return NULL;
}

static struct error *load(struct bpf_filter *filter, bool by_thread, bool follow_children)
{
    static const char *const names[] = {"pid", "tgid"};
    const struct bpf_image image = {bpf_filter_object, bpf_filter_object_bytes};
    uint32_t offsets[ARRAY_LENGTH(names)];
    struct filter_numbers numbers;

    RETURN_IF_ERROR(
        btf_offset_find(KERNEL_BTF, "task_struct", names, ARRAY_LENGTH(names), offsets));
    numbers = (struct filter_numbers){offsets[0], offsets[1], by_thread};
    RETURN_IF_ERROR(load_filter(filter, &image, &numbers));
    return attach_tracepoints(filter, &image, &numbers, follow_children);
}

struct error *bpf_filter_create(bool by_thread, bool follow_children,
                                struct bpf_filter **filter_ret)
{
    CLEANUP(bpf_filter_destroy) struct bpf_filter *filter = NULL;

    RETURN_IF_ERROR(check_pid_namespace());
    filter = malloc(sizeof(*filter));
    if (!filter)
        return &error_no_memory;
    memset(filter, 0xff, sizeof(*filter)); /* no descriptors yet: all -1 */
    RETURN_IF_ERROR(load(filter, by_thread, follow_children));
    *filter_ret = take_ptr(filter);
    return NULL;
}

void bpf_filter_destroy(struct bpf_filter *filter)
{
    if (!filter)
        return;
    for (size_t i = 0; i < NUM_TRACEPOINTS; i++)
        cleanup_close(&filter->link_fds[i]);
    cleanup_close(&filter->program_fd);
    cleanup_close(&filter->unfollowed_fd);
    cleanup_close(&filter->tasks_fd);
    free(filter);
}

struct error *bpf_filter_attach(struct bpf_filter *filter, int perf_event_fd)
{
    if (ioctl(perf_event_fd, PERF_EVENT_IOC_SET_BPF, filter->program_fd))
        return refusal(errno, "can't put the BPF filter in front of a perf event");
    return NULL;
}

struct error *bpf_filter_add(struct bpf_filter *filter, pid_t task, bool wait_for_exec)
{
    uint32_t key = (uint32_t)task;
    uint32_t value = wait_for_exec ? 0 : COUNTING;

    union bpf_attr attr = {.map_fd = (uint32_t)filter->tasks_fd};
    int err;

    attr.key = (uintptr_t)&key;
    attr.value = (uintptr_t)&value;
    err = bpf_call(BPF_MAP_UPDATE_ELEM, &attr);
    if (err)
        return error_from_errno(-err, NULL, "can't add task %d to the BPF filter", (int)task);
    return NULL;
}

uint64_t bpf_filter_num_unfollowed(const struct bpf_filter *filter)
{
    uint32_t key = 0;
    uint64_t count = 0;
    union bpf_attr attr = {.map_fd = (uint32_t)filter->unfollowed_fd};

    attr.key = (uintptr_t)&key;
    attr.value = (uintptr_t)&count;
    return bpf_call(BPF_MAP_LOOKUP_ELEM, &attr) ? 0 : count;
}

#else

struct error *bpf_filter_create(bool by_thread, bool follow_children,
                                struct bpf_filter **filter_ret)
{
    (void)by_thread;
    (void)follow_children;
    (void)filter_ret;
    return error_create(ERROR_UNSUPPORTED, "build it with: make BPF=1",
                        "CPU-wide sampling needs BPF, which this build leaves out");
}

void bpf_filter_destroy(struct bpf_filter *filter)
{
    (void)filter;
}

struct error *bpf_filter_attach(struct bpf_filter *filter, int perf_event_fd)
{
    (void)filter;
    (void)perf_event_fd;
    return NULL;
}

struct error *bpf_filter_add(struct bpf_filter *filter, pid_t task, bool wait_for_exec)
{
    (void)filter;
    (void)task;
    (void)wait_for_exec;
    return NULL;
}

uint64_t bpf_filter_num_unfollowed(const struct bpf_filter *filter)
{
    (void)filter;
    return 0;
}

#endif
