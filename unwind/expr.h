/* Evaluating a DWARF expression of CFI: PLT stubs, signal frames, realigned stacks.
 *
 * Only what such expressions may use (DWARF 5, 6.4.2: nothing that names a debugging entry, an
 * object or a call frame). Hostile expressions end: steps are counted, the stack is bounded,
 * arithmetic wraps. Threads: pure, but for the reader's own state. Source: DWARF 5
 * sections 2.5.1, 6.4.2.
 */
#ifndef UNWIND_EXPR_H
#define UNWIND_EXPR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPR_MAX_STACK 64
#define EXPR_MAX_STEPS 1000

/* What an expression may look at. */
struct expr_context {
    const uint64_t *regs; /* by DWARF number */
    uint32_t known;       /* bit r: regs[r] is known */
    /* Reads `num_bytes` (1, 2, 4, 8) of the target's memory, zero-extended. Returns: false when it
     * can't be read. */
    bool (*read)(void *memory, uint64_t memory_addr, size_t num_bytes, uint64_t *value_ret);
    void *memory;
};

/* Evaluates an expression. initial: pushed first when has_initial (the CFA, for register rules).
 * work: budget in steps; what was used is taken off. value_ret: top of the stack at the end.
 * Returns: false when the expression is invalid, needs what is unknown, or doesn't end. */
bool expr_evaluate(const uint8_t *expr, size_t num_bytes, const struct expr_context *context,
                   bool has_initial, uint64_t initial, uint64_t *work, uint64_t *value_ret);

#endif
