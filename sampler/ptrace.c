#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/procfs.h"
#include "sampler/ptrace_stop.h"
#include "sampler/ptrace_tasks.h"
#include "sampler/sampler.h"

/* Each look stops a thread for some 25 us and costs us some 10 system calls. */
#define MAX_HZ 50
#define NS_PER_S 1000000000ULL
#define MAX_STATUS_BYTES 65536
#define PATIENCE_NS 2000000ULL    /* for a thread to stop, before we look at the next one */
#define PAUSE_BUDGET 100          /* pauses take at most 1/100 of the time */
#define STOP_PATIENCE_NS NS_PER_S /* at the end, for all threads that have not stopped yet */

struct sampler {
    struct sampler_options options;
    struct ptrace_tasks tasks;
    pid_t child; /* launched command; 0: none */
    int timer_fd;
    int signal_fd;
    int epoll_fd;
    sigset_t old_mask;
    bool has_old_mask;
    bool is_started;
    bool is_stopped;
    uint64_t period_ns;
    uint64_t next_tick_ns;
    uint64_t num_refused; /* looks that the kernel refused: traced by a debugger */
    uint8_t *stack;       /* options.stack_bytes */
};

static void ptrace_engine_destroy(struct sampler *sampler)
{
    if (!sampler)
        return;
    ptrace_tasks_deinit(&sampler->tasks);
    if (sampler->timer_fd >= 0)
        close(sampler->timer_fd);
    if (sampler->signal_fd >= 0)
        close(sampler->signal_fd);
    if (sampler->epoll_fd >= 0)
        close(sampler->epoll_fd);
    if (sampler->has_old_mask)
        sigprocmask(SIG_SETMASK, &sampler->old_mask, NULL);
    free(sampler->stack);
    free(sampler);
}

DEFINE_CLEANUP(ptrace_engine_destroy, struct sampler *)

/* Stops tell themselves by SIGCHLD, which has to be blocked to be waited for. */
static struct error *block_sigchld(struct sampler *sampler)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    signal(SIGCHLD, SIG_DFL); /* ignored ones are not sent */
    if (sigprocmask(SIG_BLOCK, &set, &sampler->old_mask))
        return error_from_errno(errno, NULL, "can't block SIGCHLD");
    sampler->has_old_mask = true;
    sampler->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (sampler->signal_fd < 0)
        return error_from_errno(errno, NULL, "can't make a signalfd");
    return NULL;
}

static struct error *watch(const struct sampler *sampler, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(sampler->epoll_fd, EPOLL_CTL_ADD, fd, &event))
        return error_from_errno(errno, NULL, "can't watch a descriptor");
    return NULL;
}

/* Some containers refuse ptrace altogether; then it fails with EPERM where pid 0 would be ESRCH. */
static struct error *check_ptrace(void)
{
    if (ptrace(PTRACE_SEIZE, 0, NULL, NULL) == 0 || errno == ESRCH)
        return NULL;
    if (errno == ENOSYS)
        return error_create(ERROR_UNSUPPORTED, NULL, "this kernel (or sandbox) has no ptrace");
    return error_create(ERROR_PERMISSION, "start the container with --cap-add SYS_PTRACE",
                        "ptrace is refused: %s", strerror(errno));
}

static bool is_cpu_clock(const struct event_spec *spec)
{
    return strcmp(spec->name, event_spec_cpu_clock.name) == 0;
}

static struct error *ptrace_engine_open(const struct sampler_options *options,
                                        struct sampler **sampler_ret)
{
    CLEANUP(ptrace_engine_destroy) struct sampler *sampler = NULL;

    if (options->scope != SAMPLER_PROCESSES || options->cpus)
        return error_create(ERROR_UNSUPPORTED, "leave out --engine ptrace",
                            "by ptrace only whole processes can be sampled, on all CPUs");
    if (options->events && (options->num_events > 1 || !is_cpu_clock(&options->events[0].spec)))
        return error_create(ERROR_UNSUPPORTED, "leave out -e",
                            "by ptrace only CPU time can be sampled, not events");
    RETURN_IF_ERROR(check_ptrace());
    sampler = calloc(1, sizeof(*sampler));
    if (!sampler)
        return &error_no_memory;
    sampler->timer_fd = sampler->signal_fd = sampler->epoll_fd = -1;
    sampler->options = *options;
    sampler->period_ns = NS_PER_S / (options->hz < MAX_HZ ? options->hz : MAX_HZ);
    ptrace_tasks_init(&sampler->tasks, options->follow_children);
    sampler->stack = malloc(options->stack_bytes);
    if (!sampler->stack)
        return &error_no_memory;
    RETURN_IF_ERROR(block_sigchld(sampler));
    sampler->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    sampler->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (sampler->timer_fd < 0 || sampler->epoll_fd < 0)
        return error_from_errno(errno, "raise ulimit -n", "can't make a timer");
    RETURN_IF_ERROR(watch(sampler, sampler->timer_fd));
    RETURN_IF_ERROR(watch(sampler, sampler->signal_fd));
    *sampler_ret = take_ptr(sampler);
    return NULL;
}

