/* Where the kernel says no: who may do what, what is left when we die, what is told and how to
 * help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "engine_run.h"
#include "sampler/perf_event.h"
#include "tests/unit/skip.h"

#define NOBODY 65534

static const struct sampler_options default_options = {
    .hz = 199,
    .stack_bytes = 32768,
    .kernel = true,
    .follow_children = true,
};

static void work_spin(void)
{
    burn_ms(300);
}

/* Runs `body` in a child process that is nobody. Returns: its exit status (0: all is well). */
static int run_as_nobody(int (*body)(void))
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        if (setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY) ||
            prctl(PR_SET_DUMPABLE, 1))
            _exit(100);
        _exit(body());
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static void skip_unless_root(void)
{
    if (geteuid() != 0)
        SKIP("needs root");
}

static long paranoid_level(void)
{
    FILE *file = fopen("/proc/sys/kernel/perf_event_paranoid", "r");
    long level = 100;

    if (!file)
        return level;
    if (fscanf(file, "%ld", &level) != 1)
        level = 100;
    fclose(file);
    return level;
}

static int sample_own_child(void)
{
    struct engine_run run;
    struct error *err = run_engine(&sampler_per_task, &default_options, work_spin, &run);

    /* Kernels of Debian know levels above 2, which refuse this; others take them for 2. */
    if (err && paranoid_level() > 2)
        return err->kind == ERROR_PERMISSION && err->hint &&
                       strstr(err->message, "perf_event_paranoid is")
                   ? 0
                   : 5;
    if (err)
        return 1;
    if (run.num_samples < 20 || run.num_with_magic * 10 < run.num_samples * 9)
        return 2;
    if (paranoid_level() >= 2 && (run.info.has_kernel || run.num_kernel))
        return 3;
    return run.info.has_exact ? 0 : 4;
}

static void nobody_samples_his_own_child_or_is_told_why_not(void **state)
{
    (void)state;
    skip_unless_root();
    assert_int_equal(run_as_nobody(sample_own_child), 0);
}

static int open_cpu_wide(void)
{
    struct sampler *sampler;
    struct error *err = sampler_cpu_wide.open(&default_options, &sampler);

    if (!err)
        return 1;
    if (err->kind != ERROR_PERMISSION || !err->hint)
        return 2;
    return strstr(err->message, "perf_event_paranoid is") ? 0 : 3;
}

static void nobody_is_told_why_not_cpu_wide(void **state)
{
    (void)state;
    skip_unless_root();
    if (paranoid_level() < 1)
        SKIP("perf_event_paranoid is below 1; test_record_scope.py sets it");
    assert_int_equal(run_as_nobody(open_cpu_wide), 0);
}

static int attach_init(void)
{
    struct sampler *sampler;
    struct error *err = sampler_per_task.open(&default_options, &sampler);

    if (err)
        return 1;
    err = sampler_per_task.attach(sampler, 1, 1);
    if (!err)
        return 2;
    return err->kind == ERROR_PERMISSION && err->hint && strstr(err->message, "process 1") ? 0 : 3;
}

static void nobody_may_not_profile_init(void **state)
{
    (void)state;
    skip_unless_root();
    assert_int_equal(run_as_nobody(attach_init), 0);
}

static int sample_with_little_memory(void)
{
    struct rlimit none = {0, 0};
    struct sampler_options options = default_options;
    struct engine_run run;
    struct error *err;

    options.hz = 4999; /* asks for 8 MB per CPU */
    if (setrlimit(RLIMIT_MEMLOCK, &none))
        return 1;
    err = run_engine(&sampler_per_task, &options, work_spin, &run);
    if (err)
        return 2;
    if (!run.info.ring_is_small || run.info.ring_bytes > 8 << 20)
        return 3;
    return run.num_samples > 0 ? 0 : 4;
}

static void rings_shrink_to_the_memory_that_may_be_locked(void **state)
{
    (void)state;
    skip_unless_root();
    assert_int_equal(run_as_nobody(sample_with_little_memory), 0);
}

static int attach_with_few_files(void)
{
    struct rlimit few = {12, 12};
    struct sampler *sampler = NULL;
    struct error *err;

    if (setrlimit(RLIMIT_NOFILE, &few))
        return 1;
    err = sampler_per_task.open(&default_options, &sampler);
    for (int i = 0; i < 4 && !err; i++) {
        int go_fd = -1;
        pid_t pid = start_workload(work_spin, &go_fd);

        err = sampler_per_task.attach(sampler, pid, pid);
    }
    if (!err)
        return 2;
    if (!strstr(err->message, "RLIMIT_NOFILE is 12"))
        return 3;
    return err->hint && strstr(err->hint, "ulimit -n") ? 0 : 4;
}

static void running_out_of_files_names_the_limit(void **state)
{
    (void)state;
    if (paranoid_level() > 2 && geteuid() != 0)
        SKIP("perf_event_paranoid is above 2");
    pid_t pid = fork();
    int status;

    if (pid == 0)
        _exit(attach_with_few_files());
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void process_that_ended_is_gone(void **state)
{
    static const struct sampler_ops *const engines[] = {&sampler_cpu_wide, &sampler_per_task};
    pid_t pid = fork();

    (void)state;
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    for (size_t i = 0; i < 2; i++) {
        struct sampler *sampler;
        struct error *err = engines[i]->open(&default_options, &sampler);

        if (err) {
            error_destroy(err);
            continue;
        }
        err = engines[i]->attach(sampler, pid, pid);
        assert_non_null(err);
        assert_int_equal(err->kind, ERROR_GONE);
        error_destroy(err);
        engines[i]->destroy(sampler);
    }
}

/* Collects the ids of the BPF programs that `pid` holds descriptors of (proc(5), fdinfo). */
static size_t find_bpf_programs(pid_t pid, uint32_t *ids, size_t max_ids)
{
    char path[300];
    size_t num_ids = 0;
    struct dirent *entry;
    DIR *directory;

    snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)pid);
    directory = opendir(path);
    assert_non_null(directory);
    while ((entry = readdir(directory))) {
        char line[200];
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", (int)pid, entry->d_name);
        file = fopen(path, "r");
        while (file && fgets(line, sizeof(line), file)) {
            if (num_ids < max_ids && sscanf(line, "prog_id: %u", &ids[num_ids]) == 1)
                num_ids++;
        }
        if (file)
            fclose(file);
    }
    closedir(directory);
    return num_ids;
}

