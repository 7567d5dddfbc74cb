#include "sampler/heap_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/array.h"
#include "base/log.h"
#include "sampler/perf_event.h"

#define KEEPER_NAME "breakpoints" /* no killall of our own name is meant for it */
#define MAX_PROBES 1024           /* in one request */
#define MAX_KEPT_FDS 16

enum request_type { REQUEST_SET, REQUEST_OPEN, REQUEST_DROP, REQUEST_DROP_ALL };

/* What it is told; REQUEST_SET is followed by the probes, REQUEST_OPEN by the attributes of the
 * event, and both come with a descriptor. */
struct request {
    uint32_t type;
    uint32_t number;
    int32_t pid;
    uint32_t num_probes;
};

/* What it answers, to all but REQUEST_DROP; to REQUEST_OPEN with a descriptor. */
struct answer {
    uint32_t is_error;
    uint32_t kind; /* enum error_kind */
    int32_t errno_value;
    char message[256];
    char hint[256];
};

struct heap_keeper {
    pid_t pid;
    int fd;
};

/* The links of one process. */
struct kept {
    uint32_t number;
    struct heap_links links;
};

/* The keeper itself. */
struct state {
    const struct heap_programs *programs;
    int fd;
    int parent_fd;     /* pidfd of the process that it is for, or -1 */
    struct kept *kept; /* in no order */
    size_t num_kept, capacity;
    size_t num_closing; /* threads that close links, atomic */
    union {
        struct heap_probe probes[MAX_PROBES];
        struct perf_event_attr attr;
    } payload;
    size_t payload_bytes;
};

/* Room for one descriptor on its way through a socket. */
union fd_control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

/* Lets a message carry a descriptor. control: lives as long as the message. */
static void message_put_fd(struct msghdr *message, union fd_control *control, int fd)
{
    *control = (union fd_control){.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                                             .cmsg_level = SOL_SOCKET,
                                             .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control->header), &fd, sizeof(fd));
    message->msg_control = control;
    message->msg_controllen = sizeof(*control);
}

/* Tells the descriptor that came with a message; -1: none. */
static int message_take_fd(const struct msghdr *message)
{
    const struct cmsghdr *header = CMSG_FIRSTHDR(message);
    int fd = -1;

    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(fd)))
        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/* Finds the links of a process, or makes room for them. */
static struct error *find_kept(struct state *state, uint32_t number, struct kept **kept_ret)
{
    for (size_t i = 0; i < state->num_kept; i++) {
        if (state->kept[i].number == number) {
            *kept_ret = &state->kept[i];
            return NULL;
        }
    }
    RETURN_IF_ERROR(
        array_reserve(&state->kept, &state->capacity, state->num_kept + 1, sizeof(*state->kept)));
    *kept_ret = &state->kept[state->num_kept++];
    **kept_ret = (struct kept){.number = number};
    return NULL;
}

static struct error *set(struct state *state, const struct request *request, int file_fd)
{
    struct kept *kept;
    char path[32];

    RETURN_IF_ERROR(find_kept(state, request->number, &kept));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
    return heap_probes_set(state->programs, request->pid, path, state->payload.probes,
                           request->num_probes, &kept->links);
}

/* Opens an event and keeps a descriptor of its own, which is the last one to be closed.
 * fd_ret: borrowed from `state`. */
static struct error *open_event(struct state *state, const struct request *request, int file_fd,
                                int *fd_ret)
{
    struct perf_event_attr attr = state->payload.attr;
    struct kept *kept;
    char path[32];
    int fd;

    RETURN_IF_ERROR(find_kept(state, request->number, &kept));
    RETURN_IF_ERROR(array_reserve(&kept->links.fds, &kept->links.capacity, kept->links.num_fds + 1,
                                  sizeof(*kept->links.fds)));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
    attr.config1 = (uintptr_t)path; /* uprobe_path */
    fd = perf_event_open(&attr, request->pid, -1);
    if (fd < 0)
        return error_from_errno(-fd, NULL, "a perf event");
    kept->links.fds[kept->links.num_fds++] = fd;
    *fd_ret = fd;
    return NULL;
}

static void drop(struct state *state, uint32_t number)
{
    for (size_t i = 0; i < state->num_kept; i++) {
        if (state->kept[i].number != number)
            continue;
        heap_links_close_later(&state->kept[i].links, &state->num_closing);
        state->kept[i] = state->kept[--state->num_kept];
        return;
    }
}

/* Takes all away, and waits for what is on its way. */
static void drop_all(struct state *state)
{
    struct heap_links all = {0};

    for (size_t i = 0; i < state->num_kept; i++) {
        /* Without memory for all in one list, those of this process have their turn alone. */
        if (!heap_links_move(&state->kept[i].links, &all))
            heap_links_close(&state->kept[i].links);
    }
    state->num_kept = 0;
    heap_links_close(&all);
    while (__atomic_load_n(&state->num_closing, __ATOMIC_ACQUIRE) > 0)
        usleep(1000);
}

