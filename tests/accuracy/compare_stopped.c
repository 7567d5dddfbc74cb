/* Prints our chain of each thread of a process that is stopped (SIGSTOP), as `TID PC...;REASON`
 * in hexadecimal, leaf first, callers as return address - 1: to be held against gdb and eu-stack.
 *
 * Usage: compare_stopped PID TID...
 * Its own children excepted, ptrace changes nothing here: a stopped thread stays stopped.
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "sampler/sampler.h"
#include "unwind/unwind.h"

static void fail(struct error *err)
{
    if (!err)
        return;
    fprintf(stderr, "compare_stopped: %s\n", err->message);
    exit(2);
}

/* Reads the registers of a stopped thread. Returns: false when it can't be had. */
static bool read_regs(pid_t tid, struct user_regs_struct *regs)
{
    struct iovec into = {regs, sizeof(*regs)};
    bool is_read;
    int status;

    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0 ||
        ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0)
        return false;
    while (waitpid(tid, &status, __WALL) < 0 && errno == EINTR)
        ;
    is_read =
        WIFSTOPPED(status) && ptrace(PTRACE_GETREGSET, tid, (void *)(long)NT_PRSTATUS, &into) == 0;
    ptrace(PTRACE_DETACH, tid, NULL, NULL);
    return is_read;
}

static void fill_sample(const struct user_regs_struct *regs, pid_t pid, pid_t tid, uint8_t *stack,
                        struct sample *sample)
{
    const uint64_t values[SAMPLE_NUM_REGS] = {regs->rax, regs->rdx, regs->rcx, regs->rbx, regs->rsi,
                                              regs->rdi, regs->rbp, regs->rsp, regs->r8,  regs->r9,
                                              regs->r10, regs->r11, regs->r12, regs->r13, regs->r14,
                                              regs->r15, regs->rip};
    struct iovec local = {stack, SAMPLER_DEFAULT_STACK_BYTES};
    struct iovec remote = {(void *)(uintptr_t)regs->rsp, SAMPLER_DEFAULT_STACK_BYTES};
    ssize_t num_bytes = process_vm_readv(pid, &local, 1, &remote, 1, 0);

    *sample = (struct sample){.pid = (uint32_t)pid,
                              .tid = (uint32_t)tid,
                              .pc = regs->rip,
                              .has_user_regs = true,
                              .stack = stack,
                              .stack_bytes = num_bytes > 0 ? (size_t)num_bytes : 0,
                              .stack_asked_bytes = SAMPLER_DEFAULT_STACK_BYTES};
    for (int i = 0; i < SAMPLE_NUM_REGS; i++)
        sample->regs[i] = values[i];
}

/* Tells the pc in the process of a frame, whose pc is in the space of its profile mapping. */
static uint64_t process_pc(const struct process *process, const struct frame_key *frame)
{
    for (size_t i = 0; i < process->maps->num_vmas; i++) {
        const struct vma *vma = &process->maps->vmas[i];
        uint64_t pc = frame->pc - vma->profile_shift;

        if (vma->mapping == frame->mapping && pc >= vma->start && pc < vma->limit)
            return pc;
    }
    return 0;
}

static void print_chain(struct process *process, pid_t tid, const struct callchain *chain)
{
    printf("%d", (int)tid);
    for (uint32_t i = 0; i < chain->num_frames; i++)
        if (chain->frames[i].reason == REASON_NONE)
            printf(" %lx", process_pc(process, &chain->frames[i]));
    printf(";%s\n", frame_reason_name((enum frame_reason)chain->stop));
}

int main(int argc, char **argv)
{
    static uint8_t stack[SAMPLER_DEFAULT_STACK_BYTES];
    static struct callchain chain;
    const struct unwind_options options = {.live_tail = true};
    pid_t pid = argc > 1 ? (pid_t)strtol(argv[1], NULL, 10) : 0;
    struct stack_table table;
    struct target *target;
    struct process *process;
    struct unwinder *unwinder;

    if (argc < 3)
        return 2;
    fail(stack_table_init(&table));
    fail(target_create(&table, &target));
    fail(target_add_process(target, pid, true, &process));
    fail(unwind_cfi.create(&options, target, &unwinder));
    for (int i = 2; i < argc; i++) {
        pid_t tid = (pid_t)strtol(argv[i], NULL, 10);
        struct user_regs_struct regs;
        struct sample sample;

        if (!read_regs(tid, &regs))
            continue;
        fill_sample(&regs, pid, tid, stack, &sample);
        unwind_cfi.unwind(unwinder, process, &sample, 0, &chain);
        print_chain(process, tid, &chain);
    }
    unwind_cfi.destroy(unwinder);
    target_destroy(target);
    stack_table_deinit(&table);
    return 0;
}
