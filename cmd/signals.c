#include "cmd/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "target/launch.h"

static volatile sig_atomic_t first_signal;
static volatile sig_atomic_t forward_pid;
static int wake_pipe[2] = {-1, -1};

/* Only async-signal-safe calls here: signal-safety(7). */
static void on_signal(int signal_number, siginfo_t *info, void *context UNUSED)
{
    int saved_errno = errno;

    if (first_signal && signal_number == SIGINT) {
        file_output_emergency_unlink();
        _exit(128 + SIGINT);
    }
    if (!first_signal)
        first_signal = signal_number;
    /* si_code > 0: the kernel (terminal) sent it, and the command in our process group has it too.
     */
    if (forward_pid > 0 && info->si_code <= 0)
        kill((pid_t)forward_pid, signal_number);
    if (write(wake_pipe[1], "", 1) < 0) {
        /* The pipe is full: it is readable all the same. */
    }
    errno = saved_errno;
}

struct error *signals_install(void)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

    if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK))
        return error_from_errno(errno, NULL, "cannot make a pipe for signals");
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LENGTH(ending); i++) {
        if (launch_was_ignored(ending[i]) && ending[i] != SIGTERM)
            continue;
        sigaction(ending[i], &action, NULL);
    }
    /* A reader of our stderr that goes away, or a file size limit, must not end a recording: the
     * write fails instead, with EPIPE or EFBIG. The command gets both as they were
     * (target/launch.c). */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    return NULL;
}

int signals_fd(void)
{
    return wake_pipe[0];
}

int signals_received(void)
{
    return first_signal;
}

void signals_rearm(void)
{
    char bytes[64];

    first_signal = 0;
    while (read(wake_pipe[0], bytes, sizeof(bytes)) > 0)
        continue;
}

void signals_forward_to(pid_t pid)
{
    forward_pid = pid;
}

int signals_end_as(int status)
{
    struct rlimit no_core = {0, 0};
    sigset_t set;

    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    if (!WIFSIGNALED(status))
        return 1;
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_DUMPABLE, 0);
    signal(WTERMSIG(status), SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, WTERMSIG(status));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(WTERMSIG(status));
    return 128 + WTERMSIG(status);
}
