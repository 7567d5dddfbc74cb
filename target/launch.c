#include "target/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/procfs.h"

#define SHELL "/bin/sh"
#define DEFAULT_PATH "/bin:/usr/bin" /* execvp(3): without PATH, since glibc 2.24 */
#define NUM_SIGNALS 65               /* 1..64 on Linux */

struct launch {
    pid_t pid;
    int pidfd;
    int go_fd;    /* closed, or a byte: the child goes on; -1 after that */
    int errno_fd; /* the child's report: an errno, or nothing when execve closed it */
    char *path;   /* what is executed */
    bool has_ended;
    int status;
    unsigned long long cpu_ns;
    unsigned long long own_rss_bytes; /* our peak when it was forked */
    unsigned long long peak_rss_bytes;
};

/* What main() found when it began; restored in the child. */
static struct {
    bool is_known;
    bool is_ignored[NUM_SIGNALS];
    sigset_t mask;
    bool has_limit;
    struct rlimit num_files;
} remembered;

void launch_remember(void)
{
    for (int number = 1; number < NUM_SIGNALS; number++) {
        struct sigaction action;

        remembered.is_ignored[number] =
            sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
    }
    sigprocmask(SIG_SETMASK, NULL, &remembered.mask);
    remembered.has_limit = getrlimit(RLIMIT_NOFILE, &remembered.num_files) == 0;
    remembered.is_known = true;
}

bool launch_was_ignored(int signal_number)
{
    return signal_number > 0 && signal_number < NUM_SIGNALS && remembered.is_ignored[signal_number];
}

/* Says why `command` can't be executed, in the operator's words. */
static struct error *exec_error(const char *command, int err)
{
    switch (err) {
    case ENOENT:
    case ENOTDIR:
        if (command[0] == '\0')
            return error_create(ERROR_NOT_FOUND, NULL, "no such command: its name is empty");
        if (strchr(command, '/'))
            return error_create(ERROR_NOT_FOUND, "check the path, and that of its #! line",
                                "no such command: %s", command);
        return error_create(ERROR_NOT_FOUND, "check PATH; a file in this directory is ./NAME",
                            "no such command: %s", command);
    case EISDIR:
        return error_create(ERROR_PERMISSION, "name a program in it",
                            "not executable: %s: Is a directory", command);
    case EACCES:
        return error_create(ERROR_PERMISSION, "make it executable: chmod +x, and no noexec mount",
                            "not executable: %s: Permission denied", command);
    case ENOEXEC:
        return error_create(ERROR_PERMISSION, "it is no program for this machine",
                            "not executable: %s: Exec format error", command);
    default:
        return error_from_errno(err, NULL, "cannot execute %s", command);
    }
}

/* Tells whether `path` can be executed. Returns: 0, ENOENT, EISDIR, EACCES ... */
static int executable_check(const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0)
        return errno;
    if (S_ISDIR(status.st_mode))
        return EISDIR;
    if (!S_ISREG(status.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0)
        return EACCES;
    return 0;
}

/* Looks through PATH as execvp(3) does: an empty element is the working directory; what exists but
 * can't be executed is passed over and remembered.
 * path_ret: heap; NULL when there is none, then err_ret says why. */
static struct error *path_search(const char *command, char **path_ret, int *err_ret)
{
    const char *element = getenv("PATH");

    element = element ? element : DEFAULT_PATH;
    *err_ret = ENOENT;
    for (;;) {
        int length = (int)strcspn(element, ":");
        char *path;
        int err;

        if (asprintf(&path, "%.*s%s%s", length, element, length > 0 ? "/" : "", command) < 0)
            return &error_no_memory;
        err = executable_check(path);
        if (err == 0) {
            *path_ret = path;
            return NULL;
        }
        free(path);
        if (err != ENOENT && err != ENOTDIR && err != EISDIR)
            *err_ret = EACCES;
        if (element[length] == '\0')
            return NULL;
        element += length + 1;
    }
}

/* Finds the file that execvp would execute. path_ret, err_ret: as of path_search(). */
static struct error *command_find(const char *command, char **path_ret, int *err_ret)
{
    if (command[0] != '\0' && !strchr(command, '/'))
        return path_search(command, path_ret, err_ret);
    *err_ret = executable_check(command);
    if (*err_ret != 0)
        return NULL;
    *path_ret = strdup(command);
    return *path_ret ? NULL : &error_no_memory;
}

/* Tells whether a file is a script without "#!", to be run by the shell: as shells do, text is what
 * has no NUL byte in its first line. */
