/* The engines against the real kernel: right amounts, right order, everything in the samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "engine_run.h"
#include "sampler/perf_rings.h"

static const struct sampler_options default_options = {
    .hz = 199,
    .stack_bytes = 32768,
    .kernel = true,
    .follow_children = true,
};

static struct engine_run run;

/* Runs, or skips the test where this host or user does not allow the engine. */
static void run_or_skip(const struct sampler_ops *ops, const struct sampler_options *options,
                        void (*work)(void))
{
    struct error *err = run_engine(ops, options, work, &run);

    if (err && (err->kind == ERROR_PERMISSION || err->kind == ERROR_UNSUPPORTED)) {
        print_message("# skipped: %s\n", err->message);
        error_destroy(err);
        skip();
    }
    if (err)
        fail_msg("%s", err->message);
}

static void assert_within(const char *what, uint64_t value, uint64_t truth, double tolerance)
{
    double ratio = (double)value / (double)truth;

    print_message("# %s: %.3f s, truth %.3f s, ratio %.4f\n", what, (double)value / 1e9,
                  (double)truth / 1e9, ratio);
    if (ratio < 1 - tolerance || ratio > 1 + tolerance)
        fail_msg("%s is off: ratio %.4f", what, ratio);
}

/* CPU-wide ticks hit whoever runs. A workload that has its CPUs for itself gets all ticks that are
 * due; one that shares them gets a share with the spread of a coin toss (4 sigma), and somewhat
 * more than its part, because our wakeups at ticks end its time slices. */
static void assert_ticks_match_cpu_time(size_t num_cpus)
{
    double busy = (double)run.cpu_ns / (double)run.wall_ns / (double)num_cpus;
    double others = busy < 1 ? 1 - busy : 0;
    double num_due = (double)run.cpu_ns / (double)run.info.period_ns;

    assert_within("samples x period", run.weight, run.cpu_ns,
                  0.03 + 4 * sqrt(others / num_due) + (others > 0.1 ? 0.05 : 0));
}

static void assert_nothing_lost(void)
{
    assert_int_equal(run.loss.counts[LOSS_LOST], 0);
    assert_int_equal(run.loss.counts[LOSS_SIDEBAND], 0);
    assert_int_equal(run.loss.counts[LOSS_MALFORMED], 0);
    assert_int_equal(run.num_backward, 0);
}

static void work_spin(void)
{
    burn_ms(1500);
}

static void work_spin_shortly(void)
{
    burn_ms(100);
}

static void work_fork_50(void)
{
    for (int i = 0; i < 50; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            burn_ms(30);
            _exit(0);
        }
        waitpid(pid, NULL, 0);
    }
}

static void *burn_a_bit(void *argument)
{
    (void)argument;
    burn_ms(10);
    return NULL;
}

static void work_200_threads(void)
{
    pthread_t threads[200];
    size_t num_threads = 0;

    while (num_threads < 200 && !pthread_create(&threads[num_threads], NULL, burn_a_bit, NULL))
        num_threads++;
    while (num_threads > 0)
        pthread_join(threads[--num_threads], NULL);
}

static void work_exec(void)
{
    execl("/bin/sh", "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done", (char *)NULL);
}

static void assert_spin_is_right(const struct sampler_ops *ops)
{
    run_or_skip(ops, &default_options, work_spin);
    if (ops == &sampler_cpu_wide)
        assert_ticks_match_cpu_time(1);
    else
        assert_within("samples x period", run.weight, run.cpu_ns, 0.03);
    assert_nothing_lost();
    assert_int_equal(run.weight, run.num_samples * run.info.period_ns);
    assert_int_equal(run.num_of_pid, run.num_samples);
    assert_true(run.info.has_kernel);
    assert_true(run.num_with_regs * 100 >= run.num_samples * 98);
    assert_true(run.num_with_stack * 100 >= run.num_samples * 98);
    assert_true(run.num_with_magic * 100 >= run.num_samples * 95);
}

static void cpu_wide_samples_match_cpu_time(void **state)
{
    (void)state;
    assert_spin_is_right(&sampler_cpu_wide);
}

static void per_task_samples_match_cpu_time(void **state)
{
    (void)state;
    assert_spin_is_right(&sampler_per_task);
    assert_true(run.info.has_exact);
    assert_within("exact CPU", run.info.exact[0], run.cpu_ns, 0.03);
}

static void cpu_wide_samples_short_children_fully(void **state)
{
    (void)state;
    run_or_skip(&sampler_cpu_wide, &default_options, work_fork_50);
    assert_ticks_match_cpu_time(1);
    assert_true(run.num_events[EVENT_FORK] >= 50);
    assert_true(run.num_of_pid * 10 < run.num_samples);
    assert_nothing_lost();
}

static void per_task_counts_short_children_exactly(void **state)
{
    (void)state;
    run_or_skip(&sampler_per_task, &default_options, work_fork_50);
    /* The kernel lets go of a task's events before its memory is torn down: with the shadow memory
     * of a sanitizer that is 7 % of such a short life. */
    assert_within("exact CPU", run.info.exact[0], run.cpu_ns, 0.1);
    assert_in_range(run.num_events[EVENT_FORK], 50, 100); /* a sanitizer has threads of its own */
    assert_true(run.num_samples > 0);
    assert_nothing_lost();
}

