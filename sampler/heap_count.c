#include "sampler/heap_count.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/procfs.h"
#include "profile/loss.h"
#include "sampler/heap_keeper.h"
#include "sampler/heap_probes.h"
#include "sampler/perf_event.h"
#include "sampler/perf_record.h"
#include "sampler/perf_ring.h"
#include "target/threads.h"

#define RING_BYTES ((size_t)2 << 20) /* of each thread: some 120 samples */
#define MIN_RING_BYTES ((size_t)64 << 10)
#define LOOK_NS UINT64_C(10000000) /* threads are looked for so often */
#define NEVER (UINT64_C(1) << 62)  /* as an interval: count only */
#define MAX_INTERVAL (UINT64_C(1) << 40)
#define TRIAL_CALLS 250
#define TRIAL_STEPPED_CALLS 25

/* The sites of one module in one process. */
struct part {
    pid_t pid;
    int module_fd; /* of our own; for threads to come */
    struct heap_site *sites;
    size_t num_sites;
};

/* One event of a thread. */
struct count_event {
    int fd;
    uint64_t id;
    struct heap_site site;
};

/* One thread that is watched. */
struct task {
    uint32_t number; /* to the keeper */
    pid_t pid;
    pid_t tid;
    bool has_ended;
    struct perf_ring ring; /* owned by an event that does nothing */
    struct count_event *events;
    size_t num_events, capacity;
};

struct heap_count {
    struct heap_keeper *keeper; /* opens and closes events */
    uint32_t last_number;
    struct perf_event_attr attr;
    struct perf_record_format format;
    struct part *parts;
    size_t num_parts, parts_capacity;
    struct task **tasks;
    size_t num_tasks, tasks_capacity;
    uint64_t *scratch;
    int epoll_fd;
    uint64_t interval;
    bool is_sampling;
    uint64_t looked_ns;
    uint64_t last_id;
    uint64_t num_unwatched;    /* threads beyond the limit, now */
    struct heap_counts counts; /* of events that are closed; samples and bytes of all */
};

/* --- events --------------------------------------------------------------------------------- */

static uint64_t interval_now(const struct heap_count *count)
{
    return count->is_sampling ? count->interval : NEVER;
}

/* Adds up what an event has counted. */
static void event_count(const struct heap_count *count, const struct count_event *event,
                        struct heap_counts *counts)
{
    struct perf_event_count read;

    if (event->fd < 0 || !perf_event_read(event->fd, &count->attr, &read))
        return;
    counts->num_allocs += read.value;
    counts->num_stepped += event->site.is_stepped ? read.value : 0;
    counts->num_lost += read.lost;
}

/* Closes our side of the events of a thread; the keeper's is still open. What they were for stays
 * known, for the samples that are in the ring. */
static void events_close(struct heap_count *count, struct task *task)
{
    for (size_t i = 0; i < task->num_events; i++) {
        event_count(count, &task->events[i], &count->counts);
        cleanup_close(&task->events[i].fd);
        task->events[i].fd = -1;
    }
}

static void task_destroy(struct heap_count *count, struct task *task)
{
    events_close(count, task);
    heap_keeper_drop(count->keeper, task->number);
    perf_ring_deinit(&task->ring);
    free(task->events);
    free(task);
}

/* Opens the event that owns the ring of a thread, the largest that is allowed. */
static struct error *ring_open(struct heap_count *count, struct task *task)
{
    struct error *err = NULL;

    for (size_t num_bytes = RING_BYTES; num_bytes >= MIN_RING_BYTES; num_bytes /= 2) {
        struct perf_event_attr attr;
        int fd;

        error_destroy(err);
        perf_event_attr_owner(&attr);
        attr.wakeup_watermark = (uint32_t)(num_bytes / 4);
        fd = perf_event_open(&attr, task->tid, -1);
        if (fd < 0)
            return perf_event_task_refusal(-fd, task->pid, task->tid, count->num_tasks);
        err = perf_ring_init(fd, num_bytes, &task->ring);
        if (!err) {
            struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};

            return epoll_ctl(count->epoll_fd, EPOLL_CTL_ADD, fd, &wanted)
                       ? error_from_errno(errno, NULL, "can't wait for samples")
                       : NULL;
        }
        close(fd);
        if (err->kind != ERROR_PERMISSION)
            return err;
    }
    return err;
}

