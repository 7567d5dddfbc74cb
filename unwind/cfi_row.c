#include "unwind/cfi_row.h"

#include "base/dwarf_bytes.h"

/* DWARF 5 table 7.29, LSB 5 table "Additional DWARF Call Frame Instructions". */
enum {
    OP_ADVANCE_LOC = 0x40, /* the operand is in the low six bits of these three */
    OP_OFFSET = 0x80,
    OP_RESTORE = 0xc0,
    OP_HIGH_MASK = 0xc0,
    OP_LOW_MASK = 0x3f,
    OP_NOP = 0x00,
    OP_SET_LOC = 0x01,
    OP_ADVANCE_LOC1 = 0x02,
    OP_ADVANCE_LOC2 = 0x03,
    OP_ADVANCE_LOC4 = 0x04,
    OP_OFFSET_EXTENDED = 0x05,
    OP_RESTORE_EXTENDED = 0x06,
    OP_UNDEFINED = 0x07,
    OP_SAME_VALUE = 0x08,
    OP_REGISTER = 0x09,
    OP_REMEMBER_STATE = 0x0a,
    OP_RESTORE_STATE = 0x0b,
    OP_DEF_CFA = 0x0c,
    OP_DEF_CFA_REGISTER = 0x0d,
    OP_DEF_CFA_OFFSET = 0x0e,
    OP_DEF_CFA_EXPRESSION = 0x0f,
    OP_EXPRESSION = 0x10,
    OP_OFFSET_EXTENDED_SF = 0x11,
    OP_DEF_CFA_SF = 0x12,
    OP_DEF_CFA_OFFSET_SF = 0x13,
    OP_VAL_OFFSET = 0x14,
    OP_VAL_OFFSET_SF = 0x15,
    OP_VAL_EXPRESSION = 0x16,
    OP_GNU_ARGS_SIZE = 0x2e,
    OP_GNU_NEGATIVE_OFFSET_EXTENDED = 0x2f,
};

enum {
    MAX_REMEMBERED = 8,          /* compilers nest one or two deep */
    MAX_PROGRAM_BYTES = 1 << 18, /* the longest seen is a few KB */
};

/* One run through a program. */
struct run {
    const struct cfi_cie *cie;
    const struct cfi_row *initial; /* NULL while the CIE's own program runs */
    struct cfi_row *row;
    uint64_t loc;
    uint64_t target;
    uint32_t num_remembered;
    struct cfi_row remembered[MAX_REMEMBERED];
    struct dwarf_bytes bytes;
    bool is_done; /* the row of the target is complete */
};

/* Sets the rule of a register; those that no one needs (xmm and so on) are dropped. */
static void set_reg(struct run *run, uint64_t reg, struct cfi_value value)
{
    if (reg < ARCH_NUM_REGS)
        run->row->regs[reg] = value;
}

/* Reads a block operand (ULEB128 length, bytes) as a rule with an expression. */
static struct cfi_value read_expression(struct run *run, enum cfi_kind kind)
{
    uint64_t length = dwarf_bytes_read_uleb(&run->bytes);
    struct cfi_value value = {.kind = (uint8_t)kind, .expr = run->bytes.at};

    if (dwarf_bytes_skip(&run->bytes, length))
        value.expr_bytes = (uint32_t)length; /* below MAX_PROGRAM_BYTES */
    return value;
}

static struct cfi_value offset_value(const struct run *run, enum cfi_kind kind, uint64_t factored)
{
    /* Unsigned: hostile factors wrap instead of overflowing. */
    return (struct cfi_value){.kind = (uint8_t)kind,
                              .offset = (int64_t)(factored * (uint64_t)run->cie->data_alignment)};
}

/* Begins the next row at `loc`, unless that is behind the target: then the present row is it. */
static bool advance_to(struct run *run, uint64_t loc)
{
    if (!run->initial || loc < run->loc)
        return false; /* a CIE has no rows; locations only grow */
    if (loc > run->target)
        run->is_done = true;
    else
        run->loc = loc;
    return true;
}

static bool advance_by(struct run *run, uint64_t delta)
{
    uint64_t bytes;

    if (__builtin_mul_overflow(delta, run->cie->code_alignment, &bytes) ||
        bytes > UINT64_MAX - run->loc) {
        run->is_done = true; /* behind any target */
        return run->initial != NULL;
    }
    return advance_to(run, run->loc + bytes);
}

