#include "sampler/ptrace_stop.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"

#define PAGE_BYTES 4096u
#define MAX_PIECES 32u   /* of a stack, a page each but the first */
#define CODE_32BIT 0x23u /* selector of 32-bit user code, asm/segment.h __USER32_CS */
#define NS_PER_S 1000000000u

/* Waits for SIGCHLD, which every ptrace stop sends us; the engine keeps it blocked. */
static void wait_for_child(uint64_t wait_ns)
{
    const struct timespec wait = {.tv_sec = (time_t)(wait_ns / NS_PER_S),
                                  .tv_nsec = (long)(wait_ns % NS_PER_S)};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    (void)sigtimedwait(&set, NULL, &wait); /* EAGAIN, EINTR: the caller looks again */
}

/* Waits until the thread has stopped. status_ret: as of waitpid(2), when READ is returned. The end
 * of our own child is only looked at: somebody else waits for it. */
static enum ptrace_stop_result wait_for_stop(pid_t tid, bool is_child, uint64_t deadline_ns,
                                             int *status_ret)
{
    for (;;) {
        siginfo_t info = {.si_pid = 0};
        uint64_t now_ns;

        if (waitid(P_PID, (id_t)tid, &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL)) {
            if (errno == EINTR)
                continue;
            return PTRACE_STOP_GONE;
        }
        if (info.si_pid == tid && info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED) {
            if (!is_child)
                (void)waitpid(tid, NULL, WNOHANG | __WALL);
            return PTRACE_STOP_GONE;
        }
        if (info.si_pid == tid)
            return waitpid(tid, status_ret, WNOHANG | __WALL) == tid ? PTRACE_STOP_READ
                                                                     : PTRACE_STOP_GONE;
        now_ns = clock_monotonic_ns();
        if (now_ns >= deadline_ns)
            return PTRACE_STOP_PENDING;
        wait_for_child(deadline_ns - now_ns);
    }
}

/* Copies the user stack, page by page, so that what lies beyond its end costs only the last. */
static size_t copy_stack(pid_t tid, uint64_t sp, uint8_t *stack, size_t stack_room)
{
    struct iovec local = {.iov_base = stack, .iov_len = stack_room};
    struct iovec pieces[MAX_PIECES];
    size_t num_pieces = 0, num_bytes = 0;
    ssize_t copied;

    while (num_bytes < stack_room && num_pieces < MAX_PIECES) {
        uint64_t address = sp + num_bytes;
        size_t length = PAGE_BYTES - (size_t)(address % PAGE_BYTES);

        if (address < sp)
            break;
        if (length > stack_room - num_bytes)
            length = stack_room - num_bytes;
        pieces[num_pieces++] = (struct iovec){(void *)(uintptr_t)address, length};
        num_bytes += length;
    }
    local.iov_len = num_bytes;
    copied = process_vm_readv(tid, &local, 1, pieces, num_pieces, 0);
    return copied > 0 ? (size_t)copied & ~(size_t)7 : 0;
}

static void set_regs(const struct user_regs_struct *from, struct ptrace_look *look)
{
    const uint64_t regs[SAMPLE_NUM_REGS] = {from->rax, from->rdx, from->rcx, from->rbx, from->rsi,
                                            from->rdi, from->rbp, from->rsp, from->r8,  from->r9,
                                            from->r10, from->r11, from->r12, from->r13, from->r14,
                                            from->r15, from->rip};

    for (size_t i = 0; i < SAMPLE_NUM_REGS; i++)
        look->regs[i] = regs[i];
    look->is_32bit = from->cs == CODE_32BIT;
}

/* Reads the stopped thread. Returns: false when it was killed meanwhile. */
static bool read_thread(pid_t tid, struct ptrace_look *look)
{
    struct user_regs_struct regs;
    struct iovec piece = {.iov_base = &regs, .iov_len = sizeof(regs)};

    if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &piece))
        return false;
    look->stack_bytes = 0;
    if (piece.iov_len != sizeof(regs)) { /* the set of a 32-bit task is smaller */
        look->is_32bit = true;
        for (size_t i = 0; i < SAMPLE_NUM_REGS; i++)
            look->regs[i] = 0;
        return true;
    }
    set_regs(&regs, look);
    if (!look->is_32bit)
        look->stack_bytes = copy_stack(tid, regs.rsp, look->stack, look->stack_room);
    return true;
}

/* The signal that a stop delivers, and that the thread must get when it is let go; 0 for the stop
 * that we asked for and for group stops, which the kernel takes up again by itself. */
static int pending_signal(int status)
{
    return status >> 16 == 0 && WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
}

enum ptrace_stop_result ptrace_stop_continue(pid_t tid, bool is_child, uint64_t patience_ns,
                                             struct ptrace_look *look)
{
    uint64_t stopped_ns;
    enum ptrace_stop_result result;
    int status = 0;
    bool is_read;

    result = wait_for_stop(tid, is_child, clock_monotonic_ns() + patience_ns, &status);
    if (result != PTRACE_STOP_READ)
        return result;
    stopped_ns = clock_monotonic_ns();
    is_read = read_thread(tid, look);
    (void)ptrace(PTRACE_DETACH, tid, NULL, (void *)(long)pending_signal(status));
    look->pause_ns = clock_monotonic_ns() - stopped_ns;
    return is_read ? PTRACE_STOP_READ : PTRACE_STOP_GONE;
}

enum ptrace_stop_result ptrace_stop_read(pid_t tid, bool is_child, uint64_t patience_ns,
                                         struct ptrace_look *look)
{
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL))
        return errno == ESRCH ? PTRACE_STOP_GONE : PTRACE_STOP_REFUSED;
    (void)ptrace(PTRACE_INTERRUPT, tid, NULL, NULL); /* ESRCH: it is ending, the wait tells */
    return ptrace_stop_continue(tid, is_child, patience_ns, look);
}