/* number: under which the keeper has it. */
static struct error *uprobe_open(const struct heap_count *count, uint32_t number,
                                 const struct part *part, const struct heap_site *site, pid_t tid,
                                 int *fd_ret)
{
    struct perf_event_attr attr = count->attr;
    CLEANUP(error_destroy) struct error *err = NULL;

    attr.sample_period = interval_now(count);
    attr.config2 = site->file_off; /* probe_offset */
    err = heap_keeper_open_event(count->keeper, number, tid, part->module_fd, &attr, fd_ret);
    if (!err || err->errno_value == 0)
        return take_ptr(err);
    if (err->errno_value == EACCES || err->errno_value == EPERM)
        return error_from_errno(err->errno_value,
                                "run with sudo: perf's uprobes need CAP_SYS_ADMIN",
                                "breakpoints in process %d are refused", (int)part->pid);
    return perf_event_task_refusal(err->errno_value, part->pid, tid, 0);
}

/* Opens the events of a part in one thread. */
static struct error *events_open(const struct heap_count *count, const struct part *part,
                                 struct task *task)
{
    for (size_t i = 0; i < part->num_sites; i++) {
        struct count_event event = {.site = part->sites[i]};
        CLEANUP(close) int fd = -1;

        RETURN_IF_ERROR(array_reserve(&task->events, &task->capacity, task->num_events + 1,
                                      sizeof(*task->events)));
        RETURN_IF_ERROR(uprobe_open(count, task->number, part, &part->sites[i], task->tid, &fd));
        if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, task->ring.fd) ||
            ioctl(fd, PERF_EVENT_IOC_ID, &event.id))
            return error_from_errno(errno, NULL, "can't sample thread %d", (int)task->tid);
        event.fd = take_fd(&fd);
        task->events[task->num_events++] = event;
    }
    return NULL;
}

static struct task *task_find(const struct heap_count *count, pid_t pid, pid_t tid)
{
    for (size_t i = 0; i < count->num_tasks; i++)
        if (count->tasks[i]->pid == pid && count->tasks[i]->tid == tid &&
            !count->tasks[i]->has_ended)
            return count->tasks[i];
    return NULL;
}

static struct error *too_many_threads(pid_t pid)
{
    return error_create(
        ERROR_UNSUPPORTED,
        "with BPF (a build and a kernel that have it) there is no limit; or --heap-mode "
        "growth",
        "process %d: without BPF no more than %d threads can be watched for "
        "allocations",
        (int)pid, HEAP_COUNT_MAX_THREADS);
}

/* Starts watching a thread. */
static struct error *task_add(struct heap_count *count, pid_t pid, pid_t tid)
{
    struct task *task;
    struct error *err;

    if (count->num_tasks >= HEAP_COUNT_MAX_THREADS)
        return too_many_threads(pid);
    RETURN_IF_ERROR(array_reserve(&count->tasks, &count->tasks_capacity, count->num_tasks + 1,
                                  sizeof(*count->tasks)));
    task = calloc(1, sizeof(*task));
    if (!task)
        return &error_no_memory;
    *task =
        (struct task){.number = ++count->last_number, .pid = pid, .tid = tid, .ring = {.fd = -1}};
    err = ring_open(count, task);
    for (size_t i = 0; i < count->num_parts && !err; i++)
        if (count->parts[i].pid == pid)
            err = events_open(count, &count->parts[i], task);
    if (err) {
        task_destroy(count, task);
        return err;
    }
    count->tasks[count->num_tasks++] = task;
    return NULL;
}

static void task_remove(struct heap_count *count, size_t index)
{
    struct task *task = count->tasks[index];

    count->tasks[index] = count->tasks[--count->num_tasks];
    task_destroy(count, task);
}

/* --- opening -------------------------------------------------------------------------------- */

