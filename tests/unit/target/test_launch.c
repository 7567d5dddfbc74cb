/* A launched command is started as a shell would, waits for its go, and inherits what we found. */
#include "tests/unit/target/support.h"

#include <errno.h>
#include <poll.h>
#include <sys/resource.h>

#include "target/launch.h"

static void join(char *path, void **state, const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", (const char *)*state, name);
}

/* Runs a command to its end. Returns: its wait status. */
static int run(char *const *argv)
{
    struct launch *launch;
    int status = -1;

    assert_success(launch_start(argv, &launch));
    assert_success(launch_go(launch));
    assert_true(launch_wait(launch, true, &status, NULL));
    launch_destroy(launch);
    return status;
}

static void command_waits_for_its_go(void **state)
{
    char path[PATH_MAX], *argv[] = {"touch", path, NULL};
    struct launch *launch;
    struct pollfd ended;
    int status;

    join(path, state, "touched");
    assert_success(launch_start(argv, &launch));
    assert_true(launch_pid(launch) > 0);
    usleep(50000);
    assert_int_equal(access(path, F_OK), -1);
    assert_false(launch_wait(launch, false, &status, NULL));
    ended = (struct pollfd){.fd = launch_pidfd(launch), .events = POLLIN};
    assert_int_equal(poll(&ended, 1, 0), 0);
    assert_success(launch_go(launch));
    assert_int_equal(poll(&ended, 1, 10000), 1);
    assert_true(launch_wait(launch, false, &status, NULL));
    assert_true(launch_wait(launch, true, &status, NULL));
    assert_int_equal(status, 0);
    assert_int_equal(access(path, F_OK), 0);
    launch_destroy(launch);
}

static void end_of_the_command_is_told(void **state)
{
    char *exits[] = {"sh", "-c", "exit 7", NULL}, *dies[] = {"sh", "-c", "kill -TERM $$", NULL};
    int status;

    (void)state;
    status = run(exits);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    status = run(dies);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

static void cpu_time_of_the_command_is_told(void **state)
{
    char *argv[] = {"sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", NULL};
    unsigned long long cpu_ns = 0;
    struct launch *launch;
    int status;

    (void)state;
    assert_success(launch_start(argv, &launch));
    assert_success(launch_go(launch));
    assert_true(launch_wait(launch, true, &status, &cpu_ns));
    assert_true(cpu_ns > 1000000);
    launch_destroy(launch);
}

static void missing_command_is_named(void **state)
{
    char *nothing[] = {"no-such-command-here", NULL}, *path[] = {"./no/such/file", NULL};
    char *empty[] = {"", NULL}, *below[] = {"/bin/sh/x", NULL};
    struct launch *launch;
    struct error *err;

    (void)state;
    err = launch_start(nothing, &launch);
    assert_non_null(err);
    assert_string_equal(err->message, "no such command: no-such-command-here");
    assert_non_null(strstr(err->hint, "PATH"));
    error_destroy(err);
    assert_error(launch_start(path, &launch), ERROR_NOT_FOUND, "./no/such/file");
    assert_error(launch_start(empty, &launch), ERROR_NOT_FOUND, "no such command");
    assert_error(launch_start(below, &launch), ERROR_NOT_FOUND, "/bin/sh/x");
}

static void what_is_not_executable_is_refused(void **state)
{
    char path[PATH_MAX], *plain[] = {path, NULL}, *directory[] = {"/tmp", NULL};
    struct launch *launch;
    struct error *err;

    join(path, state, "data");
    write_file(path, "hello\n", 6);
    assert_int_equal(chmod(path, 0644), 0);
    err = launch_start(plain, &launch);
    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_PERMISSION);
    assert_non_null(strstr(err->message, "not executable"));
    assert_non_null(strstr(err->hint, "chmod +x"));
    error_destroy(err);
    assert_error(launch_start(directory, &launch), ERROR_PERMISSION, "Is a directory");
}

