/* The ptrace engine: CPU time of its samples, and what it must never do to a target. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>

#include "engine_run.h"

#define NUM_SIGNALS 2000

static const struct sampler_options default_options = {
    .hz = 99,
    .stack_bytes = 32768,
    .kernel = true,
    .follow_children = true,
};

static struct engine_run run;

static void work_spin(void)
{
    burn_ms(1000);
}

static void *wait_long(void *result)
{
    struct epoll_event event;
    int epoll_fd = epoll_create1(0);

    *(int *)result = epoll_wait(epoll_fd, &event, 1, 800) < 0 ? errno : 0;
    return NULL;
}

/* One thread blocks, another one burns until it is done. Ends with the errno of the wait. */
static void work_blocked(void)
{
    pthread_t thread;
    int result = -1;

    pthread_create(&thread, NULL, wait_long, &result);
    burn_ms(300);
    pthread_join(thread, NULL);
    _exit(result);
}

static volatile sig_atomic_t num_signals;

static void count_signal(int number)
{
    (void)number;
    num_signals++;
}

/* Burns while a child sends it queued signals, each of which must arrive. */
static void work_signals(void)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    pid_t sender;
    int status;

    sigaction(SIGRTMIN, &action, NULL);
    sender = fork();
    if (sender == 0) {
        for (int i = 0; i < NUM_SIGNALS; i++) {
            while (sigqueue(getppid(), SIGRTMIN, (union sigval){0}))
                usleep(1000);
            usleep(300);
        }
        _exit(0);
    }
    while (waitpid(sender, &status, WNOHANG) == 0)
        burn_ms(5);
    _exit(num_signals == NUM_SIGNALS ? 0 : 1);
}

/* A child that runs another program. */
static void work_exec(void)
{
    execl("/bin/sh", "sh", "-c",
          "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sh -c "
          "'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'",
          (char *)NULL);
    _exit(127);
}

static int status_of_run;

static void run_or_skip(void (*work)(void))
{
    struct error *err = run_engine(&sampler_ptrace, &default_options, work, &run);

    if (err && (err->kind == ERROR_PERMISSION || err->kind == ERROR_UNSUPPORTED)) {
        print_message("# skipped: %s\n", err->message);
        error_destroy(err);
        skip();
    }
    if (err)
        fail_msg("%s", err->message);
    status_of_run = run.status;
    print_message("# %llu samples, %.3f s of %.3f s\n", (unsigned long long)run.num_samples,
                  (double)run.weight / 1e9, (double)run.cpu_ns / 1e9);
}

static void samples_stand_for_the_cpu_time(void **state)
{
    (void)state;
    run_or_skip(work_spin);
    assert_true(run.num_samples >= 2);
    assert_int_equal(run.num_with_magic, run.num_samples);
    assert_int_equal(run.num_with_regs, run.num_samples);
    assert_int_equal(run.num_backward, 0);
    assert_true((double)run.weight <= 1.02 * (double)run.cpu_ns);
    assert_true((double)run.weight >= 0.5 * (double)run.cpu_ns);
}

static void blocked_thread_is_left_in_peace(void **state)
{
    (void)state;
    run_or_skip(work_blocked);
    assert_true(WIFEXITED(status_of_run));
    assert_int_equal(WEXITSTATUS(status_of_run), 0);
}

static void no_signal_is_lost(void **state)
{
    (void)state;
    run_or_skip(work_signals);
    assert_true(WIFEXITED(status_of_run));
    assert_int_equal(WEXITSTATUS(status_of_run), 0);
}

static void new_programs_are_told(void **state)
{
    (void)state;
    run_or_skip(work_exec);
    assert_int_equal(status_of_run, 0);
    assert_true(run.num_events[EVENT_COMM] >= 1);
    assert_true(run.num_events[EVENT_MAPS] >= 1);
}

/* The process that traces `pid`; 0: none. */
static long tracer_of(pid_t pid)
{
    char path[64], text[4096] = "";
    const char *line;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    file = fopen(path, "r");
    if (!file)
        return 0;
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    line = strstr(text, "TracerPid:");
    return line ? strtol(line + strlen("TracerPid:"), NULL, 10) : 0;
}

static void traced_process_is_refused(void **state)
{
    struct sampler *sampler;
    struct error *err;
    int go_fd = -1;
    pid_t pid = start_workload(work_spin, &go_fd);
    pid_t tracer = fork();

    (void)state;
    if (tracer == 0) {
        ptrace(PTRACE_SEIZE, pid, NULL, NULL);
        pause();
        _exit(0);
    }
    for (int tries = 0; tries < 2000 && tracer_of(pid) == 0; tries++)
        usleep(1000);
    assert_null(sampler_ptrace.open(&default_options, &sampler));
    err = sampler_ptrace.attach(sampler, pid, pid);
    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_PERMISSION);
    assert_non_null(strstr(err->message, "is traced by process"));
    error_destroy(err);
    sampler_ptrace.destroy(sampler);
    kill(tracer, SIGKILL);
    waitpid(tracer, NULL, 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(go_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_stand_for_the_cpu_time),
        cmocka_unit_test(blocked_thread_is_left_in_peace),
        cmocka_unit_test(no_signal_is_lost),
        cmocka_unit_test(new_programs_are_told),
        cmocka_unit_test(traced_process_is_refused),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