/* Functions of our own to try it on: one begins with what is emulated, one with what is stepped. */
__asm__(".pushsection .text\n"
        ".balign 16\n"
        "heap_count_trial: push %rbp\n pop %rbp\n ret\n"
        ".balign 16\n"
        "heap_count_trial_stepped: mov %rsp, %rax\n push %rbp\n pop %rbp\n ret\n"
        ".popsection\n");
extern void heap_count_trial(void);
extern void heap_count_trial_stepped(void);

static double time_calls(void (*function)(void), size_t num_calls)
{
    uint64_t start_ns = clock_monotonic_ns();

    for (size_t i = 0; i < num_calls; i++)
        function();
    return (double)(clock_monotonic_ns() - start_ns) / (double)num_calls;
}

/* Probes one of our functions in this thread and calls it. ns_ret: for a call. */
static struct error *try_one(struct heap_count *count, void (*function)(void), size_t num_calls,
                             double *ns_ret)
{
    struct part self = {.pid = getpid()};
    struct heap_site site = {0};
    CLEANUP(close) int module_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct perf_event_count read = {0};
    uint32_t number = ++count->last_number;
    CLEANUP(close) int fd = -1;

    if (module_fd < 0 || !heap_probes_own_offset((uintptr_t)function, &site.file_off))
        return error_create(ERROR_UNSUPPORTED, NULL, "can't find our own program");
    self.module_fd = module_fd;
    RETURN_IF_ERROR(uprobe_open(count, number, &self, &site, gettid(), &fd));
    *ns_ret = time_calls(function, num_calls);
    if (!perf_event_read(fd, &count->attr, &read) || read.value < num_calls)
        return error_create(ERROR_UNSUPPORTED, NULL, "breakpoints of perf events are not hit here");
    cleanup_close(&fd);
    fd = -1;
    heap_keeper_drop(count->keeper, number);
    return NULL;
}

static struct error *try_all(struct heap_count *count, struct heap_costs *costs_ret)
{
    double plain_ns = time_calls(heap_count_trial, TRIAL_CALLS);
    double alloc_ns = 0, stepped_ns = 0;

    RETURN_IF_ERROR(try_one(count, heap_count_trial, TRIAL_CALLS, &alloc_ns));
    RETURN_IF_ERROR(try_one(count, heap_count_trial_stepped, TRIAL_STEPPED_CALLS, &stepped_ns));
    *costs_ret = (struct heap_costs){
        .alloc_ns = alloc_ns - plain_ns,
        .stepped_ns = stepped_ns > alloc_ns ? stepped_ns - alloc_ns : 0,
    };
    return NULL;
}

/* Leaves out what this kernel does not know, as found with an event that needs no file. */
static struct error *take_what_kernel_knows(struct perf_event_attr *attr)
{
    struct perf_event_attr probe;

    perf_event_attr_owner(&probe);
    probe.read_format = attr->read_format;
    RETURN_IF_ERROR(perf_event_probe(&probe, 0, -1, false));
    attr->read_format = probe.read_format;
    return NULL;
}

DEFINE_CLEANUP(heap_count_destroy, struct heap_count *)

struct error *heap_count_create(uint32_t stack_bytes, struct heap_costs *costs_ret,
                                struct heap_count **count_ret)
{
    CLEANUP(heap_count_destroy) struct heap_count *count = calloc(1, sizeof(*count));

    if (!count)
        return &error_no_memory;
    count->interval = HEAP_COUNT_INTERVAL;
    count->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (count->epoll_fd < 0)
        return error_from_errno(errno, NULL, "can't wait for samples");
    count->scratch = malloc(PERF_RING_MAX_RECORD_BYTES);
    if (!count->scratch)
        return &error_no_memory;
    RETURN_IF_ERROR(perf_event_attr_uprobe(stack_bytes, &count->attr));
    RETURN_IF_ERROR(take_what_kernel_knows(&count->attr));
    count->format = (struct perf_record_format){
        .sample_type = count->attr.sample_type,
        .stack_bytes = stack_bytes,
    };
    RETURN_IF_ERROR(heap_keeper_start(NULL, &count->keeper));
    RETURN_IF_ERROR(try_all(count, costs_ret));
    *count_ret = take_ptr(count);
    return NULL;
}