static bool restore_reg(struct run *run, uint64_t reg)
{
    if (!run->initial)
        return false;
    if (reg < ARCH_NUM_REGS)
        run->row->regs[reg] = run->initial->regs[reg];
    return true;
}

static bool set_cfa(struct run *run, uint64_t reg, uint64_t offset)
{
    if (reg >= ARCH_NUM_REGS)
        return false;
    run->row->cfa =
        (struct cfi_value){.kind = CFI_REGISTER, .reg = (uint8_t)reg, .offset = (int64_t)offset};
    return true;
}

/* Changes the register or the offset of a CFA that is register + offset. */
static bool change_cfa(struct run *run, bool has_reg, uint64_t operand)
{
    struct cfi_value *cfa = &run->row->cfa;

    if (cfa->kind != CFI_REGISTER)
        return false;
    if (has_reg)
        return set_cfa(run, operand, (uint64_t)cfa->offset);
    cfa->offset = (int64_t)operand;
    return true;
}

static uint64_t read_factored_sf(struct run *run)
{
    return (uint64_t)dwarf_bytes_read_sleb(&run->bytes) * (uint64_t)run->cie->data_alignment;
}

/* Instructions that define the CFA. Returns: false when they make no sense. */
static bool run_cfa_op(struct run *run, uint8_t op)
{
    struct dwarf_bytes *bytes = &run->bytes;
    uint64_t reg;

    switch (op) {
    case OP_DEF_CFA:
        reg = dwarf_bytes_read_uleb(bytes);
        return set_cfa(run, reg, dwarf_bytes_read_uleb(bytes));
    case OP_DEF_CFA_SF:
        reg = dwarf_bytes_read_uleb(bytes);
        return set_cfa(run, reg, read_factored_sf(run));
    case OP_DEF_CFA_REGISTER:
        return change_cfa(run, true, dwarf_bytes_read_uleb(bytes));
    case OP_DEF_CFA_OFFSET:
        return change_cfa(run, false, dwarf_bytes_read_uleb(bytes));
    case OP_DEF_CFA_OFFSET_SF:
        return change_cfa(run, false, read_factored_sf(run));
    case OP_DEF_CFA_EXPRESSION:
        run->row->cfa = read_expression(run, CFI_VAL_EXPR);
        return true;
    default:
        return false;
    }
}

/* Instructions that give one register its rule. Returns: false when it is none of them. */
static bool run_reg_op(struct run *run, uint8_t op)
{
    struct dwarf_bytes *bytes = &run->bytes;
    uint64_t reg = dwarf_bytes_read_uleb(bytes); /* the first operand of all of them */
    uint64_t other;

    switch (op) {
    case OP_UNDEFINED:
        set_reg(run, reg, (struct cfi_value){.kind = CFI_UNDEFINED});
        return true;
    case OP_SAME_VALUE:
        set_reg(run, reg, (struct cfi_value){.kind = CFI_SAME});
        return true;
    case OP_OFFSET_EXTENDED:
        set_reg(run, reg, offset_value(run, CFI_OFFSET, dwarf_bytes_read_uleb(bytes)));
        return true;
    case OP_OFFSET_EXTENDED_SF:
        set_reg(run, reg, offset_value(run, CFI_OFFSET, (uint64_t)dwarf_bytes_read_sleb(bytes)));
        return true;
    case OP_GNU_NEGATIVE_OFFSET_EXTENDED:
        set_reg(run, reg, offset_value(run, CFI_OFFSET, 0 - dwarf_bytes_read_uleb(bytes)));
        return true;
    case OP_VAL_OFFSET:
        set_reg(run, reg, offset_value(run, CFI_VAL_OFFSET, dwarf_bytes_read_uleb(bytes)));
        return true;
    case OP_VAL_OFFSET_SF:
        set_reg(run, reg,
                offset_value(run, CFI_VAL_OFFSET, (uint64_t)dwarf_bytes_read_sleb(bytes)));
        return true;
    case OP_REGISTER:
        other = dwarf_bytes_read_uleb(bytes);
        set_reg(run, reg,
                other < ARCH_NUM_REGS
                    ? (struct cfi_value){.kind = CFI_REGISTER, .reg = (uint8_t)other}
                    : (struct cfi_value){.kind = CFI_UNDEFINED});
        return true;
    case OP_EXPRESSION:
        set_reg(run, reg, read_expression(run, CFI_EXPR));
        return true;
    case OP_VAL_EXPRESSION:
        set_reg(run, reg, read_expression(run, CFI_VAL_EXPR));
        return true;
    case OP_RESTORE_EXTENDED:
        return restore_reg(run, reg);
    default:
        return false;
    }
}