static bool is_plain_script(const char *path)
{
    char head[256];
    CLEANUP(close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t num_bytes = fd >= 0 ? read(fd, head, sizeof(head)) : -1;
    const char *line_end;

    if (num_bytes < 0)
        return false;
    line_end = memchr(head, '\n', (size_t)num_bytes);
    return !memchr(head, '\0', line_end ? (size_t)(line_end - head) : (size_t)num_bytes);
}

/* What the child needs; all made before fork, since after it only async-signal-safe functions may
 * be called (signal-safety(7)). */
struct child {
    const char *path;
    char *const *argv;
    char **shell_argv; /* SHELL path argv[1]...; NULL when the shell is no way */
    int go_fd;
    int parent_go_fd; /* the other end: to be closed, so that we see when the parent dies */
    int errno_fd;
};

static void child_restore(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    if (!remembered.is_known)
        return;
    for (int number = 1; number < NUM_SIGNALS; number++) {
        action.sa_handler = remembered.is_ignored[number] ? SIG_IGN : SIG_DFL;
        if (number != SIGKILL && number != SIGSTOP)
            sigaction(number, &action, NULL);
    }
    if (remembered.has_limit)
        setrlimit(RLIMIT_NOFILE, &remembered.num_files);
    sigprocmask(SIG_SETMASK, &remembered.mask, NULL);
}

/* The child: waits for the go, becomes the command. All signals are blocked here until then, so
 * that no handler of cprofiler runs in it. mask: to restore when nothing was remembered. */
static void child_run(const struct child *child, const sigset_t *mask) __attribute__((noreturn));

static void child_run(const struct child *child, const sigset_t *mask)
{
    ssize_t num_bytes;
    char byte;
    int err;

    close(child->parent_go_fd);
    do
        num_bytes = read(child->go_fd, &byte, 1);
    while (num_bytes < 0 && errno == EINTR);
    if (num_bytes != 1)
        _exit(127); /* cprofiler is gone, and with it the reason to run */
    sigprocmask(SIG_SETMASK, mask, NULL);
    child_restore();
    execve(child->path, child->argv, environ);
    err = errno;
    if (err == ENOEXEC && child->shell_argv) {
        execve(SHELL, child->shell_argv, environ);
        err = errno;
    }
    do
        num_bytes = write(child->errno_fd, &err, sizeof(err));
    while (num_bytes < 0 && errno == EINTR);
    _exit(127);
}

/* Makes SHELL's argument vector for a script without "#!"; *argv_ret stays NULL for other files. */
static struct error *shell_argv_make(const char *path, char *const *argv, char ***argv_ret)
{
    size_t num_args = 0;
    char **shell_argv;

    if (!is_plain_script(path))
        return NULL;
    while (argv[num_args])
        num_args++;
    shell_argv = calloc(num_args + 2, sizeof(*shell_argv));
    if (!shell_argv)
        return &error_no_memory;
    shell_argv[0] = (char *)SHELL;
    shell_argv[1] = (char *)path;
    memcpy(shell_argv + 2, argv + 1, (num_args - 1) * sizeof(*shell_argv));
    *argv_ret = shell_argv;
    return NULL;
}

static unsigned long long timeval_ns(const struct timeval *time)
{
    return (unsigned long long)time->tv_sec * 1000000000ULL +
           (unsigned long long)time->tv_usec * 1000ULL;
}

/* Forks the child with all signals blocked. pid_ret: as of fork(2). Returns: NULL or an error. */
static struct error *child_fork(const struct child *child, pid_t *pid_ret)
{
    sigset_t all, mask;
    pid_t pid;
    int err;

    /* With SIGCHLD ignored the kernel would reap the child, and its status be lost (waitpid(2)). */
    if (launch_was_ignored(SIGCHLD))
        signal(SIGCHLD, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &mask);
    pid = fork();
    if (pid == 0)
        child_run(child, &mask);
    err = errno;
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (pid < 0)
        return error_from_errno(err, "too many processes, or too little memory",
                                "cannot start a process");
    *pid_ret = pid;
    return NULL;
}

/* Makes the pipes and forks. */
static struct error *launch_fork(struct launch *launch, char *const *argv)
{
    CLEANUP(free) char **shell_argv = NULL;
    int go[2], report[2];
    struct child child;
    struct error *err;

    RETURN_IF_ERROR(shell_argv_make(launch->path, argv, &shell_argv));
    if (pipe2(go, O_CLOEXEC) != 0)
        return error_from_errno(errno, NULL, "cannot make a pipe");
    launch->go_fd = go[1];
    CLEANUP(close) int go_read_fd = go[0];
    if (pipe2(report, O_CLOEXEC) != 0)
        return error_from_errno(errno, NULL, "cannot make a pipe");
    launch->errno_fd = report[0];
    CLEANUP(close) int report_write_fd = report[1];
    child =
        (struct child){launch->path, argv, shell_argv, go_read_fd, launch->go_fd, report_write_fd};
    launch->own_rss_bytes = procfs_self_peak_rss();
    err = child_fork(&child, &launch->pid);
    if (!err)
        launch->pidfd = (int)syscall(SYS_pidfd_open, launch->pid, 0); /* close-on-exec by itself */
    return err;
}

DEFINE_CLEANUP(launch_destroy, struct launch *)

struct error *launch_start(char *const *argv, struct launch **launch_ret)
{
    CLEANUP(launch_destroy) struct launch *launch = calloc(1, sizeof(*launch));
    int err;

    if (!launch)
        return &error_no_memory;
    launch->pidfd = launch->go_fd = launch->errno_fd = -1;
    launch->pid = -1;
    RETURN_IF_ERROR(command_find(argv[0], &launch->path, &err));
    if (!launch->path)
        return exec_error(argv[0], err);
    RETURN_IF_ERROR(launch_fork(launch, argv));
    *launch_ret = take_ptr(launch);
    return NULL;
}

const char *launch_path(const struct launch *launch)
{
    return launch->path;
}

pid_t launch_pid(const struct launch *launch)
{
    return launch->pid;
}

int launch_pidfd(const struct launch *launch)
{
    return launch->pidfd;
}

/* Sends the go. A child that died meanwhile must not kill us by SIGPIPE. */
static void go_send(struct launch *launch)
{
    struct timespec no_time = {0, 0};
    sigset_t pipe_set, mask;
    ssize_t num_bytes;

    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    sigprocmask(SIG_BLOCK, &pipe_set, &mask);
    do
        num_bytes = write(launch->go_fd, "", 1);
    while (num_bytes < 0 && errno == EINTR);
    if (num_bytes < 0 && errno == EPIPE && !sigismember(&mask, SIGPIPE))
        sigtimedwait(&pipe_set, NULL, &no_time);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    close(launch->go_fd);
    launch->go_fd = -1;
}

struct error *launch_go(struct launch *launch)
{
    ssize_t num_bytes;
    int err;

    go_send(launch);
    do
        num_bytes = read(launch->errno_fd, &err, sizeof(err));
    while (num_bytes < 0 && errno == EINTR);
    close(launch->errno_fd);
    launch->errno_fd = -1;
    if (num_bytes != sizeof(err))
        return NULL;
    launch_wait(launch, true, NULL, NULL);
    return exec_error(launch->path, err);
}

/* Tells whether the child has ended, without reaping it. While the ptrace engine looks at it, its
 * stops show here as well (ptrace(2)): they are the engine's. One that is left when nobody samples
 * any more is let go. */
static bool child_has_ended(pid_t pid, bool wait)
{
    for (;;) {
        siginfo_t info = {.si_pid = 0};

        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | (wait ? 0 : WNOHANG))) {
            if (errno == EINTR)
                continue;
            return true; /* ECHILD: somebody else has reaped it; the status is lost, not the end */
        }
        if (info.si_pid == 0)
            return false;
        if (info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED)
            return true;
        if (!wait)
            return false;
        (void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
    }
}

