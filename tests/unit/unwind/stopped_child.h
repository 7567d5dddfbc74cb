/* A child of this test, stopped by ptrace: its registers and a copy of its stack as a sample. */
#ifndef TESTS_STOPPED_CHILD_H
#define TESTS_STOPPED_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profile/sample.h"

/* Forks a child that stops itself and then runs `run`. Returns: its pid, stopped; -1. */
static pid_t child_start(void (*run)(void))
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        run();
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        return -1;
    return pid;
}

/* Lets the child go on by `request` (PTRACE_CONT, PTRACE_SINGLESTEP), with a signal or 0.
 * Returns: the signal it stopped with; 0 when it ended. */
static int child_resume(pid_t pid, int request, int signal_number)
{
    int status;

    if (ptrace((enum __ptrace_request)request, pid, NULL, (void *)(long)signal_number) != 0 ||
        waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        return 0;
    return WSTOPSIG(status);
}

/* Ends a stopped child. */
static void child_end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* Copies registers and up to `asked_bytes` of stack. stack: room for them. Returns: false: gone. */
static bool child_sample(pid_t pid, uint8_t *stack, size_t asked_bytes, struct sample *sample_ret)
{
    struct user_regs_struct regs;
    struct iovec local = {stack, asked_bytes}, remote;
    ssize_t num_bytes;

    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) != 0)
        return false;
    *sample_ret = (struct sample){
        .pid = (uint32_t)pid,
        .tid = (uint32_t)pid,
        .pc = regs.rip,
        .has_user_regs = true,
        .regs = {regs.rax, regs.rdx, regs.rcx, regs.rbx, regs.rsi, regs.rdi, regs.rbp, regs.rsp,
                 regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
                 regs.rip},
        .stack = stack,
        .stack_asked_bytes = asked_bytes,
    };
    remote = (struct iovec){(void *)regs.rsp, asked_bytes};
    num_bytes = process_vm_readv(pid, &local, 1, &remote, 1, 0);
    sample_ret->stack_bytes = num_bytes > 0 ? (size_t)num_bytes : 0;
    return true;
}

#endif
