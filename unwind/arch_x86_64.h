/* What only x86-64 knows: register roles, the signal trampoline, the step from a return address
 * back into its call.
 *
 * Not CFI (cfi_section.h, cfi_row.h): this is what the ABI and the kernel fix without it.
 * Threads: pure functions. Source: System V ABI AMD64 3.2 (registers), 6.2 (unwinding);
 * kernel arch/x86/include/uapi/asm/ucontext.h and sigcontext.h (layout of the signal frame).
 */
#ifndef UNWIND_ARCH_X86_64_H
#define UNWIND_ARCH_X86_64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "profile/sample.h"

#define ARCH_NUM_REGS SAMPLE_NUM_REGS
#define ARCH_REG_BP SAMPLE_REG_BP
#define ARCH_REG_SP SAMPLE_REG_SP
#define ARCH_REG_IP SAMPLE_REG_IP
#define ARCH_ALL_REGS ((1U << ARCH_NUM_REGS) - 1)

/* Registers that a called function preserves: rbx, rbp, r12-r15 (bit = DWARF register number). */
#define ARCH_CALLEE_SAVED ((1U << 3) | (1U << ARCH_REG_BP) | (0xfU << 12))

/* Bytes that arch_is_sigreturn() looks at. */
#define ARCH_SIGRETURN_BYTES 9

/* Where a caller was when it called: a return address may lie behind its function (the call is the
 * last instruction of a function whose callee never returns) or in the next line, so one byte back.
 * The only place in the program that makes this step. */
static inline uint64_t arch_call_pc(uint64_t return_address)
{
    return return_address - 1;
}

/* Tells whether code begins with `mov $15,%eax or %rax; syscall`: a signal trampoline, as Go and
 * musl have it without CFI. code: at least num_bytes bytes. */
bool arch_is_sigreturn(const uint8_t *code, size_t num_bytes);

/* Tells whether code goes straight on to `mov $60,%eax (or %al); syscall`, exit(2) of one thread:
 * who would return there was called by nobody, the thread began there. code: at least num_bytes
 * bytes. */
bool arch_is_thread_exit(const uint8_t *code, size_t num_bytes);

/* Longest call instruction that arch_is_behind_call() knows. */
#define ARCH_CALL_BYTES 7

/* Tells whether code ends with a call instruction, so that its end may be a return address.
 * code: the ARCH_CALL_BYTES bytes before the address. distance_ret: of a direct call, from the
 * return address to the function called; 0: the call is indirect. */
bool arch_is_behind_call(const uint8_t *code, int32_t *distance_ret);

/* Tells where the kernel saved register `reg` of the interrupted code, as an offset from the stack
 * pointer at the trampoline's first instruction (where struct ucontext lies). */
unsigned arch_sigreturn_offset(unsigned reg);

#endif