unsigned long long launch_peak_rss(const struct launch *launch)
{
    /* Before its execve the child had our memory, which the kernel counts as its peak as well. */
    return launch->peak_rss_bytes > launch->own_rss_bytes ? launch->peak_rss_bytes : 0;
}

bool launch_wait(struct launch *launch, bool wait, int *status_ret, unsigned long long *cpu_ns_ret)
{
    if (!launch->has_ended) {
        struct rusage usage = {0};
        int status = 0;

        if (!child_has_ended(launch->pid, wait))
            return false;
        launch->status = wait4(launch->pid, &status, 0, &usage) == launch->pid ? status : 0;
        launch->has_ended = true;
        launch->peak_rss_bytes = (unsigned long long)usage.ru_maxrss * 1024;
        launch->cpu_ns = timeval_ns(&usage.ru_utime) + timeval_ns(&usage.ru_stime);
    }
    if (status_ret)
        *status_ret = launch->status;
    if (cpu_ns_ret)
        *cpu_ns_ret = launch->cpu_ns;
    return true;
}

void launch_destroy(struct launch *launch)
{
    if (!launch)
        return;
    if (launch->pid > 0 && launch->go_fd >= 0 && !launch->has_ended) {
        kill(launch->pid, SIGKILL);
        launch_wait(launch, true, NULL, NULL);
    }
    if (launch->go_fd >= 0)
        close(launch->go_fd);
    if (launch->errno_fd >= 0)
        close(launch->errno_fd);
    if (launch->pidfd >= 0)
        close(launch->pidfd);
    free(launch->path);
    free(launch);
}
