#include "sampler/heap_probes.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/bpf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "sampler/perf_event.h"

#define UPROBE_PMU "/sys/bus/event_source/devices/uprobe/"
#define MAX_CLOSERS 64 /* threads that close links at a time */
#define CLOSER_STACK_BYTES 65536

/* What BPF_LINK_CREATE takes for several uprobes (linux/bpf.h since 6.6). */
struct link_multi {
    uint32_t program_fd;
    uint32_t target_fd;
    uint32_t attach_type;
    uint32_t flags;
    uint64_t path;
    uint64_t offsets;
    uint64_t reference_offsets;
    uint64_t cookies;
    uint32_t num_offsets;
    uint32_t multi_flags;
    uint32_t pid;
    uint32_t zero;
};

#define MULTI_RETURN 1u /* BPF_F_UPROBE_MULTI_RETURN */

const char *heap_mechanism_name(enum heap_mechanism mechanism)
{
    static const char *const names[] = {"auto", "session uprobes", "multi uprobes", "perf uprobes",
                                        "perf uprobes by count"};

    return names[mechanism];
}

struct error *heap_programs_load(const struct heap_bpf *bpf, enum heap_mechanism mechanism,
                                 struct heap_programs *programs_ret)
{
    struct heap_programs programs = {bpf, mechanism, -1, -1};
    CLEANUP(close) int call_fd = -1;

    if (mechanism == HEAP_MECHANISM_SESSION) {
        RETURN_IF_ERROR(
            heap_bpf_load(bpf, HEAP_BPF_ON_SESSION, HEAP_BPF_SESSION, 0, &programs.call_fd));
    } else if (mechanism == HEAP_MECHANISM_MULTI) {
        RETURN_IF_ERROR(heap_bpf_load(bpf, HEAP_BPF_ON_CALL, HEAP_BPF_MULTI, 0, &call_fd));
        RETURN_IF_ERROR(
            heap_bpf_load(bpf, HEAP_BPF_ON_RETURN, HEAP_BPF_MULTI, 0, &programs.return_fd));
        programs.call_fd = take_fd(&call_fd);
    }
    *programs_ret = programs;
    return NULL;
}

void heap_programs_deinit(struct heap_programs *programs)
{
    cleanup_close(&programs->call_fd);
    cleanup_close(&programs->return_fd);
    programs->call_fd = -1;
    programs->return_fd = -1;
}

static struct error *refusal(int err, pid_t pid)
{
    if (err == ESRCH)
        return error_create(ERROR_GONE, NULL, "process %d has ended", (int)pid);
    if (err == EPERM || err == EACCES)
        return error_from_errno(err, "run with sudo",
                                "breakpoints in the allocator of process %d are refused", (int)pid);
    if (err == ENOMEM)
        return &error_no_memory;
    return error_create(ERROR_UNSUPPORTED, NULL,
                        "the kernel can't set breakpoints in the allocator of process %d: %s",
                        (int)pid, strerror(err));
}

static struct error *add_link(struct heap_links *links, int fd)
{
    CLEANUP(close) int guard = fd;

    RETURN_IF_ERROR(
        array_reserve(&links->fds, &links->capacity, links->num_fds + 1, sizeof(*links->fds)));
    links->fds[links->num_fds++] = take_fd(&guard);
    return NULL;
}

/* Which of the breakpoints a multi-uprobe link is for. */
struct multi_choice {
    uint32_t attach_type;
    uint32_t flags;
    int program_fd;
    bool returns_only; /* those that catch returns */
};

/* Makes one link for many breakpoints. */
static struct error *set_multi(const struct multi_choice *choice, pid_t pid, const char *path,
                               const struct heap_probe *probes, size_t num_probes,
                               struct heap_links *links)
{
    CLEANUP(free) uint64_t *offsets = calloc(num_probes, sizeof(*offsets));
    CLEANUP(free) uint64_t *cookies = calloc(num_probes, sizeof(*cookies));
    struct link_multi create = {.program_fd = (uint32_t)choice->program_fd,
                                .attach_type = choice->attach_type,
                                .multi_flags = choice->flags,
                                .pid = (uint32_t)pid};
    union bpf_attr attr = {0};
    int fd;