/* Waits for the next request. Returns: false when our side is gone. Its end is seen by itself, too:
 * another child of it may have a copy of our socket. */
static bool await_request(const struct state *state)
{
    struct pollfd poll_fds[] = {{.fd = state->fd, .events = POLLIN},
                                {.fd = state->parent_fd, .events = POLLIN}};

    while (poll(poll_fds, 2, -1) < 0) {
        if (errno != EINTR)
            return false;
    }
    return poll_fds[1].revents == 0;
}

/* Reads the next request. file_fd_ret: the descriptor that came with it, or -1. Returns: false when
 * our side is gone. */
static bool read_request(struct state *state, struct request *request, int *file_fd_ret)
{
    struct iovec parts[] = {{request, sizeof(*request)}, {&state->payload, sizeof(state->payload)}};
    union fd_control control;
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t num_bytes;

    *file_fd_ret = -1;
    do
        num_bytes = recvmsg(state->fd, &message, MSG_CMSG_CLOEXEC);
    while (num_bytes < 0 && errno == EINTR);
    if (num_bytes < (ssize_t)sizeof(*request))
        return false;
    *file_fd_ret = message_take_fd(&message);
    state->payload_bytes = (size_t)num_bytes - sizeof(*request);
    return request->num_probes <= MAX_PROBES &&
           state->payload_bytes >= request->num_probes * sizeof(struct heap_probe) &&
           (request->type != REQUEST_OPEN || state->payload_bytes == sizeof(state->payload.attr));
}

/* fd: goes along; -1: none. */
static bool send_answer(const struct state *state, const struct error *err, int fd)
{
    struct answer answer = {0};
    struct iovec part = {&answer, sizeof(answer)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union fd_control control;

    if (err) {
        answer.is_error = 1;
        answer.kind = err->kind;
        answer.errno_value = err->errno_value;
        snprintf(answer.message, sizeof(answer.message), "%s", err->message);
        snprintf(answer.hint, sizeof(answer.hint), "%s", err->hint ? err->hint : "");
    }
    if (fd >= 0)
        message_put_fd(&message, &control, fd);
    return sendmsg(state->fd, &message, MSG_NOSIGNAL) == sizeof(answer);
}

/* Does as it is told until our side is gone. */
static void serve(struct state *state)
{
    struct request request = {0};
    int file_fd;

    while (await_request(state) && read_request(state, &request, &file_fd)) {
        CLEANUP(error_destroy) struct error *err = NULL;
        CLEANUP(close) UNUSED int guard = file_fd;
        int event_fd = -1;

        if (request.type == REQUEST_DROP) {
            drop(state, request.number);
            continue;
        }
        if (request.type == REQUEST_SET)
            err = set(state, &request, file_fd);
        else if (request.type == REQUEST_OPEN)
            err = open_event(state, &request, file_fd, &event_fd);
        else
            drop_all(state);
        if (!send_answer(state, err, event_fd))
            return;
    }
}

static int compare_fds(const void *left, const void *right)
{
    int a = *(const int *)left;
    int b = *(const int *)right;

    return (a > b) - (a < b);
}

/* Closes all descriptors but these: a pipe of ours that it held would never end for its reader. */
static void close_others(int *fds, size_t num_fds)
{
    unsigned first = 0;

    qsort(fds, num_fds, sizeof(*fds), compare_fds);
    for (size_t i = 0; i < num_fds; i++) {
        if (fds[i] < 0)
            continue;
        if ((unsigned)fds[i] > first)
            syscall(SYS_close_range, first, (unsigned)fds[i] - 1, 0);
        first = (unsigned)fds[i] + 1;
    }
    syscall(SYS_close_range, first, ~0u, 0);
}

static void leave_our_life(const struct state *state)
{
    const struct heap_programs *programs = state->programs;
    int fds[MAX_KEPT_FDS] = {state->fd, state->parent_fd};
    size_t num_fds = 2;
    sigset_t all;
    int score_fd;

    if (programs) {
        fds[num_fds++] = programs->call_fd;
        fds[num_fds++] = programs->return_fd;
        num_fds += heap_bpf_list_fds(programs->bpf, fds + num_fds, MAX_KEPT_FDS - num_fds);
    }
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setsid();
    prctl(PR_SET_NAME, KEEPER_NAME, 0, 0, 0);
    score_fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score_fd >= 0 && write(score_fd, "-1000", 5) < 0)
        (void)0; /* only with CAP_SYS_RESOURCE */
    close_others(fds, num_fds);
}

static _Noreturn void run_keeper(const struct heap_programs *programs, int fd, pid_t parent)
{
    static struct state state;

    state.programs = programs;
    state.fd = fd;
    state.parent_fd = (int)syscall(SYS_pidfd_open, parent, 0);
    leave_our_life(&state);
    if (getppid() == parent)
        serve(&state);
    drop_all(&state);
    _exit(0);
}