static void cpu_wide_samples_200_threads_fully(void **state)
{
    (void)state;
    run_or_skip(&sampler_cpu_wide, &default_options, work_200_threads);
    assert_ticks_match_cpu_time((size_t)sysconf(_SC_NPROCESSORS_ONLN));
    assert_nothing_lost();
}

static void per_task_counts_200_threads_exactly(void **state)
{
    (void)state;
    run_or_skip(&sampler_per_task, &default_options, work_200_threads);
    assert_within("exact CPU", run.info.exact[0], run.cpu_ns, 0.04);
    assert_in_range(run.num_events[EVENT_FORK], 200, 210);
    assert_nothing_lost();
}

/* A command counts from its execve on, and no sample comes before its mappings. */
static void assert_exec_is_told_before_samples(const struct sampler_ops *ops)
{
    struct sampler_options options = default_options;

    options.enable_on_exec = true;
    run_or_skip(ops, &options, work_exec);
    assert_true(run.saw_exec);
    assert_true(run.saw_mmap);
    assert_true(run.num_samples > 10);
    assert_in_range(run.num_unmapped, 0, 1); /* a tick may hit the execve itself */
    assert_within("samples x period", run.weight, run.cpu_ns, 0.4);
    assert_nothing_lost();
}

static void cpu_wide_tells_exec_before_samples(void **state)
{
    (void)state;
    assert_exec_is_told_before_samples(&sampler_cpu_wide);
}

static void per_task_tells_exec_before_samples(void **state)
{
    (void)state;
    assert_exec_is_told_before_samples(&sampler_per_task);
}

static void armed_engine_takes_no_sample_without_exec(void **state)
{
    static const struct sampler_ops *const engines[] = {&sampler_cpu_wide, &sampler_per_task};
    struct sampler_options options = default_options;

    (void)state;
    options.enable_on_exec = true;
    for (size_t i = 0; i < 2; i++) {
        run_or_skip(engines[i], &options, work_spin_shortly);
        assert_int_equal(run.num_samples, 0);
    }
}

static void work_child_burns(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        burn_ms(400);
        _exit(0);
    }
    burn_ms(400);
    waitpid(pid, NULL, 0);
}

static void children_are_left_alone_when_asked(void **state)
{
    static const struct sampler_ops *const engines[] = {&sampler_cpu_wide, &sampler_per_task};
    struct sampler_options options = default_options;

    (void)state;
    options.follow_children = false;
    for (size_t i = 0; i < 2; i++) {
        run_or_skip(engines[i], &options, work_child_burns);
        assert_int_equal(run.num_of_pid, run.num_samples);
        assert_within("samples of the parent", run.weight, 400000000, 0.4);
    }
}

static void high_rate_loses_nothing(void **state)
{
    static const struct sampler_ops *const engines[] = {&sampler_cpu_wide, &sampler_per_task};
    struct sampler_options options = default_options;

    (void)state;
    options.hz = 4999;
    for (size_t i = 0; i < 2; i++) {
        run_or_skip(engines[i], &options, work_spin);
        assert_within("samples and losses",
                      run.weight + run.loss.counts[LOSS_LOST] * run.info.period_ns, run.cpu_ns,
                      0.1);
        assert_int_equal(run.num_backward, 0);
    }
}

/* Samples whose stack fills the dump move to rings of their own; none is lost or doubled on the
 * way. */
static void deep_stacks_are_read_at_once(void **state)
{
    static const struct sampler_ops *const engines[] = {&sampler_cpu_wide, &sampler_per_task};
    struct sampler_options options = default_options;

    (void)state;
    options.stack_bytes = 256;
    for (size_t i = 0; i < 2; i++) {
        struct perf_rings_size size = perf_rings_choose_size(&options, 1);
        uint64_t num_cpus = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);

        run_or_skip(engines[i], &options, work_spin);
        assert_int_equal(run.info.ring_bytes,
                         num_cpus * (2 * size.data_bytes + size.sideband_bytes));
        assert_nothing_lost();
        if (engines[i] == &sampler_per_task)
            assert_within("samples x period", run.weight, run.cpu_ns, 0.03);
    }
}

static void no_kernel_samples_when_not_asked_for(void **state)
{
    static const struct sampler_ops *const engines[] = {&sampler_cpu_wide, &sampler_per_task};
    struct sampler_options options = default_options;

    (void)state;
    options.kernel = false;
    for (size_t i = 0; i < 2; i++) {
        run_or_skip(engines[i], &options, work_spin);
        assert_int_equal(run.num_kernel, 0);
        assert_false(run.info.has_kernel);
        assert_true(run.num_samples > 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_wide_samples_match_cpu_time),
        cmocka_unit_test(per_task_samples_match_cpu_time),
        cmocka_unit_test(cpu_wide_samples_short_children_fully),
        cmocka_unit_test(per_task_counts_short_children_exactly),
        cmocka_unit_test(cpu_wide_samples_200_threads_fully),
        cmocka_unit_test(per_task_counts_200_threads_exactly),
        cmocka_unit_test(cpu_wide_tells_exec_before_samples),
        cmocka_unit_test(per_task_tells_exec_before_samples),
        cmocka_unit_test(armed_engine_takes_no_sample_without_exec),
        cmocka_unit_test(children_are_left_alone_when_asked),
        cmocka_unit_test(high_rate_loses_nothing),
        cmocka_unit_test(deep_stacks_are_read_at_once),
        cmocka_unit_test(no_kernel_samples_when_not_asked_for),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
