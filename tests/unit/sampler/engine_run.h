/* Running a workload in a child process under an engine, and counting what comes out, for tests. */
#ifndef TESTS_ENGINE_RUN_H
#define TESTS_ENGINE_RUN_H

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "profile/loss.h"
#include "sampler/sampler.h"

#define STACK_MAGIC 0x5ca1ab1e0ddba11ULL

/* What a run showed. */
struct engine_run {
    pid_t pid; /* of the workload */
    uint64_t num_samples, weight, num_kernel, num_with_regs, num_with_stack, num_with_magic;
    uint64_t num_of_pid;   /* samples of the workload's own process */
    uint64_t num_backward; /* events older than the one before */
    uint64_t num_unmapped; /* samples of a process before its exec, comm or mmap was told */
    uint64_t num_events[EVENT_LOSS + 1];
    struct loss loss;
    uint64_t last_ns;
    bool saw_exec, saw_mmap;
    uint64_t cpu_ns;  /* of the workload and its children, from wait4 */
    uint64_t wall_ns; /* from its start to its end */
    int status;       /* how it ended, as of waitpid(2) */
    struct sampler_info info;
};

static inline uint64_t thread_cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Uses CPU time in user mode, with STACK_MAGIC on the stack. */
static inline void burn_ms(uint64_t ms)
{
    uint64_t limit_ns = thread_cpu_ns() + ms * 1000000;
    volatile uint64_t marks[16];

    for (size_t i = 0; i < 16; i++)
        marks[i] = STACK_MAGIC;
    while (thread_cpu_ns() < limit_ns) {
        for (volatile int i = 0; i < 20000; i++)
            ;
    }
    (void)marks[3];
}

static inline void count_sample(struct engine_run *run, const struct sample *sample)
{
    run->num_samples++;
    run->weight += sample->weight;
    run->num_kernel += sample->in_kernel;
    run->num_with_regs += sample->has_user_regs;
    run->num_with_stack += sample->stack_bytes > 0;
    run->num_of_pid += sample->pid == (uint32_t)run->pid;
    if (!run->saw_exec || !run->saw_mmap)
        run->num_unmapped++;
    for (size_t i = 0; i + 8 <= sample->stack_bytes; i += 8) {
        uint64_t word;

        memcpy(&word, sample->stack + i, 8);
        if (word == STACK_MAGIC) {
            run->num_with_magic++;
            break;
        }
    }
}

static inline void count_event(void *context, const struct event *event)
{
    struct engine_run *run = context;

    run->num_events[event->type]++;
    run->num_backward += event->time_ns < run->last_ns;
    run->last_ns = event->time_ns;
    if (event->type == EVENT_LOSS)
        run->loss.counts[event->loss.kind] += event->loss.count;
    if (event->type == EVENT_COMM && event->pid == (uint32_t)run->pid && event->comm.is_exec)
        run->saw_exec = true;
    if (event->type == EVENT_MMAP && event->pid == (uint32_t)run->pid && run->saw_exec)
        run->saw_mmap = true;
    if (event->type == EVENT_SAMPLE)
        count_sample(run, event->sample);
}

/* Starts `work` in a child that waits until a byte, or the end, comes through *go_fd_ret. */
static inline pid_t start_workload(void (*work)(void), int *go_fd_ret)
{
    int go[2];
    pid_t pid;

    if (pipe(go))
        return -1;
    pid = fork();
    if (pid == 0) {
        char byte;

        close(go[1]);
        if (read(go[0], &byte, 1) < 0)
            _exit(1);
        close(go[0]);
        work();
        _exit(0);
    }
    close(go[0]);
    *go_fd_ret = go[1];
    return pid;
}

/* Stops of a traced child are the engine's. */
static inline bool has_exited(pid_t pid)
{
    siginfo_t info = {.si_pid = 0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0 &&
           info.si_pid == pid && info.si_code != CLD_TRAPPED;
}

/* Drains until the workload ends, then stops and drains the rest. */
static inline struct error *follow_workload(const struct sampler_ops *ops, struct sampler *sampler,
                                            struct engine_run *run)
{
    struct pollfd poll_fd = {.fd = ops->wait_fd(sampler), .events = POLLIN};
    uint64_t start_ns = clock_monotonic_ns();
    struct error *err = NULL;
    struct rusage usage;
    size_t num_samples;
    int status = 0;

    while (!err && !has_exited(run->pid)) {
        poll(&poll_fd, 1, 50);
        err = ops->drain(sampler, false, count_event, run, &num_samples);
    }
    wait4(run->pid, &status, 0, &usage);
    run->wall_ns = clock_monotonic_ns() - start_ns;
    ops->stop(sampler);
    if (!err)
        err = ops->drain(sampler, true, count_event, run, &num_samples);
    ops->info(sampler, &run->info);
    run->status = status;
    run->cpu_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
                  (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
    return err;
}

/* Runs `work` in a child under an engine from its start to its end.
 * run: counts, zeroed first. Returns: NULL or the engine's error. */
static inline struct error *run_engine(const struct sampler_ops *ops,
                                       const struct sampler_options *options, void (*work)(void),
                                       struct engine_run *run)
{
    struct sampler *sampler;
    struct error *err = ops->open(options, &sampler);
    int go_fd = -1;

    memset(run, 0, sizeof(*run));
    if (err)
        return err;
    run->pid = start_workload(work, &go_fd);
    err = ops->attach(sampler, run->pid, run->pid);
    if (!err)
        err = ops->start(sampler);
    close(go_fd);
    if (!err)
        err = follow_workload(ops, sampler, run);
    ops->destroy(sampler);
    return err;
}

#endif