struct error *heap_keeper_start(const struct heap_programs *programs,
                                struct heap_keeper **keeper_ret)
{
    CLEANUP(free) struct heap_keeper *keeper = calloc(1, sizeof(*keeper));
    pid_t parent = getpid();
    int fds[2];
    pid_t pid;

    if (!keeper)
        return &error_no_memory;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
        return error_from_errno(errno, NULL, "can't start a process");
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        run_keeper(programs, fds[1], parent);
    }
    close(fds[1]);
    if (pid < 0) {
        int err = errno;

        close(fds[0]);
        return error_from_errno(err, NULL, "can't start a process");
    }
    *keeper = (struct heap_keeper){.pid = pid, .fd = fds[0]};
    *keeper_ret = take_ptr(keeper);
    return NULL;
}

/* payload: follows the request; NULL: nothing. */
static bool send_request(const struct heap_keeper *keeper, const struct request *request,
                         const void *payload, size_t payload_bytes, int file_fd)
{
    struct iovec parts[] = {{(void *)request, sizeof(*request)}, {(void *)payload, payload_bytes}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = payload_bytes ? 2 : 1};
    union fd_control control;
    ssize_t result;

    if (file_fd >= 0)
        message_put_fd(&message, &control, file_fd);
    do
        result = sendmsg(keeper->fd, &message, MSG_NOSIGNAL);
    while (result < 0 && errno == EINTR);
    return result >= 0;
}

/* Waits for the answer. fd_ret: the descriptor that came with it, or -1. Returns: the error that it
 * tells. */
static struct error *read_answer(const struct heap_keeper *keeper, int *fd_ret)
{
    struct answer answer;
    struct iovec part = {&answer, sizeof(answer)};
    union fd_control control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct error *err;
    ssize_t num_bytes;

    *fd_ret = -1;
    do
        num_bytes = recvmsg(keeper->fd, &message, MSG_CMSG_CLOEXEC);
    while (num_bytes < 0 && errno == EINTR);
    if (num_bytes != sizeof(answer))
        return error_create(ERROR_FAILED, "start the recording again",
                            "our process that holds the breakpoints was killed");
    *fd_ret = message_take_fd(&message);
    if (!answer.is_error)
        return NULL;
    if (answer.kind == ERROR_NO_MEMORY)
        return &error_no_memory;
    err = error_create((enum error_kind)answer.kind, answer.hint[0] ? answer.hint : NULL, "%s",
                       answer.message);
    if (err != &error_no_memory)
        err->errno_value = answer.errno_value;
    return err;
}

struct error *heap_keeper_set(struct heap_keeper *keeper, uint32_t number, pid_t pid, int file_fd,
                              const struct heap_probe *probes, size_t num_probes)
{
    const struct request request = {REQUEST_SET, number, pid, (uint32_t)num_probes};
    int no_fd;

    if (num_probes > MAX_PROBES)
        return error_create(ERROR_FAILED, NULL, "more than %d allocator functions in one module",
                            MAX_PROBES);
    /* Without it there is no answer, too. */
    (void)send_request(keeper, &request, probes, num_probes * sizeof(*probes), file_fd);
    return read_answer(keeper, &no_fd);
}

struct error *heap_keeper_open_event(struct heap_keeper *keeper, uint32_t number, pid_t tid,
                                     int file_fd, const struct perf_event_attr *attr, int *fd_ret)
{
    const struct request request = {.type = REQUEST_OPEN, .number = number, .pid = tid};
    struct error *err;
    int fd;

    (void)send_request(keeper, &request, attr, sizeof(*attr), file_fd);
    err = read_answer(keeper, &fd);
    if (!err && fd < 0) /* too many open files on our side: the kernel leaves it out */
        err = error_from_errno(EMFILE, NULL, "a perf event");
    if (!err)
        *fd_ret = fd;
    return err;
}

void heap_keeper_drop(struct heap_keeper *keeper, uint32_t number)
{
    const struct request request = {.type = REQUEST_DROP, .number = number};

    (void)send_request(keeper, &request, NULL, 0, -1);
}

void heap_keeper_drop_all(struct heap_keeper *keeper)
{
    const struct request request = {.type = REQUEST_DROP_ALL};
    CLEANUP(error_destroy) struct error *err = NULL;
    int no_fd;

    (void)send_request(keeper, &request, NULL, 0, -1);
    err = read_answer(keeper, &no_fd);
    if (err)
        log_warning("%s", err->message);
}

bool heap_keeper_is_gone(const struct heap_keeper *keeper)
{
    struct pollfd poll_fd = {.fd = keeper->fd, .events = POLLRDHUP};

    return poll(&poll_fd, 1, 0) == 1;
}

void heap_keeper_stop(struct heap_keeper *keeper)
{
    if (!keeper)
        return;
    heap_keeper_drop_all(keeper);
    shutdown(keeper->fd, SHUT_RDWR); /* another child of ours may have a copy */
    close(keeper->fd);
    while (waitpid(keeper->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    free(keeper);
}