/* Tells a refusal before the recording starts, without touching the thread: reading its system call
 * asks for the same rights as tracing it, and its status names a tracer. */
static struct error *check_thread(pid_t pid, pid_t tid)
{
    CLEANUP(error_destroy) struct error *gone = NULL;
    CLEANUP(free) char *text = NULL;
    const char *tracer;
    char path[64];
    char byte;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", (int)pid, (int)tid);
    CLEANUP(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &byte, 1) < 0) {
        if (errno == ENOENT || errno == ESRCH)
            return error_create(ERROR_GONE, NULL, "thread %d of process %d has ended", (int)tid,
                                (int)pid);
        return error_from_errno(errno,
                                "run as the owner of that process or with sudo; for processes that "
                                "are not our children also: sudo sysctl kernel.yama.ptrace_scope=0",
                                "process %d may not be traced", (int)pid);
    }
    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
    gone = file_read_all(AT_FDCWD, path, MAX_STATUS_BYTES, &text, NULL);
    tracer = text ? procfs_status_find(text, "TracerPid") : NULL;
    if (tracer && strtol(tracer, NULL, 10) > 0)
        return error_create(ERROR_PERMISSION, "end that debugger or strace first",
                            "process %d is traced by process %ld", (int)pid,
                            strtol(tracer, NULL, 10));
    return NULL;
}

static struct error *ptrace_engine_attach(struct sampler *sampler, pid_t pid, pid_t tid)
{
    bool is_waiting = sampler->options.enable_on_exec && !sampler->is_started;

    if (is_waiting)
        sampler->child = pid;
    else
        RETURN_IF_ERROR(check_thread(pid, tid));
    return ptrace_tasks_add(&sampler->tasks, pid, tid, is_waiting);
}

/* Ticks are `interval_ns` apart; the timer fires once for each. */
static struct error *arm_timer(const struct sampler *sampler, uint64_t interval_ns)
{
    const struct itimerspec timer = {.it_value = {.tv_sec = (time_t)(interval_ns / NS_PER_S),
                                                  .tv_nsec = (long)(interval_ns % NS_PER_S)}};

    if (timerfd_settime(sampler->timer_fd, 0, &timer, NULL))
        return error_from_errno(errno, NULL, "can't start a timer");
    return NULL;
}

static struct error *ptrace_engine_start(struct sampler *sampler)
{
    sampler->is_started = true;
    sampler->next_tick_ns = clock_monotonic_ns() + sampler->period_ns;
    return arm_timer(sampler, sampler->period_ns);
}

static int ptrace_engine_wait_fd(const struct sampler *sampler)
{
    return sampler->epoll_fd;
}

/* Hands a look on as a sample. It stands for all the CPU time the thread used since the last one.
 */
static void deliver(const struct sampler *sampler, struct ptrace_thread *thread,
                    const struct ptrace_look *look, uint64_t used_ns,
                    const struct ptrace_sink *sink)
{
    struct sample sample = {
        .pid = (uint32_t)thread->pid,
        .tid = (uint32_t)thread->tid,
        .time_ns = sink->now_ns,
        .weight = used_ns,
        .pc = look->regs[SAMPLE_REG_IP],
        .has_user_regs = true,
        .is_32bit = look->is_32bit,
        .stack = look->stack_bytes ? look->stack : NULL,
        .stack_bytes = look->stack_bytes,
        .stack_asked_bytes = sampler->options.stack_bytes,
    };
    struct event event = {
        .type = EVENT_SAMPLE,
        .pid = sample.pid,
        .tid = sample.tid,
        .time_ns = sink->now_ns,
        .sample = &sample,
    };

    memcpy(sample.regs, look->regs, sizeof(sample.regs));
    thread->cpu_taken_ns += used_ns;
    sink->handler(sink->context, &event);
}

/* Looks at one thread if it runs. pause_ns: grows by how long it stood still. Returns: 1 for a
 * sample. */
