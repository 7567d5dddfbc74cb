/* Small readers of /proc, on hostile text and on ourselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/procfs.h"

#define TAIL " 4 5 6 7 8 9 10 11 12 13 1400 1500 16 17 18 19 20 21 987654321 23 24\n"

static void parses_the_fields_by_number(void **state)
{
    struct procfs_stat stat;

    (void)state;
    assert_null(procfs_stat_parse("77 (name) S" TAIL, &stat));
    assert_string_equal(stat.comm, "name");
    assert_int_equal(stat.state, 'S');
    assert_int_equal(stat.ppid, 4);
    assert_int_equal(stat.utime_ticks, 1400);
    assert_int_equal(stat.stime_ticks, 1500);
    assert_int_equal(stat.start_time_ticks, 987654321);
}

static void name_may_hold_anything(void **state)
{
    struct procfs_stat stat;

    (void)state;
    assert_null(procfs_stat_parse("77 (a) R 1 (b\n) Z" TAIL, &stat));
    assert_string_equal(stat.comm, "a) R 1 (b\n");
    assert_int_equal(stat.state, 'Z');
    assert_null(procfs_stat_parse("77 () R" TAIL, &stat));
    assert_string_equal(stat.comm, "");
}

static void long_name_is_cut(void **state)
{
    char text[400];
    struct procfs_stat stat;

    (void)state;
    snprintf(text, sizeof(text), "1 (%0200d) R" TAIL, 0);
    assert_null(procfs_stat_parse(text, &stat));
    assert_int_equal(strlen(stat.comm), PROCFS_COMM_BYTES * 4 - 1);
}

static void broken_text_is_an_error(void **state)
{
    static const char *const texts[] = {
        "",
        "1",
        "1 (",
        "1 )(",
        "1 (a",
        "1 (a)",
        "1 (a) ",
        "1 (a) R",
        ("1 (a) 5" TAIL),
        "1 (a) R x y",
        "1 (a) R -1 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22",
        "1 (a) R 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21",
        "1 (a) R 4 5 6 7 8 9 10 11 12 13 -14 15 16 17 18 19 20 21 22",
        "1 (a) R 4 5 6 7 8 9 10 11 12 13 99999999999999999999999 15 16 17 18 19 20 21 22",
        "1 (a) R 99999999999 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22",
    };
    struct procfs_stat stat = {.ppid = 42};

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        CLEANUP(error_destroy) struct error *err = procfs_stat_parse(texts[i], &stat);
        assert_non_null(err);
        assert_int_equal(err->kind, ERROR_FAILED);
        assert_int_equal(stat.ppid, 42);
    }
}

static void reads_our_own_stat_and_name(void **state)
{
    struct procfs_stat stat;
    char comm[PROCFS_COMM_BYTES * 4];

    (void)state;
    assert_int_equal(prctl(PR_SET_NAME, "odd) R (na\nme"), 0);
    assert_null(procfs_stat_read(getpid(), &stat));
    assert_null(procfs_comm_read(getpid(), getpid(), comm));
    assert_int_equal(stat.ppid, getppid());
    assert_int_equal(stat.state, 'R');
    assert_true(stat.start_time_ticks > 0);
    assert_string_equal(comm, "odd) R (na\nme");
}

static pid_t dead_pid(void)
{
    pid_t child = fork();

    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    return child;
}

static void a_process_that_ended_is_gone(void **state)
{
    struct procfs_stat stat;
    char comm[PROCFS_COMM_BYTES * 4];
    char path[64];
    pid_t *ids = NULL;
    size_t num_ids;
    uint64_t cpu_ns;
    pid_t pid = dead_pid();

    (void)state;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    struct error *errors[] = {
        procfs_stat_read(pid, &stat),
        procfs_comm_read(pid, pid, comm),
        procfs_cpu_ns_read(pid, &cpu_ns),
        procfs_list_ids(path, &ids, &num_ids),
    };
    for (size_t i = 0; i < ARRAY_LENGTH(errors); i++) {
        assert_non_null(errors[i]);
        assert_int_equal(errors[i]->kind, ERROR_GONE);
        error_destroy(errors[i]);
    }
}

static void *thread_wait(void *fd)
{
    char byte;

    return (void *)read(*(int *)fd, &byte, 1);
}

static void lists_threads_in_order(void **state)
{
    pthread_t threads[5];
    int pipe_fds[2];
    pid_t *ids = NULL;
    size_t num_ids = 0;

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_wait, &pipe_fds[0]), 0);
    assert_null(procfs_list_ids("/proc/self/task", &ids, &num_ids));
    close(pipe_fds[1]);
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    close(pipe_fds[0]);
    assert_true(num_ids >= 6); /* a sanitizer may have one of its own */
    assert_int_equal(ids[0], getpid());
    for (size_t i = 1; i < num_ids; i++)
        assert_true(ids[i] > ids[i - 1]);
    free(ids);
}

static void lists_processes(void **state)
{
    CLEANUP(free) pid_t *ids = NULL;
    size_t num_ids = 0;
    bool has_self = false;

    (void)state;
    assert_null(procfs_list_ids("/proc", &ids, &num_ids));
    for (size_t i = 0; i < num_ids; i++)
        has_self |= ids[i] == getpid();
    assert_true(has_self);
}

static void cpu_time_agrees_with_the_clock(void **state)
{
    uint64_t cpu_ns = 0;
    uint64_t stop_ns = clock_self_cpu_ns() + 100000000;

    (void)state;
    while (clock_self_cpu_ns() < stop_ns)
        ;
    assert_null(procfs_cpu_ns_read(getpid(), &cpu_ns));
    uint64_t own_ns = clock_self_cpu_ns();
    assert_in_range(cpu_ns, own_ns - own_ns / 2, own_ns + own_ns / 2);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_the_fields_by_number),
        cmocka_unit_test(name_may_hold_anything),
        cmocka_unit_test(long_name_is_cut),
        cmocka_unit_test(broken_text_is_an_error),
        cmocka_unit_test(reads_our_own_stat_and_name),
        cmocka_unit_test(a_process_that_ended_is_gone),
        cmocka_unit_test(lists_threads_in_order),
        cmocka_unit_test(lists_processes),
        cmocka_unit_test(cpu_time_agrees_with_the_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
