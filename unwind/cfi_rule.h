/* The unwind rule of one place in a module: what the engine needs to step to the caller, compact
 * enough to cache by the thousand.
 *
 * Joins .eh_frame, .debug_frame and what is known without CFI (signal trampolines, the entry
 * point). Not the cache (rule_cache.h), not the step itself (cfi.c). Ownership: a module's CFI
 * hangs on module->unwind_data and goes with the module. Threads: none. Source: DWARF 5
 * section 6.4; unwinding.md 8.3.
 */
#ifndef UNWIND_CFI_RULE_H
#define UNWIND_CFI_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "target/module.h"
#include "unwind/cfi_row.h"

enum rule_kind {
    RULE_EMPTY,  /* nothing here (a free cache slot; the work budget ran out) */
    RULE_SIMPLE, /* CFA = register + offset; return address (and rbp) saved near it */
    RULE_GO,   /* the same in Go code: rbp is a frame pointer, and the stack may be a scheduler's */
    RULE_ROW,  /* anything else CFI can say: a struct cfi_row */
    RULE_ROOT, /* there is no caller: the thread's entry */
    RULE_SIGRETURN, /* a signal trampoline without CFI: registers are in the kernel's frame */
    RULE_NO_CFI,    /* no CFI covers this place */
    RULE_GO_NO_CFI, /* the same in a Go program (stripped): frame pointers, across stacks */
    RULE_BROKEN,    /* CFI covers this place but makes no sense */
};

enum rule_bp {
    RULE_BP_SAME,    /* rbp is the caller's */
    RULE_BP_SAVED,   /* saved at CFA + bp_offset */
    RULE_BP_UNKNOWN, /* can't be recovered */
};

struct unwind_rule {
    uint8_t kind;    /* enum rule_kind */
    uint8_t cfa_reg; /* RULE_SIMPLE, RULE_GO: by DWARF number */
    uint8_t bp;      /* enum rule_bp */
    bool is_signal;  /* returned to at its first byte, it made no call: a signal trampoline, or a
                      * start of a stack that was made by hand (makecontext) */
    int32_t cfa_offset;
    int32_t bp_offset;
    union {
        int32_t ra_offset;  /* RULE_SIMPLE, RULE_GO */
        uint32_t row_index; /* RULE_ROW: where the engine keeps the row */
    };
};

/* Finds the rule for `elf_addr` in `module`. is_call: the address is that of a call (return address
 * minus one), not one where execution stood.
 * work: budget in CFI instructions, see cfi_row_compute(); at 0 the answer is RULE_EMPTY.
 * row_ret: for RULE_SIMPLE, RULE_GO and RULE_ROW the row behind the rule, points into the module's
 * bytes; row_index is left 0. */
struct unwind_rule cfi_rule_find(struct module *module, uint64_t elf_addr, bool is_call,
                                 uint64_t *work, struct cfi_row *row_ret);

/* Tells whether a call instruction ends just before `elf_addr`, so that it may be a return address.
 * distance_ret: as of arch_is_behind_call(). */
bool cfi_rule_is_behind_call(struct module *module, uint64_t elf_addr, int32_t *distance_ret);

/* Tells whether `elf_addr` lies in the code at the entry point of a file that has no CFI for it. */
bool cfi_rule_is_start_code(struct module *module, uint64_t elf_addr);

#endif