    if (!offsets || !cookies)
        return &error_no_memory;
    for (size_t i = 0; i < num_probes; i++) {
        if (choice->returns_only && !probes[i].catches_returns)
            continue;
        offsets[create.num_offsets] = probes[i].file_off;
        cookies[create.num_offsets++] = probes[i].cookie;
    }
    if (create.num_offsets == 0)
        return NULL;
    create.path = (uintptr_t)path;
    create.offsets = (uintptr_t)offsets;
    create.cookies = (uintptr_t)cookies;
    memcpy(&attr, &create, sizeof(create));
    fd = bpf_call(BPF_LINK_CREATE, &attr);
    return fd < 0 ? refusal(-fd, pid) : add_link(links, fd);
}

/* Reads a number out of a file of the uprobe PMU, behind `prefix`. */
static struct error *read_pmu(const char *path, const char *prefix, uint32_t *number_ret)
{
    CLEANUP(free) char *text = NULL;

    RETURN_IF_ERROR(file_read_all(AT_FDCWD, path, 4096, &text, NULL));
    if (strncmp(text, prefix, strlen(prefix)) != 0)
        return error_create(ERROR_UNSUPPORTED, NULL, "%s makes no sense", path);
    *number_ret = (uint32_t)strtoul(text + strlen(prefix), NULL, 10);
    return NULL;
}

/* Sets one breakpoint by a perf event, with a program of its own, at the call or the return. */
static struct error *set_perf_event(const struct heap_bpf *bpf, pid_t pid, const char *path,
                                    const struct heap_probe *probe, bool is_return,
                                    struct heap_links *links)
{
    struct perf_event_attr attr = {.size = sizeof(attr), .sample_period = 1};
    CLEANUP(close) int program_fd = -1;
    CLEANUP(close) int event_fd = -1;
    uint32_t return_bit = 0;

    RETURN_IF_ERROR(read_pmu(UPROBE_PMU "type", "", &attr.type));
    RETURN_IF_ERROR(read_pmu(UPROBE_PMU "format/retprobe", "config:", &return_bit));
    attr.config = is_return ? 1ull << (return_bit & 63) : 0;
    attr.config1 = (uintptr_t)path; /* uprobe_path */
    attr.config2 = probe->file_off; /* probe_offset */
    event_fd = perf_event_open(&attr, pid, -1);
    if (event_fd < 0)
        return refusal(-event_fd, pid);
    RETURN_IF_ERROR(heap_bpf_load(bpf, is_return ? HEAP_BPF_ON_RETURN : HEAP_BPF_ON_CALL,
                                  HEAP_BPF_PERF, probe->cookie, &program_fd));
    if (ioctl(event_fd, PERF_EVENT_IOC_SET_BPF, program_fd))
        return refusal(errno, pid);
    return add_link(links, take_fd(&event_fd));
}

static struct error *set_perf(const struct heap_bpf *bpf, pid_t pid, const char *path,
                              const struct heap_probe *probes, size_t num_probes,
                              struct heap_links *links)
{
    for (size_t i = 0; i < num_probes; i++) {
        if (probes[i].catches_returns)
            RETURN_IF_ERROR(set_perf_event(bpf, pid, path, &probes[i], true, links));
        RETURN_IF_ERROR(set_perf_event(bpf, pid, path, &probes[i], false, links));
    }
    return NULL;
}

struct error *heap_probes_set(const struct heap_programs *programs, pid_t pid, const char *path,
                              const struct heap_probe *probes, size_t num_probes,
                              struct heap_links *links)
{
    const struct multi_choice session = {HEAP_BPF_SESSION, 0, programs->call_fd, false};
    const struct multi_choice calls = {HEAP_BPF_MULTI, 0, programs->call_fd, false};
    const struct multi_choice returns = {HEAP_BPF_MULTI, MULTI_RETURN, programs->return_fd, true};