static void refusal_of_execve_comes_back(void **state)
{
    char path[PATH_MAX], *argv[] = {path, NULL};
    struct launch *launch;

    join(path, state, "program");
    write_file(path, "\177ELF\0garbage", 12);
    assert_success(launch_start(argv, &launch));
    assert_error(launch_go(launch), ERROR_PERMISSION, "Exec format error");
    assert_true(launch_wait(launch, true, NULL, NULL));
    assert_int_equal(waitpid(launch_pid(launch), NULL, WNOHANG), -1);
    launch_destroy(launch);
    write_file(path, "#!/no/such/interpreter\n", 23);
    assert_success(launch_start(argv, &launch));
    assert_error(launch_go(launch), ERROR_NOT_FOUND, path);
    launch_destroy(launch);
    /* Gone between the look-up and the go. */
    copy_file("/bin/true", path);
    assert_success(launch_start(argv, &launch));
    unlink(path);
    assert_error(launch_go(launch), ERROR_NOT_FOUND, path);
    launch_destroy(launch);
}

static void script_without_interpreter_is_run_by_the_shell(void **state)
{
    char path[PATH_MAX], *argv[] = {path, "4", "5", NULL};

    join(path, state, "script");
    write_file(path, "exit $(($1 + $2))\n", 18);
    assert_int_equal(WEXITSTATUS(run(argv)), 9);
}

static void command_is_searched_as_execvp_does(void **state)
{
    char first[PATH_MAX], second[PATH_MAX], tool[PATH_MAX + 8], variable[2 * PATH_MAX + 16];
    char *old = strdup(getenv("PATH")), *argv[] = {"tool", NULL};
    struct launch *launch;

    join(first, state, "first");
    join(second, state, "second");
    assert_int_equal(mkdir(first, 0755) + mkdir(second, 0755), 0);
    snprintf(tool, sizeof(tool), "%s/tool", first);
    write_file(tool, "exit 1\n", 7);
    assert_int_equal(chmod(tool, 0644), 0);
    snprintf(variable, sizeof(variable), "/no/such:%s:%s", first, second);
    setenv("PATH", variable, 1);
    assert_error(launch_start(argv, &launch), ERROR_PERMISSION, "tool");
    /* One that can't be executed is passed over. */
    snprintf(tool, sizeof(tool), "%s/tool", second);
    write_file(tool, "#!/bin/sh\nexit 2\n", 17);
    assert_int_equal(WEXITSTATUS(run(argv)), 2);
    setenv("PATH", "", 1); /* an empty element is the working directory */
    assert_int_equal(chdir(second), 0);
    assert_int_equal(WEXITSTATUS(run(argv)), 2);
    assert_int_equal(chdir("/"), 0);
    unsetenv("PATH");
    argv[0] = "true";
    assert_int_equal(run(argv), 0);
    setenv("PATH", old, 1);
    free(old);
}

/* Runs a command that prints what it inherited, from a process that `prepare`d, remembered, and
 * then changed everything as cprofiler might. output: what the command printed. */
