/* Why a process can't be profiled, found by trying. */
#include "tests/unit/target/support.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "target/diagnose.h"
#include "tests/unit/skip.h"

static void own_process_is_fine(void **state)
{
    (void)state;
    assert_success(diagnose_process(getpid()));
}

static void missing_process_is_named(void **state)
{
    (void)state;
    assert_error(diagnose_process(4000001), ERROR_GONE, "no process with pid 4000001");
    assert_error(diagnose_process(0), ERROR_GONE, "no process with pid 0");
    assert_error(diagnose_process(-5), ERROR_GONE, "no process with pid -5");
}

static void zombie_is_told(void **state)
{
    pid_t pid = fork();
    siginfo_t info;

    (void)state;
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_error(diagnose_process(pid), ERROR_UNSUPPORTED, "zombie");
    waitpid(pid, NULL, 0);
}

static void kernel_thread_is_told(void **state)
{
    (void)state;
    if (access("/proc/2/exe", F_OK) == 0)
        SKIP("a container: its pid 2 is a program");
    if (access("/proc/2", F_OK) != 0)
        SKIP("a container: it has no pid 2");
    assert_error(diagnose_process(2), ERROR_UNSUPPORTED, "kernel thread");
}

static _Atomic pid_t started_tid;

static void *tell_tid(void *unused)
{
    (void)unused;
    started_tid = (pid_t)syscall(SYS_gettid);
    pause();
    return NULL;
}

static void start_thread(void *context, int fd)
{
    pthread_t thread;
    pid_t tid;

    (void)context;
    pthread_create(&thread, NULL, tell_tid, NULL);
    while ((tid = started_tid) == 0)
        usleep(1000);
    (void)!write(fd, &tid, sizeof(tid));
}

static void thread_is_told_from_a_process(void **state)
{
    struct child_process child = child_start(start_thread, NULL);
    char text[64];
    pid_t tid;

    (void)state;
    child_read(&child, &tid, sizeof(tid));
    snprintf(text, sizeof(text), "is a thread of process %d", (int)child.pid);
    assert_error(diagnose_process(tid), ERROR_UNSUPPORTED, text);
    child_stop(&child);
}

/* Runs `check` as nobody. Returns: what it returned. */
static int as_nobody(int (*check)(void *context), void *context)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(100);
        _exit(check(context));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

static int check_foreign(void *context)
{
    char text[64];
    struct error *err = diagnose_process(*(pid_t *)context);

    if (!err)
        return 1;
    snprintf(text, sizeof(text), "process %d (test_diagnose) belongs to user root (uid 0)",
             (int)*(pid_t *)context);
    return err->kind == ERROR_PERMISSION && strcmp(err->message, text) == 0 && err->hint &&
                   strstr(err->hint, "sudo")
               ? 0
               : 2;
}

static void process_of_another_user_is_told(void **state)
{
    pid_t pid = getpid();

    (void)state;
    if (geteuid() != 0)
        SKIP("needs root");
    assert_int_equal(as_nobody(check_foreign, &pid), 0);
}

static int check_protected(void *context)
{
    struct error *err;
    int ready[2];
    char byte;
    pid_t pid;

    (void)context;
    if (pipe(ready))
        return 2;
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_DUMPABLE, 0);
        _exit(write(ready[1], "r", 1) == 1 ? pause() : 1);
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        return 3;
    err = diagnose_process(pid);
    kill(pid, SIGKILL);
    return err && err->kind == ERROR_PERMISSION && strstr(err->message, "protected") ? 0 : 1;
}

static void protected_process_of_ours_is_told(void **state)
{
    (void)state;
    if (geteuid() != 0)
        SKIP("needs root");
    assert_int_equal(as_nobody(check_protected, NULL), 0);
}

static void hostile_name_does_not_break_the_line(void **state)
{
    pid_t pid = fork();
    siginfo_t info;
    struct error *err;

    (void)state;
    if (pid == 0) {
        prctl(PR_SET_NAME, "a)\n\033[2J S 1");
        _exit(0);
    }
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    err = diagnose_process(pid);
    assert_non_null(err);
    assert_null(strpbrk(err->message, "\n\033"));
    assert_non_null(strstr(err->message, "zombie"));
    error_destroy(err);
    waitpid(pid, NULL, 0);
}

/* Checks whether `name` finds `pid`. */
static bool finds(const char *name, pid_t pid)
{
    size_t num_pids = 0;
    pid_t *pids = NULL;
    bool is_found = false;

    error_destroy(diagnose_find_by_name(name, &pids, &num_pids));
    for (size_t i = 0; i < num_pids; i++)
        is_found |= pids[i] == pid;
    free(pids);
    return is_found;
}

static void become_program(void *path, int fd)
{
    (void)fd;
    execl(path, "/odd/argv-zero", "60", NULL);
}

static void process_is_found_by_each_of_its_names(void **state)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/a-name-longer-than-15", (const char *)*state);
    copy_file("/bin/sleep", path);
    struct child_process child = child_start(become_program, path);
    for (int i = 0; i < 1000 && !finds("a-name-longer-than-15", child.pid); i++)
        usleep(1000);
    assert_true(finds("a-name-longer-than-15", child.pid)); /* its executable */
    assert_true(finds("argv-zero", child.pid));
    assert_true(finds("a-name-longer-t", child.pid)); /* its comm, as ps shows it */
    assert_false(finds("a-name", child.pid));
    unlink(path);
    assert_true(finds("a-name-longer-than-15", child.pid));
    child_stop(&child);
    assert_false(finds("test_diagnose", getpid()));
}

static void unknown_name_is_told(void **state)
{
    size_t num_pids;
    pid_t *pids;

    (void)state;
    assert_error(diagnose_find_by_name("no-such-program", &pids, &num_pids), ERROR_NOT_FOUND,
                 "no process named no-such-program");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_process_is_fine),
        cmocka_unit_test(missing_process_is_named),
        cmocka_unit_test(zombie_is_told),
        cmocka_unit_test(kernel_thread_is_told),
        cmocka_unit_test(thread_is_told_from_a_process),
        cmocka_unit_test(process_of_another_user_is_told),
        cmocka_unit_test(protected_process_of_ours_is_told),
        cmocka_unit_test(hostile_name_does_not_break_the_line),
        cmocka_unit_test_setup_teardown(process_is_found_by_each_of_its_names, directory_setup,
                                        directory_teardown),
        cmocka_unit_test(unknown_name_is_told),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