    if (programs->mechanism == HEAP_MECHANISM_PERF)
        return set_perf(programs->bpf, pid, path, probes, num_probes, links);
    if (programs->mechanism == HEAP_MECHANISM_SESSION)
        return set_multi(&session, pid, path, probes, num_probes, links);
    /* Returns first: a call that is sampled must not wait for one in vain. */
    RETURN_IF_ERROR(set_multi(&returns, pid, path, probes, num_probes, links));
    return set_multi(&calls, pid, path, probes, num_probes, links);
}

static int find_offset(struct dl_phdr_info *info, size_t num_bytes, void *context)
{
    uint64_t *address = context; /* becomes an offset */

    (void)num_bytes;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uint64_t from = *address - info->dlpi_addr;

        if (segment->p_type == PT_LOAD && from >= segment->p_vaddr &&
            from - segment->p_vaddr < segment->p_filesz) {
            *address = from - segment->p_vaddr + segment->p_offset;
            return 1;
        }
    }
    return -1; /* the first object is this program: we are nowhere else */
}

bool heap_probes_own_offset(uintptr_t function, uint64_t *file_off_ret)
{
    *file_off_ret = function;
    return dl_iterate_phdr(find_offset, file_off_ret) == 1;
}

bool heap_links_move(struct heap_links *from, struct heap_links *to)
{
    size_t num_fds = to->num_fds + from->num_fds;

    /* The error is &error_no_memory, which nobody has to destroy. */
    if (from->num_fds > 0 && array_reserve(&to->fds, &to->capacity, num_fds, sizeof(*to->fds)))
        return false;
    for (size_t i = 0; i < from->num_fds; i++)
        to->fds[to->num_fds++] = from->fds[i];
    free(from->fds);
    *from = (struct heap_links){0};
    return true;
}

/* Descriptors that closing threads share. */
struct closing {
    struct heap_links links;
    size_t num_taken;    /* atomic */
    size_t *num_closing; /* heap_links_close_later() */
};

static void *close_some(void *argument)
{
    struct closing *closing = argument;

    for (;;) {
        size_t i = __atomic_fetch_add(&closing->num_taken, 1, __ATOMIC_RELAXED);

        if (i >= closing->links.num_fds)
            return NULL;
        close(closing->links.fds[i]);
    }
}

/* Starts a thread that no signal of ours interrupts. Returns: 0 or a positive errno value. */
static int start_thread(void *(*work)(void *), void *argument, pthread_t *thread_ret)
{
    pthread_attr_t attr;
    sigset_t all, before;
    int err = pthread_attr_init(&attr);

    if (err)
        return err;
    (void)pthread_attr_setstacksize(&attr, CLOSER_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(thread_ret, &attr, work, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return err;
}

static void close_all(struct closing *closing)
{
    pthread_t threads[MAX_CLOSERS];
    size_t num_threads = 0;

    while (num_threads < MAX_CLOSERS && num_threads + 1 < closing->links.num_fds &&
           start_thread(close_some, closing, &threads[num_threads]) == 0)
        num_threads++;
    (void)close_some(closing);
    for (size_t i = 0; i < num_threads; i++)
        pthread_join(threads[i], NULL);
    free(closing->links.fds);
}

void heap_links_close(struct heap_links *links)
{
    struct closing closing = {.links = *links};

    *links = (struct heap_links){0};
    close_all(&closing);
}

static void *close_all_alone(void *argument)
{
    struct closing *closing = argument;
    size_t *num_closing = closing->num_closing;

    close_all(closing);
    free(closing);
    if (num_closing)
        __atomic_sub_fetch(num_closing, 1, __ATOMIC_RELEASE);
    return NULL;
}

void heap_links_close_later(struct heap_links *links, size_t *num_closing)
{
    struct closing *closing = links->num_fds ? malloc(sizeof(*closing)) : NULL;
    pthread_t thread;

    if (closing)
        *closing = (struct closing){.links = *links, .num_closing = num_closing};
    if (num_closing)
        __atomic_add_fetch(num_closing, 1, __ATOMIC_RELAXED);
    if (!closing || start_thread(close_all_alone, closing, &thread)) {
        if (num_closing)
            __atomic_sub_fetch(num_closing, 1, __ATOMIC_RELAXED);
        free(closing);
        heap_links_close(links);
        return;
    }
    pthread_detach(thread);
    *links = (struct heap_links){0};
}