static void inherited_read(void (*prepare)(void), char *const *argv, char *output,
                           size_t output_bytes)
{
    int pipe_fds[2], status;
    size_t num_bytes = 0;
    ssize_t num_read;
    pid_t pid;

    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    if (pid == 0) {
        struct rlimit raised = {4096, 4096};
        struct launch *launch;
        sigset_t set;

        dup2(pipe_fds[1], 1);
        close_range(3, ~0U, 0);
        prepare();
        launch_remember();
        for (int number = 1; number < 32; number++)
            signal(number, launch_was_ignored(number) ? SIG_DFL : SIG_IGN);
        sigfillset(&set);
        sigprocmask(SIG_SETMASK, &set, NULL);
        setrlimit(RLIMIT_NOFILE, &raised);
        if (launch_start(argv, &launch) || launch_go(launch) ||
            !launch_wait(launch, true, &status, NULL))
            _exit(4);
        _exit(WEXITSTATUS(status));
    }
    close(pipe_fds[1]);
    while ((num_read = read(pipe_fds[0], output + num_bytes, output_bytes - 1 - num_bytes)) > 0)
        num_bytes += (size_t)num_read;
    output[num_bytes] = '\0';
    close(pipe_fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Whoever runs the tests may ignore signals: a shell does for what it runs in the background. */
static void reset_signals(void)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
}

static void prepare_odd(void)
{
    struct rlimit limit = {123, 4096};
    sigset_t set;

    reset_signals();
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_SETMASK, &set, NULL);
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void prepare_plain(void)
{
    reset_signals();
}

/* The signals ignored by a status file. 32 and 33 are glibc's own: its posix_spawn (make uses it)
 * leaves them ignored, and nobody can reset them. */
static uint64_t ignored_signals(const char *status_text)
{
    const char *line = strstr(status_text, "SigIgn:\t");

    assert_non_null(line);
    return strtoull(line + strlen("SigIgn:\t"), NULL, 16) & 0x7fffffff;
}

static void command_inherits_what_we_found(void **state)
{
    char *status_argv[] = {"cat", "/proc/self/status", "/proc/self/limits", NULL};
    char *fd_argv[] = {"ls", "/proc/self/fd", NULL};
    static char output[16384];

    (void)state;
    inherited_read(prepare_odd, status_argv, output, sizeof(output));
    assert_int_equal(ignored_signals(output), 0x10001);
    assert_non_null(strstr(output, "SigBlk:\t0000000000000200"));
    assert_non_null(strstr(output, "Max open files            123                  4096"));
    inherited_read(prepare_plain, status_argv, output, sizeof(output));
    assert_int_equal(ignored_signals(output), 0);
    assert_non_null(strstr(output, "SigBlk:\t0000000000000000"));
    inherited_read(prepare_plain, fd_argv, output, sizeof(output));
    assert_string_equal(output, "0\n1\n2\n3\n"); /* 3 is the directory that ls reads */
}

static void status_is_known_though_sigchld_was_ignored(void **state)
{
    char *argv[] = {"sh", "-c", "exit 5", NULL};
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        signal(SIGCHLD, SIG_IGN);
        launch_remember();
        _exit(WEXITSTATUS(run(argv)));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 5);
}

static void child_without_a_go_goes_with_us(void **state)
{
    char *argv[] = {"sleep", "60", NULL};
    struct launch *launch;
    pid_t pid, killed, waiting;
    int from[2];

    (void)state;
    assert_success(launch_start(argv, &launch));
    pid = launch_pid(launch);
    launch_destroy(launch);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    /* Killed before the go: the child sees the pipe close and ends; its end closes our pipe. */
    assert_int_equal(pipe(from), 0);
    killed = fork();
    if (killed == 0) {
        close(from[0]);
        if (!launch_start(argv, &launch)) {
            waiting = launch_pid(launch);
            (void)!write(from[1], &waiting, sizeof(waiting));
        }
        pause();
    }
    close(from[1]);
    assert_int_equal(read(from[0], &waiting, sizeof(waiting)), sizeof(waiting));
    kill(killed, SIGKILL);
    assert_int_equal(waitpid(killed, NULL, 0), killed);
    assert_int_equal(read(from[0], &waiting, 1), 0);
    close(from[0]);
}

static void running_command_outlives_its_launch(void **state)
{
    char *argv[] = {"sleep", "60", NULL};
    struct launch *launch;
    pid_t pid;

    (void)state;
    assert_success(launch_start(argv, &launch));
    pid = launch_pid(launch);
    assert_success(launch_go(launch));
    launch_destroy(launch);
    assert_int_equal(kill(pid, 0), 0);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(command_waits_for_its_go, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(end_of_the_command_is_told, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(cpu_time_of_the_command_is_told, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(missing_command_is_named, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(what_is_not_executable_is_refused, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(refusal_of_execve_comes_back, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(script_without_interpreter_is_run_by_the_shell,
                                        directory_setup, directory_teardown),
        cmocka_unit_test_setup_teardown(command_is_searched_as_execvp_does, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(command_inherits_what_we_found, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(status_is_known_though_sigchld_was_ignored, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(child_without_a_go_goes_with_us, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(running_command_outlives_its_launch, directory_setup,
                                        directory_teardown),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