static bool program_exists(uint32_t id)
{
    union bpf_attr attr;
    long fd;

    memset(&attr, 0, sizeof(attr));
    attr.prog_id = id;
    fd = syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &attr, sizeof(attr));
    if (fd < 0)
        return errno != ENOENT;
    close((int)fd);
    return true;
}

static void record_forever(int ready_fd, pid_t target)
{
    struct sampler *sampler;
    struct error *err = sampler_cpu_wide.open(&default_options, &sampler);

    if (!err)
        err = sampler_cpu_wide.attach(sampler, target, target);
    if (!err)
        err = sampler_cpu_wide.start(sampler);
    if (write(ready_fd, err ? "n" : "y", 1) == 1)
        pause();
    _exit(1);
}

static void killed_sampler_leaves_nothing_in_the_kernel(void **state)
{
    uint32_t ids[16] = {0};
    size_t num_ids;
    size_t num_left = 0;
    int ready[2];
    char answer = 'n';
    pid_t pid;

    (void)state;
    skip_unless_root();
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0)
        record_forever(ready[1], getppid());
    assert_int_equal(read(ready[0], &answer, 1), 1);
    num_ids = answer == 'y' ? find_bpf_programs(pid, ids, 16) : 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (answer != 'y')
        SKIP("the cpu-wide engine is refused here");
    assert_in_range(num_ids, 4, 16);
    for (int tries = 0; tries < 100; tries++) { /* the kernel frees them a grace period later */
        num_left = 0;
        for (size_t i = 0; i < num_ids; i++)
            num_left += program_exists(ids[i]);
        if (num_left == 0)
            break;
        usleep(20000);
    }
    assert_int_equal(num_left, 0);
}

/* Four threads burn while the main thread starts one short thread after the other. */
static void *burn_longer(void *argument)
{
    (void)argument;
    burn_ms(300);
    return NULL;
}

static void *burn_shortly(void *argument)
{
    (void)argument;
    burn_ms(2);
    return NULL;
}

static void work_many_threads(void)
{
    pthread_t burners[4];
    pthread_t other;

    for (size_t i = 0; i < 4; i++)
        pthread_create(&burners[i], NULL, burn_longer, NULL);
    for (int i = 0; i < 100; i++) {
        pthread_create(&other, NULL, burn_shortly, NULL);
        pthread_join(other, NULL);
    }
    for (size_t i = 0; i < 4; i++)
        pthread_join(burners[i], NULL);
}

/* Attaches all threads that /proc lists, again and again, as target/threads.h does. */
static void attach_all(struct sampler *sampler, pid_t pid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    for (int pass = 0; pass < 20; pass++) {
        DIR *directory = opendir(path);
        struct dirent *entry;

        while (directory && (entry = readdir(directory))) {
            pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

            if (tid > 0)
                error_destroy(sampler_per_task.attach(sampler, pid, tid));
        }
        if (directory)
            closedir(directory);
    }
}

static void threads_born_during_attach_do_not_count_twice(void **state)
{
    struct engine_run run = {0};
    struct sampler *sampler;
    struct error *err = sampler_per_task.open(&default_options, &sampler);
    int go_fd = -1;

    (void)state;
    if (err) {
        error_destroy(err);
        SKIP("the engine is refused here");
    }
    run.pid = start_workload(work_many_threads, &go_fd);
    close(go_fd);
    usleep(20000);
    assert_null(sampler_per_task.start(sampler));
    attach_all(sampler, run.pid);
    assert_null(follow_workload(&sampler_per_task, sampler, &run));
    sampler_per_task.destroy(sampler);
    print_message("# weight %.3f s, CPU %.3f s, exact known: %d\n", (double)run.weight / 1e9,
                  (double)run.cpu_ns / 1e9, run.info.has_exact);
    assert_true((double)run.weight < 1.03 * (double)run.cpu_ns);
    assert_true((double)run.weight > 0.6 * (double)run.cpu_ns);
}

static void refusals_name_cause_and_remedy(void **state)
{
    static const int errnos[] = {EACCES, EPERM, EMFILE, ENFILE, ENOSYS, EINVAL, ENOENT};

    (void)state;
    for (size_t i = 0; i < sizeof(errnos) / sizeof(*errnos); i++) {
        struct error *err = perf_event_refusal(errnos[i], i % 2);

        assert_non_null(err->hint);
        assert_null(strchr(err->message, '\n'));
        error_destroy(err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_samples_his_own_child_or_is_told_why_not),
        cmocka_unit_test(nobody_is_told_why_not_cpu_wide),
        cmocka_unit_test(nobody_may_not_profile_init),
        cmocka_unit_test(rings_shrink_to_the_memory_that_may_be_locked),
        cmocka_unit_test(running_out_of_files_names_the_limit),
        cmocka_unit_test(process_that_ended_is_gone),
        cmocka_unit_test(killed_sampler_leaves_nothing_in_the_kernel),
        cmocka_unit_test(threads_born_during_attach_do_not_count_twice),
        cmocka_unit_test(refusals_name_cause_and_remedy),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