void heap_count_let_go(struct heap_count *count)
{
    for (size_t i = 0; i < count->num_tasks; i++)
        events_close(count, count->tasks[i]);
    if (count->keeper)
        heap_keeper_drop_all(count->keeper);
    while (count->num_parts > 0) {
        struct part *part = &count->parts[--count->num_parts];

        close(part->module_fd);
        free(part->sites);
    }
}

void heap_count_destroy(struct heap_count *count)
{
    if (!count)
        return;
    heap_count_let_go(count);
    while (count->num_tasks > 0)
        task_remove(count, 0);
    if (count->epoll_fd >= 0)
        close(count->epoll_fd);
    heap_keeper_stop(count->keeper);
    free(count->tasks);
    free(count->parts);
    free(count->scratch);
    free(count);
}

/* --- processes ------------------------------------------------------------------------------ */

/* Few functions: each costs an event in each thread. Those that nearly all allocations go through.
 */
static bool is_main_function(const struct heap_site *site)
{
    static const char *const endings[] = {"malloc", "calloc", "realloc"};
    size_t length = strlen(site->name);

    if (site->role == ALLOCATOR_NEW)
        return true;
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        size_t num = strlen(endings[i]);

        if (length >= num && strcmp(site->name + length - num, endings[i]) == 0)
            return site->role != ALLOCATOR_FREE;
    }
    return false;
}

static struct error *part_add(struct heap_count *count, pid_t pid, int module_fd,
                              const struct heap_site *sites, size_t num_sites,
                              struct part **part_ret)
{
    CLEANUP(free) struct heap_site *copies = calloc(num_sites + 1, sizeof(*copies));
    CLEANUP(close) int fd = fcntl(module_fd, F_DUPFD_CLOEXEC, 0);
    struct part part = {.pid = pid};

    if (!copies)
        return &error_no_memory;
    if (fd < 0)
        return error_from_errno(errno, NULL, "can't keep a file open");
    for (size_t i = 0; i < num_sites; i++)
        if (is_main_function(&sites[i]))
            copies[part.num_sites++] = sites[i];
    RETURN_IF_ERROR(array_reserve(&count->parts, &count->parts_capacity, count->num_parts + 1,
                                  sizeof(*count->parts)));
    part.sites = take_ptr(copies);
    part.module_fd = take_fd(&fd);
    count->parts[count->num_parts] = part;
    *part_ret = &count->parts[count->num_parts++];
    return NULL;
}

/* A new part, for the threads that are there. */
struct spread {
    struct heap_count *count;
    const struct part *part;
};

static struct error *spread_to_thread(void *context, pid_t pid, pid_t tid)
{
    const struct spread *spread = context;
    struct task *task = task_find(spread->count, pid, tid);

    /* A new one gets all parts, this one among them. */
    return task ? events_open(spread->count, spread->part, task)
                : task_add(spread->count, pid, tid);
}

struct error *heap_count_probe(struct heap_count *count, pid_t pid, int module_fd,
                               const struct heap_site *sites, size_t num_sites)
{
    struct spread spread = {.count = count};
    struct part *part = NULL;
    struct error *err;

    RETURN_IF_ERROR(part_add(count, pid, module_fd, sites, num_sites, &part));
    spread.part = part;
    err = threads_visit(pid, spread_to_thread, &spread, NULL);
    if (err)
        heap_count_forget(count, pid);
    return err;
}

void heap_count_forget(struct heap_count *count, pid_t pid)
{
    size_t num_parts = 0;

    for (size_t i = count->num_tasks; i-- > 0;)
        if (count->tasks[i]->pid == pid)
            count->tasks[i]->has_ended = true; /* drained once more, then closed */
    for (size_t i = 0; i < count->num_parts; i++) {
        if (count->parts[i].pid != pid) {
            count->parts[num_parts++] = count->parts[i];
            continue;
        }
        close(count->parts[i].module_fd);
        free(count->parts[i].sites);
    }
    count->num_parts = num_parts;
}

