#include "sampler/heap_trial.h"

#include <errno.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sampler/heap_bpf.h"
#include "sampler/heap_probes.h"

#define CHECKED_CALLS 4 /* of each function in each of two threads */
#define NUM_ROUNDS 9    /* the median of which counts */
#define ROUND_CALLS 250
#define ROUND_STEPPED_CALLS 25 /* these are dear */
#define MAX_LIVE 64
#define CHILD_MS 5000 /* longer, and it hangs */
#define THREAD_STACK_BYTES 65536

/* The functions: their first instruction is a push, which the kernel emulates, as in most
 * allocators; or one that it has to step. */
__asm__(".pushsection .text\n"
        ".balign 16\n"
        "heap_trial_alloc: push %rbp\n mov %rsp, %rax\n pop %rbp\n ret\n"
        ".balign 16\n"
        "heap_trial_free: push %rbp\n mov %rsp, %rax\n pop %rbp\n ret\n"
        ".balign 16\n"
        "heap_trial_stepped: mov %rsp, %rax\n push %rbp\n pop %rbp\n ret\n"
        ".balign 16\n"
        "heap_trial_plain: push %rbp\n mov %rsp, %rax\n pop %rbp\n ret\n"
        ".popsection\n");
extern void *heap_trial_alloc(size_t num_bytes);
extern void *heap_trial_free(size_t address);
extern void *heap_trial_stepped(size_t address);
extern void *heap_trial_plain(size_t any);

/* What the child tells in the end, ns for each call. */
struct report {
    bool has_filter;
    double plain_ns, alloc_ns, free_ns, stepped_ns;
};

static void call_checked(void)
{
    for (size_t i = 0; i < CHECKED_CALLS; i++) {
        heap_trial_alloc(4096);
        heap_trial_free(16);
        heap_trial_stepped(16);
    }
}

static int run_thread(void *context)
{
    (void)context;
    call_checked();
    return 0;
}

/* Calls in a second thread, and waits for its end. It shares our libc's idea of a thread, so it may
 * do nothing else. */
static bool call_in_thread(void)
{
    static uint8_t stack[THREAD_STACK_BYTES] __attribute__((aligned(16)));
    static int thread_id = 1;
    const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                      CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
    int value;

    if (clone(run_thread, stack + sizeof(stack), flags, NULL, NULL, NULL, &thread_id) < 0)
        return false;
    while ((value = __atomic_load_n(&thread_id, __ATOMIC_ACQUIRE)) != 0)
        syscall(SYS_futex, &thread_id, FUTEX_WAIT, value, NULL, NULL, 0);
    return true;
}

/* Lets nothing but what the child still needs through. Returns: false where there is no seccomp. */
static bool install_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_LENGTH(code), code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

/* Tells the CPU time of a call in ns: the median of some rounds. */
static double time_calls(void *(*function)(size_t), size_t num_calls)
{
    double rounds[NUM_ROUNDS];

    for (size_t i = 0; i < NUM_ROUNDS; i++) {
        struct timespec start, end;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
        for (size_t j = 0; j < num_calls; j++)
            function(16);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        rounds[i] =
            ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
            (double)num_calls;
    }
    qsort(rounds, NUM_ROUNDS, sizeof(rounds[0]), compare_doubles);
    return rounds[NUM_ROUNDS / 2];
}

/* The child: waits for the breakpoints, makes the calls that are checked, waits until sampling is
 * off, and times calls. */
static _Noreturn void run_child(int fd, bool with_filter)
{
    struct report report = {0};
    char byte;

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (read(fd, &byte, 1) != 1 || !call_in_thread())
        _exit(1);
    report.has_filter = with_filter && install_filter();
    call_checked();
    if (write(fd, "", 1) != 1 || read(fd, &byte, 1) != 1)
        _exit(1);
    report.plain_ns = time_calls(heap_trial_plain, ROUND_CALLS);
    report.alloc_ns = time_calls(heap_trial_alloc, ROUND_CALLS);
    report.free_ns = time_calls(heap_trial_free, ROUND_CALLS);
    report.stepped_ns = time_calls(heap_trial_stepped, ROUND_STEPPED_CALLS);
    _exit(write(fd, &report, sizeof(report)) == sizeof(report) ? 0 : 1);
}

/* A child with our end of its socket. */
struct child {
    pid_t pid;
    int fd;
};

static void end_child(struct child *child)
{
    if (child->fd >= 0)
        close(child->fd);
    if (child->pid > 0) {
        kill(child->pid, SIGKILL);
        while (waitpid(child->pid, NULL, __WALL) < 0 && errno == EINTR)
            ;
    }
    *child = (struct child){0, -1};
}

DEFINE_CLEANUP(end_child, struct child *)

static struct error *start_child(bool with_filter, struct child *child_ret)
{
    int fds[2];
    long pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return error_from_errno(errno, NULL, "can't try breakpoints");
    /* Without a signal at its end: the session waits for those of its own children. And as it only
     * makes system calls, libc need not know of it. */
    pid = syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
    if (pid == 0) {
        close(fds[0]);
        run_child(fds[1], with_filter);
    }
    close(fds[1]);
    *child_ret = (struct child){.pid = (pid_t)pid, .fd = fds[0]};
    return pid < 0 ? error_from_errno(errno, NULL, "can't try breakpoints") : NULL;
}

