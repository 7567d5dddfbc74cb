#include "sampler/bpf_filter.h"

#include "base/cleanup.h"
#include "sampler/btf_offset.h"

#if HAVE_BPF

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

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
extern const char bpf_filter_object[];
extern const uint64_t bpf_filter_object_bytes;

#define NUM_TRACEPOINTS 3

struct bpf_filter {
    struct bpf_object *object;
    struct bpf_link *links[NUM_TRACEPOINTS];
    int filter_fd;
    int processes_fd;
    int unfollowed_fd;
};

DEFINE_CLEANUP(bpf_filter_destroy, struct bpf_filter *)

/* libbpf explains itself on stderr; nothing below cmd/ prints. */
static int print_nothing(enum libbpf_print_level level, const char *format, va_list arguments)
{
    (void)level;
    (void)format;
    (void)arguments;
    return 0;
}

static struct error *refusal(int err, const char *what)
{
    if (err == EPERM || err == EACCES)
        return error_from_errno(err,
                                "run with sudo, or once: sudo setcap "
                                "cap_perfmon,cap_bpf,cap_sys_ptrace+ep $(command -v cprofiler)",
                                "%s", what);
    if (err == ENOMEM)
        return &error_no_memory;
    return error_create(ERROR_UNSUPPORTED, "use --engine per-task", "%s: %s", what, strerror(err));
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

/* Finds the descriptor of a map or fails. */
static struct error *find_map(const struct bpf_object *object, const char *name, int *fd_ret)
{
    int fd = bpf_object__find_map_fd_by_name(object, name);

    if (fd < 0)
        return error_create(ERROR_FAILED, NULL, "BPF map %s is missing", name);
    *fd_ret = fd;
    return NULL;
}

static struct error *attach_tracepoints(struct bpf_filter *filter, bool follow_children)
{
    static const char *const names[NUM_TRACEPOINTS] = {"follow_fork", "follow_exec",
                                                       "forget_process"};

    for (size_t i = follow_children ? 0 : 1; i < NUM_TRACEPOINTS; i++) {
        struct bpf_program *program = bpf_object__find_program_by_name(filter->object, names[i]);

        if (!program)
            return error_create(ERROR_FAILED, NULL, "BPF program %s is missing", names[i]);
        filter->links[i] = bpf_program__attach(program);
        if (!filter->links[i])
            return refusal(errno, "can't follow processes by BPF");
    }
    return NULL;
}

/* Tells the programs where this kernel has the fields that they read. */
static struct error *set_task_offsets(const struct bpf_object *object)
{
    static const char *const names[] = {"pid", "tgid"};
    uint32_t offsets[ARRAY_LENGTH(names)];
    struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata");

    RETURN_IF_ERROR(
        btf_offset_find(KERNEL_BTF, "task_struct", names, ARRAY_LENGTH(names), offsets));
    if (!map || bpf_map__set_initial_value(map, offsets, sizeof(offsets)))
        return error_create(ERROR_FAILED, NULL, "the BPF filter has other constants than expected");
    return NULL;
}

static struct error *load(struct bpf_filter *filter, bool follow_children)
{
    const struct bpf_program *program;
    struct bpf_program *fork_program;
    int err;

    filter->object = bpf_object__open_mem(bpf_filter_object, bpf_filter_object_bytes, NULL);
    if (!filter->object)
        return refusal(errno, "can't read the BPF filter");
    fork_program = bpf_object__find_program_by_name(filter->object, "follow_fork");
    if (fork_program && !follow_children)
        bpf_program__set_autoload(fork_program, false);
    RETURN_IF_ERROR(set_task_offsets(filter->object));
    err = bpf_object__load(filter->object);
    if (err)
        return refusal(-err, "the kernel refuses the BPF filter");
    program = bpf_object__find_program_by_name(filter->object, "filter_sample");
    filter->filter_fd = program ? bpf_program__fd(program) : -1;
    RETURN_IF_ERROR(find_map(filter->object, "processes", &filter->processes_fd));
    RETURN_IF_ERROR(find_map(filter->object, "unfollowed", &filter->unfollowed_fd));
    return attach_tracepoints(filter, follow_children);
}

struct error *bpf_filter_create(bool follow_children, struct bpf_filter **filter_ret)
{
    CLEANUP(bpf_filter_destroy) struct bpf_filter *filter = NULL;

    RETURN_IF_ERROR(check_pid_namespace());
    filter = calloc(1, sizeof(*filter));
    if (!filter)
        return &error_no_memory;
    libbpf_set_print(print_nothing);
    RETURN_IF_ERROR(load(filter, follow_children));
    *filter_ret = take_ptr(filter);
    return NULL;
}

void bpf_filter_destroy(struct bpf_filter *filter)
{
    if (!filter)
        return;
    for (size_t i = 0; i < NUM_TRACEPOINTS; i++)
        bpf_link__destroy(filter->links[i]);
    bpf_object__close(filter->object);
    free(filter);
}

struct error *bpf_filter_attach(struct bpf_filter *filter, int perf_event_fd)
{
    if (ioctl(perf_event_fd, PERF_EVENT_IOC_SET_BPF, filter->filter_fd))
        return refusal(errno, "can't put the BPF filter in front of a perf event");
    return NULL;
}

struct error *bpf_filter_add(struct bpf_filter *filter, pid_t pid, bool wait_for_exec)
{
    uint32_t key = (uint32_t)pid;
    uint32_t value = wait_for_exec ? 0 : COUNTING;

    if (bpf_map_update_elem(filter->processes_fd, &key, &value, BPF_ANY))
        return error_from_errno(errno, NULL, "can't add process %d to the BPF filter", (int)pid);
    return NULL;
}

uint64_t bpf_filter_num_unfollowed(const struct bpf_filter *filter)
{
    uint32_t key = 0;
    uint64_t count = 0;

    if (bpf_map_lookup_elem(filter->unfollowed_fd, &key, &count))
        return 0;
    return count;
}

#else

struct error *bpf_filter_create(bool follow_children, struct bpf_filter **filter_ret)
{
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

struct error *bpf_filter_add(struct bpf_filter *filter, pid_t pid, bool wait_for_exec)
{
    (void)filter;
    (void)pid;
    (void)wait_for_exec;
    return NULL;
}

uint64_t bpf_filter_num_unfollowed(const struct bpf_filter *filter)
{
    (void)filter;
    return 0;
}

#endif
