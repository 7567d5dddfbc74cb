/* How long an x86-64 instruction is, where a relative branch goes, which general registers it
 * writes: what choosing the place of a breakpoint takes, no more.
 *
 * Not a disassembler: no names, no operands. What it does not know well it says so (writes_all):
 * then nothing may be concluded from the registers behind it. Any bytes may come. Ownership: none.
 * Threads: any. Source: Intel SDM volume 2, chapter 2 and appendix A (opcode maps).
 */
#ifndef SAMPLER_X86_INSN_H
#define SAMPLER_X86_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define X86_MAX_INSN_BYTES 15

/* General registers by their numbers in the encoding. */
enum x86_reg {
    X86_RAX,
    X86_RCX,
    X86_RDX,
    X86_RBX,
    X86_RSP,
    X86_RBP,
    X86_RSI,
    X86_RDI,
    X86_R8,
};

enum x86_kind {
    X86_OTHER,
    X86_NOP,       /* 0x90, perhaps behind prefixes; not the longer ones */
    X86_PUSH,      /* of a general register */
    X86_JMP,       /* relative */
    X86_JCC,       /* conditional, relative */
    X86_LOOP,      /* loop, jrcxz: conditional, relative */
    X86_CALL,      /* relative */
    X86_JMP_SLOT,  /* through a pointer at rip + displacement: "jmp *foo@GOTPCREL(%rip)" */
    X86_CALL_SLOT, /* the same of a call */
    X86_END,       /* ret, indirect jump, trap: what follows is not reached from here */
};

struct x86_insn {
    uint8_t num_bytes;
    enum x86_kind kind;
    bool has_segment; /* prefix CS, DS, ES or SS */
    bool has_lock;
    bool has_66;
    bool has_rep;       /* 0xf3 or 0xf2 */
    bool is_privileged; /* or a software interrupt: faults, or leaves the program */
    bool writes_all;    /* may write any register */
    uint16_t writes;    /* 1 << enum x86_reg, of general registers (the stack pointer included) */
    bool is_move;       /* of all of one general register to another */
    uint8_t from, to;   /* those of a move */
    int64_t target;     /* of branches: from the first byte of the instruction; slots: the pointer's
                           place, likewise */
};

/* Decodes the instruction at `code`. insn_ret: written on success only.
 * Returns: false when the bytes are none, or it is not complete in `num_bytes`. */
bool x86_insn_decode(const uint8_t *code, size_t num_bytes, struct x86_insn *insn_ret);

#endif