/* Lets the child go on, and reads what it has to say. Returns: false when it dies instead. */
static bool ask_child(const struct child *child, void *answer, size_t num_bytes)
{
    struct pollfd poll_fd = {.fd = child->fd, .events = POLLIN};

    if (send(child->fd, "", 1, MSG_NOSIGNAL) != 1)
        return false;
    while (poll(&poll_fd, 1, CHILD_MS) < 0) {
        if (errno != EINTR)
            return false;
    }
    return recv(child->fd, answer, num_bytes, MSG_WAITALL | MSG_DONTWAIT) == (ssize_t)num_bytes;
}

/* Makes the three sites. */
static struct error *make_probes(struct heap_bpf *bpf, struct heap_probe probes[3])
{
    void *(*const functions[3])(size_t) = {heap_trial_alloc, heap_trial_free, heap_trial_stepped};

    for (size_t i = 0; i < 3; i++) {
        struct heap_bpf_site site = {
            .is_free = i > 0,
            .is_stepped = i == 2,
            .count_argument = HEAP_BPF_NO_ARGUMENT,
            .old_argument = i > 0 ? 0 : HEAP_BPF_NO_ARGUMENT,
            .out_argument = HEAP_BPF_NO_ARGUMENT,
        };
        uint32_t index;

        if (!heap_probes_own_offset((uintptr_t)functions[i], &probes[i].file_off))
            return error_create(ERROR_UNSUPPORTED, NULL, "can't find ourselves in our file");
        RETURN_IF_ERROR(heap_bpf_add_site(bpf, &site, &index));
        probes[i].cookie = HEAP_BPF_COOKIE(1, index);
        probes[i].catches_returns = i == 0;
    }
    return NULL;
}

/* Says whether all that was called was seen. Samples are lost on purpose, they have no ring: so it
 * is known that their returns were caught. */
static struct error *check_counts(const struct heap_bpf *bpf, enum heap_mechanism mechanism)
{
    struct heap_bpf_cpu sum;

    heap_bpf_count(bpf, &sum);
    if (sum.num_allocs == 2 * CHECKED_CALLS && sum.num_frees == 4 * CHECKED_CALLS &&
        sum.num_stepped == 2 * CHECKED_CALLS && sum.num_lost == 2 * CHECKED_CALLS)
        return NULL;
    return error_create(ERROR_UNSUPPORTED, NULL,
                        "%s do not see all calls: %llu of %d, and %llu returns",
                        heap_mechanism_name(mechanism), (unsigned long long)sum.num_allocs,
                        2 * CHECKED_CALLS, (unsigned long long)sum.num_lost);
}

/* Runs a child that is probed already. is_killed_ret: it died of its seccomp filter. */
static struct error *watch_child(const struct heap_bpf *bpf, enum heap_mechanism mechanism,
                                 const struct child *child, struct report *report_ret,
                                 bool *is_killed_ret)
{
    siginfo_t info = {0};
    char byte;

    heap_bpf_set_rate(bpf, 1);
    if (ask_child(child, &byte, 1)) {
        RETURN_IF_ERROR(check_counts(bpf, mechanism));
        heap_bpf_set_rate(bpf, HEAP_MAX_RATE_BYTES);
        if (ask_child(child, report_ret, sizeof(*report_ret)))
            return NULL;
    }
    *is_killed_ret =
        waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOWAIT | WNOHANG | (int)__WALL) == 0 &&
        info.si_code != CLD_EXITED && info.si_status == SIGSYS;
    return *is_killed_ret ? NULL
                          : error_create(ERROR_UNSUPPORTED, NULL, "%s end a program",
                                         heap_mechanism_name(mechanism));
}

static struct error *try_once(enum heap_mechanism mechanism, bool with_filter,
                              struct report *report_ret, bool *is_killed_ret)
{
    CLEANUP(heap_bpf_destroy) struct heap_bpf *bpf = NULL;
    struct child child = {0, -1};
    CLEANUP(end_child) UNUSED struct child *child_guard = &child;
    struct heap_programs programs = {.call_fd = -1, .return_fd = -1};
    struct heap_links links = {0};
    struct heap_probe probes[3];
    struct error *err;

    RETURN_IF_ERROR(heap_bpf_create(MAX_LIVE, &bpf));
    RETURN_IF_ERROR(make_probes(bpf, probes));
    RETURN_IF_ERROR(start_child(with_filter, &child));
    RETURN_IF_ERROR(heap_programs_load(bpf, mechanism, &programs));
    err = heap_probes_set(&programs, child.pid, "/proc/self/exe", probes, ARRAY_LENGTH(probes),
                          &links);
    heap_programs_deinit(&programs);
    if (!err)
        err = watch_child(bpf, mechanism, &child, report_ret, is_killed_ret);
    end_child(&child); /* with its memory the breakpoints are gone: closing has little to do */
    heap_links_close_later(&links, NULL);
    return err;
}

struct error *heap_trial_run(enum heap_mechanism mechanism, struct heap_trial *trial_ret)
{
    struct report report = {0};
    bool is_killed = false;
    bool is_safe;

    RETURN_IF_ERROR(try_once(mechanism, true, &report, &is_killed));
    is_safe = !is_killed;
    if (is_killed)
        RETURN_IF_ERROR(try_once(mechanism, false, &report, &is_killed));
    *trial_ret = (struct heap_trial){
        .is_seccomp_safe = is_safe,
        .costs = {.alloc_ns = report.alloc_ns - report.plain_ns,
                  .free_ns = report.free_ns - report.plain_ns,
                  .stepped_ns = report.stepped_ns - report.free_ns},
    };
    return NULL;
}