static bool has_id(const pid_t *ids, size_t num_ids, pid_t id)
{
    for (size_t i = 0; i < num_ids; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Finds threads of one process that are new, and marks those that have ended. */
static struct error *process_look(struct heap_count *count, pid_t pid)
{
    CLEANUP(free) pid_t *tids = NULL;
    size_t num_tids;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    RETURN_IF_ERROR(procfs_list_ids(path, &tids, &num_tids));
    for (size_t i = 0; i < count->num_tasks; i++)
        if (count->tasks[i]->pid == pid && !has_id(tids, num_tids, count->tasks[i]->tid))
            count->tasks[i]->has_ended = true;
    for (size_t i = 0; i < num_tids; i++) {
        if (task_find(count, pid, tids[i]))
            continue;
        if (count->num_tasks >= HEAP_COUNT_MAX_THREADS) {
            count->num_unwatched++;
            continue;
        }
        RETURN_IF_ERROR(task_add(count, pid, tids[i]));
    }
    return NULL;
}

/* Looks at all processes. What can't be seen now may have ended: its own event tells. */
static void threads_look(struct heap_count *count)
{
    uint64_t now_ns = clock_monotonic_ns();

    if (now_ns - count->looked_ns < LOOK_NS)
        return;
    count->looked_ns = now_ns;
    count->num_unwatched = 0;
    for (size_t i = 0; i < count->num_parts; i++) {
        bool is_first = true;

        for (size_t j = 0; j < i; j++)
            is_first &= count->parts[j].pid != count->parts[i].pid;
        if (is_first)
            error_destroy(process_look(count, count->parts[i].pid));
    }
    if (count->num_unwatched > count->counts.num_unwatched)
        count->counts.num_unwatched = count->num_unwatched;
}

/* --- samples -------------------------------------------------------------------------------- */

/* Registers of the arguments, as struct sample numbers them: rdi, rsi, rdx, rcx, rax. */
static uint64_t argument(const struct sample *sample, int8_t number)
{
    static const uint8_t registers[] = {5, 4, 1, 2, 0};

    return sample->regs[registers[number]];
}

/* Tells how many bytes a call asks for. Returns: false for one that does not count: nested in
 * another, or bound to fail. */
static bool read_call(const struct heap_site *site, const struct sample *sample, uint64_t caller,
                      uint64_t *size_ret)
{
    const struct allocator_arguments *arguments = &allocator_arguments[site->role];
    int64_t from = (int64_t)(caller - sample->regs[SAMPLE_REG_IP]);
    uint64_t count = 1;

    for (size_t i = 0; i < site->num_callers; i++)
        if (from >= site->callers[i].start && from < site->callers[i].limit)
            return false;
    if (site->null_passes_on && argument(sample, arguments->old) == 0)
        return false;
    if (arguments->count != ALLOCATOR_NO_ARGUMENT)
        count = argument(sample, arguments->count);
    return !__builtin_mul_overflow(argument(sample, arguments->size), count, size_ret) &&
           *size_ret <= INT64_MAX;
}

static const struct count_event *event_find(const struct task *task, uint64_t id)
{
    for (size_t i = 0; i < task->num_events; i++)
        if (task->events[i].id == id)
            return &task->events[i];
    return NULL;
}

/* Makes of a sample at the entry of an allocator one of its caller. heap: to be filled in.
 * Returns: false when it does not count. */
static bool complete_sample(struct heap_count *count, const struct task *task,
                            struct perf_record *record, struct heap_sample *heap)
{
    const struct count_event *event = event_find(task, record->source_id);
    struct sample *sample = &record->sample;
    uint64_t caller;

    if (record->event.type != EVENT_SAMPLE || !event || !sample->has_user_regs ||
        sample->stack_bytes < sizeof(caller))
        return false;
    memcpy(&caller, sample->stack, sizeof(caller));
    *heap = (struct heap_sample){.probe_pc = sample->regs[SAMPLE_REG_IP]};
    if (!read_call(&event->site, sample, caller, &heap->size_bytes)) {
        count->counts.num_nested += count->interval;
        return false;
    }
    heap->id = ++count->last_id;
    sample->heap = heap;
    sample->weight = count->interval;
    sample->pc = sample->regs[SAMPLE_REG_IP] = caller - 1;
    sample->regs[SAMPLE_REG_SP] += sizeof(caller);
    sample->stack += sizeof(caller);
    sample->stack_bytes -= sizeof(caller);
    sample->stack_asked_bytes -= sizeof(caller);
    count->counts.num_samples++;
    if (__builtin_add_overflow(count->counts.alloc_bytes, heap->size_bytes * count->interval,
                               &count->counts.alloc_bytes))
        count->counts.alloc_bytes = UINT64_MAX;
    return true;
}

/* What a ring tells to be lost is counted by the events, too, where the kernel can do that. */
static void note_loss(struct heap_count *count, const struct event *event)
{
    if (!(count->attr.read_format & PERF_FORMAT_LOST) && event->loss.kind == LOSS_LOST)
        count->counts.num_lost += event->loss.count;
}

/* Hands over what one thread's ring holds. Returns: how many samples. */
static size_t task_drain(struct heap_count *count, struct task *task, uint64_t limit_ns,
                         event_handler_fn *handler, void *context)
{
    struct perf_event_header header;
    size_t num_samples = 0;

    (void)perf_ring_snapshot(&task->ring);
    while (perf_ring_front(&task->ring, &header) == 1) {
        size_t time_offset = perf_record_time_offset(&header, &count->format);
        const void *bytes;
        struct heap_sample heap;
        struct perf_record record;

        if (time_offset && perf_ring_front_word(&task->ring, time_offset) > limit_ns)
            break;
        bytes = perf_ring_front_bytes(&task->ring, header.size, count->scratch);
        if (perf_record_decode(bytes, header.size, &count->format, &record) == PERF_RECORD_EVENT) {
            if (record.event.type == EVENT_LOSS) {
                note_loss(count, &record.event);
            } else if (complete_sample(count, task, &record, &heap)) {
                handler(context, &record.event);
                num_samples++;
            }
        }
        perf_ring_pop(&task->ring, header.size);
    }
    return num_samples;
}

size_t heap_count_drain(struct heap_count *count, uint64_t limit_ns, event_handler_fn *handler,
                        void *context)
{
    size_t num_samples = 0;

    for (size_t i = count->num_tasks; i-- > 0;) {
        struct task *task = count->tasks[i];

        num_samples +=
            task_drain(count, task, task->has_ended ? UINT64_MAX : limit_ns, handler, context);
        if (task->has_ended)
            task_remove(count, i);
    }
    threads_look(count);
    return num_samples;
}

/* --- asking --------------------------------------------------------------------------------- */

int heap_count_wait_fd(const struct heap_count *count)
{
    return count->epoll_fd;
}

static void intervals_set(const struct heap_count *count)
{
    uint64_t interval = interval_now(count);

    for (size_t i = 0; i < count->num_tasks; i++)
        for (size_t j = 0; j < count->tasks[i]->num_events; j++)
            if (count->tasks[i]->events[j].fd >= 0)
                ioctl(count->tasks[i]->events[j].fd, PERF_EVENT_IOC_PERIOD, &interval);
}

void heap_count_set_sampling(struct heap_count *count, bool is_on)
{
    count->is_sampling = is_on;
    intervals_set(count);
}

uint64_t heap_count_interval(const struct heap_count *count)
{
    return count->interval;
}

void heap_count_double_interval(struct heap_count *count)
{
    if (count->interval < MAX_INTERVAL)
        count->interval = 2 * count->interval + 1; /* odd: programs repeat even numbers */
    intervals_set(count);
}

void heap_count_counts(const struct heap_count *count, struct heap_counts *counts_ret)
{
    *counts_ret = count->counts;
    for (size_t i = 0; i < count->num_tasks; i++)
        for (size_t j = 0; j < count->tasks[i]->num_events; j++)
            event_count(count, &count->tasks[i]->events[j], counts_ret);
}