/* Instructions that move on, keep or bring back a whole row, or do nothing. handled_ret: whether it
 * was one of them. Returns: false when it makes no sense. */
static bool run_row_op(struct run *run, uint8_t op, bool *handled_ret)
{
    *handled_ret = true;
    switch (op) {
    case OP_NOP:
        return true;
    case OP_SET_LOC: /* an encoded address; no compiler makes it for x86-64 */
        return false;
    case OP_ADVANCE_LOC1:
        return advance_by(run, dwarf_bytes_read(&run->bytes, 1));
    case OP_ADVANCE_LOC2:
        return advance_by(run, dwarf_bytes_read(&run->bytes, 2));
    case OP_ADVANCE_LOC4:
        return advance_by(run, dwarf_bytes_read(&run->bytes, 4));
    case OP_REMEMBER_STATE:
        if (run->num_remembered == MAX_REMEMBERED)
            return false;
        run->remembered[run->num_remembered++] = *run->row;
        return true;
    case OP_RESTORE_STATE:
        if (run->num_remembered == 0)
            return false;
        *run->row = run->remembered[--run->num_remembered];
        return true;
    case OP_GNU_ARGS_SIZE: /* pushed arguments: only for throwing into this frame */
        dwarf_bytes_read_uleb(&run->bytes);
        return true;
    default:
        *handled_ret = false;
        return true;
    }
}

static bool run_one(struct run *run)
{
    uint8_t op = (uint8_t)dwarf_bytes_read(&run->bytes, 1);
    uint8_t low = op & OP_LOW_MASK;
    bool is_handled;

    switch (op & OP_HIGH_MASK) {
    case OP_ADVANCE_LOC:
        return advance_by(run, low);
    case OP_OFFSET:
        set_reg(run, low, offset_value(run, CFI_OFFSET, dwarf_bytes_read_uleb(&run->bytes)));
        return true;
    case OP_RESTORE:
        return restore_reg(run, low);
    default:
        break;
    }
    if (!run_row_op(run, op, &is_handled))
        return false;
    if (is_handled)
        return true;
    if (op == OP_DEF_CFA_EXPRESSION || (op >= OP_DEF_CFA && op <= OP_DEF_CFA_OFFSET) ||
        op == OP_DEF_CFA_SF || op == OP_DEF_CFA_OFFSET_SF)
        return run_cfa_op(run, op);
    return run_reg_op(run, op);
}

/* Runs one program to its end or to the target's row. */
static bool run_program(struct run *run, const uint8_t *program, const uint8_t *limit,
                        uint64_t *work)
{
    run->bytes = (struct dwarf_bytes){program, limit, false};
    run->is_done = false;
    if (dwarf_bytes_left(&run->bytes) > MAX_PROGRAM_BYTES)
        return false;
    while (!run->is_done && run->bytes.at < limit) {
        if (*work == 0)
            return false;
        --*work;
        if (!run_one(run) || run->bytes.is_bad)
            return false;
    }
    return true;
}

bool cfi_row_compute(const struct cfi_fde *fde, uint64_t elf_addr, uint64_t *work,
                     struct cfi_row *row_ret)
{
    struct cfi_row initial;
    struct run run;

    *row_ret = (struct cfi_row){.is_signal_frame = fde->cie.is_signal_frame};
    run.cie = &fde->cie;
    run.initial = NULL;
    run.row = row_ret;
    run.loc = fde->start;
    run.target = elf_addr;
    run.num_remembered = 0;
    if (!run_program(&run, fde->cie.program, fde->cie.program_limit, work))
        return false;
    initial = *row_ret;
    run.initial = &initial;
    run.num_remembered = 0;
    if (!run_program(&run, fde->program, fde->program_limit, work))
        return false;
    return row_ret->cfa.kind != CFI_UNSPECIFIED || row_ret->regs[ARCH_REG_IP].kind == CFI_UNDEFINED;
}
