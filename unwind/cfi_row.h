/* One row of the CFI table, made by running the instructions of a CIE and an FDE up to an address:
 * how to find the CFA and the caller's registers there.
 *
 * Not evaluated here (cfi.c does, with registers and stack at hand) and not compact (cfi_rule.h).
 * Ownership: expressions point into the section's bytes. Threads: none.
 * Source: DWARF 5 section 6.4.2; LSB 5 (DW_CFA_GNU_*).
 */
#ifndef UNWIND_CFI_ROW_H
#define UNWIND_CFI_ROW_H

#include <stdbool.h>
#include <stdint.h>

#include "unwind/arch_x86_64.h"
#include "unwind/cfi_section.h"

enum cfi_kind {
    CFI_UNSPECIFIED, /* not mentioned: the ABI decides */
    CFI_UNDEFINED,   /* can't be recovered; of the return address: there is no caller */
    CFI_SAME,        /* as in this frame */
    CFI_OFFSET,      /* saved at CFA + value */
    CFI_VAL_OFFSET,  /* is CFA + value */
    CFI_REGISTER,    /* is in register `value`; of the CFA: that register + offset */
    CFI_EXPR,        /* saved where the expression says */
    CFI_VAL_EXPR,    /* is what the expression says; the CFA's kind for expressions */
};

/* How to find one register, or the CFA (CFI_REGISTER with an offset, or CFI_VAL_EXPR). */
struct cfi_value {
    uint8_t kind;
    uint8_t reg;         /* CFI_REGISTER */
    uint32_t expr_bytes; /* CFI_EXPR, CFI_VAL_EXPR */
    union {
        int64_t offset;
        const uint8_t *expr;
    };
};

struct cfi_row {
    struct cfi_value cfa;
    struct cfi_value regs[ARCH_NUM_REGS];
    bool is_signal_frame;
};

/* Runs the instructions that apply to `elf_addr`. fde: as found for that address.
 * work: budget in instruction bytes; what was used is taken off, and 0 ends the run.
 * row_ret: the row. Returns: false when the instructions make no sense or the budget is used up. */
bool cfi_row_compute(const struct cfi_fde *fde, uint64_t elf_addr, uint64_t *work,
                     struct cfi_row *row_ret);

#endif
