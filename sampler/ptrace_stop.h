/* One look at one thread by ptrace(2): seize, interrupt, copy registers and stack, let go.
 *
 * A thread is traced only while it is looked at, some 30 us: if we are killed, the kernel lets it
 * run on (no PTRACE_O_EXITKILL), and no signal of the target waits for us in between. A signal that
 * arrives just then is handed on when the thread is let go. Nothing is written to the target.
 * Not here: which thread to look at (sampler/ptrace_tasks.h). Ownership: the caller owns the look.
 * Threads: one, the same for all calls (ptrace belongs to the thread that seized).
 * Source: ptrace(2), process_vm_readv(2), unwinding.md 5.
 */
#ifndef SAMPLER_PTRACE_STOP_H
#define SAMPLER_PTRACE_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "profile/sample.h"

enum ptrace_stop_result {
    PTRACE_STOP_READ,    /* registers and stack are copied, the thread runs again */
    PTRACE_STOP_PENDING, /* it has not stopped yet (it waits for a CPU, or in the kernel) */
    PTRACE_STOP_GONE,    /* it has ended */
    PTRACE_STOP_REFUSED, /* it may not be traced: errno tells (EPERM: traced by a debugger) */
};

/* What was seen of a stopped thread. */
struct ptrace_look {
    uint64_t regs[SAMPLE_NUM_REGS]; /* DWARF order, as struct sample */
    bool is_32bit;
    uint8_t *stack;     /* room for stack_room bytes, the caller's */
    size_t stack_room;  /* asked for */
    size_t stack_bytes; /* copied, from the stack pointer upward */
    uint64_t pause_ns;  /* from when we saw it stopped until it was let go */
};

/* Seizes thread `tid` and waits up to `patience_ns` for it to stop, then reads it and lets it go.
 * is_child: it is the main thread of our own child, whose end must be left for launch_wait().
 * look: stack and stack_room set by the caller; filled in when PTRACE_STOP_READ is returned. */
enum ptrace_stop_result ptrace_stop_read(pid_t tid, bool is_child, uint64_t patience_ns,
                                         struct ptrace_look *look);

/* Goes on with a thread that was PTRACE_STOP_PENDING: as above, without seizing. */
enum ptrace_stop_result ptrace_stop_continue(pid_t tid, bool is_child, uint64_t patience_ns,
                                             struct ptrace_look *look);

#endif