static size_t look_at(struct sampler *sampler, struct ptrace_thread *thread,
                      const struct ptrace_sink *sink, uint64_t *pause_ns)
{
    bool is_child = thread->tid == sampler->child;
    struct ptrace_look look = {.stack = sampler->stack, .stack_room = sampler->options.stack_bytes};
    enum ptrace_stop_result result;
    uint64_t used_ns;

    if (thread->is_pending) {
        result = ptrace_stop_continue(thread->tid, is_child, 0, &look);
    } else {
        if (!ptrace_thread_read_cpu(&sampler->tasks, thread, &used_ns) || used_ns == 0 ||
            !ptrace_tasks_tell_image(&sampler->tasks, thread->pid, sink) ||
            !ptrace_thread_is_running(thread))
            return 0;
        result = ptrace_stop_read(thread->tid, is_child, PATIENCE_NS, &look);
    }
    thread->is_pending = result == PTRACE_STOP_PENDING;
    sampler->num_refused += result == PTRACE_STOP_REFUSED;
    if (result != PTRACE_STOP_READ)
        return 0;
    *pause_ns += look.pause_ns;
    if (!ptrace_thread_read_cpu(&sampler->tasks, thread, &used_ns) || used_ns == 0)
        return 0;
    deliver(sampler, thread, &look, used_ns, sink);
    return 1;
}

/* One round over all threads. The next one comes a period later, or as late as the pauses of this
 * one ask for. */
static struct error *tick(struct sampler *sampler, const struct ptrace_sink *sink,
                          size_t *num_samples_ret)
{
    uint64_t pause_ns = 0, interval_ns = sampler->period_ns;

    RETURN_IF_ERROR(ptrace_tasks_scan(&sampler->tasks, sink));
    for (size_t i = 0; i < sampler->tasks.num_threads; i++)
        *num_samples_ret += look_at(sampler, &sampler->tasks.threads[i], sink, &pause_ns);
    if (pause_ns * PAUSE_BUDGET > interval_ns)
        interval_ns = pause_ns * PAUSE_BUDGET;
    sampler->next_tick_ns = sink->now_ns + interval_ns;
    return arm_timer(sampler, interval_ns);
}

/* Lets go at once of those that have stopped meanwhile. */
static size_t look_at_pending(struct sampler *sampler, const struct ptrace_sink *sink)
{
    uint64_t pause_ns = 0;
    size_t num_samples = 0;

    for (size_t i = 0; i < sampler->tasks.num_threads; i++)
        if (sampler->tasks.threads[i].is_pending)
            num_samples += look_at(sampler, &sampler->tasks.threads[i], sink, &pause_ns);
    return num_samples;
}

static void empty(int fd)
{
    uint8_t bytes[sizeof(struct signalfd_siginfo)];

    while (read(fd, bytes, sizeof(bytes)) > 0)
        ;
}

static struct error *ptrace_engine_drain(struct sampler *sampler, bool final,
                                         event_handler_fn *handler, void *context,
                                         size_t *num_samples_ret)
{
    const struct ptrace_sink sink = {
        .handler = handler, .context = context, .now_ns = clock_monotonic_ns()};

    *num_samples_ret = 0;
    if (final || sampler->is_stopped)
        return NULL;
    empty(sampler->signal_fd);
    *num_samples_ret = look_at_pending(sampler, &sink);
    if (sink.now_ns < sampler->next_tick_ns)
        return NULL;
    empty(sampler->timer_fd);
    return tick(sampler, &sink, num_samples_ret);
}

/* Lets go of all threads. One that still waits for a CPU is waited for; one that the kernel holds
 * for longer (a dead disk) is let go when we end. */
static void ptrace_engine_stop(struct sampler *sampler)
{
    uint64_t deadline_ns = clock_monotonic_ns() + STOP_PATIENCE_NS;

    if (sampler->is_stopped)
        return;
    sampler->is_stopped = true;
    for (size_t i = 0; i < sampler->tasks.num_threads; i++) {
        struct ptrace_thread *thread = &sampler->tasks.threads[i];
        struct ptrace_look look = {.stack = sampler->stack};
        uint64_t now_ns = clock_monotonic_ns();

        if (thread->is_pending)
            (void)ptrace_stop_continue(thread->tid, thread->tid == sampler->child,
                                       deadline_ns > now_ns ? deadline_ns - now_ns : 0, &look);
        thread->is_pending = false;
    }
}

static void ptrace_engine_info(const struct sampler *sampler, struct sampler_info *info_ret)
{
    *info_ret = (struct sampler_info){
        .engine = "ptrace",
        .period_ns = sampler->period_ns,
        .counts_kernel = true,
        .has_exact = true,
        .exact = {sampler->tasks.cpu_ns},
    };
}

const struct sampler_ops sampler_ptrace = {
    .name = "ptrace",
    .open = ptrace_engine_open,
    .attach = ptrace_engine_attach,
    .start = ptrace_engine_start,
    .wait_fd = ptrace_engine_wait_fd,
    .drain = ptrace_engine_drain,
    .stop = ptrace_engine_stop,
    .info = ptrace_engine_info,
    .destroy = ptrace_engine_destroy,
};
