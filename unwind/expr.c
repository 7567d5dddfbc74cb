#include "unwind/expr.h"

#include "base/dwarf_bytes.h"
#include "unwind/arch_x86_64.h"

/* DWARF 5 table 7.9. */
enum {
    OP_ADDR = 0x03,
    OP_DEREF = 0x06,
    OP_CONST1U = 0x08,
    OP_CONST1S = 0x09,
    OP_CONST2U = 0x0a,
    OP_CONST2S = 0x0b,
    OP_CONST4U = 0x0c,
    OP_CONST4S = 0x0d,
    OP_CONST8U = 0x0e,
    OP_CONST8S = 0x0f,
    OP_CONSTU = 0x10,
    OP_CONSTS = 0x11,
    OP_DUP = 0x12,
    OP_DROP = 0x13,
    OP_OVER = 0x14,
    OP_PICK = 0x15,
    OP_SWAP = 0x16,
    OP_ROT = 0x17,
    OP_ABS = 0x19,
    OP_AND = 0x1a,
    OP_DIV = 0x1b,
    OP_MINUS = 0x1c,
    OP_MOD = 0x1d,
    OP_MUL = 0x1e,
    OP_NEG = 0x1f,
    OP_NOT = 0x20,
    OP_OR = 0x21,
    OP_PLUS = 0x22,
    OP_PLUS_UCONST = 0x23,
    OP_SHL = 0x24,
    OP_SHR = 0x25,
    OP_SHRA = 0x26,
    OP_XOR = 0x27,
    OP_BRA = 0x28,
    OP_EQ = 0x29,
    OP_GE = 0x2a,
    OP_GT = 0x2b,
    OP_LE = 0x2c,
    OP_LT = 0x2d,
    OP_NE = 0x2e,
    OP_SKIP = 0x2f,
    OP_LIT0 = 0x30,
    OP_LIT31 = 0x4f,
    OP_BREG0 = 0x70,
    OP_BREG31 = 0x8f,
    OP_BREGX = 0x92,
    OP_DEREF_SIZE = 0x94,
    OP_NOP = 0x96,
};

struct machine {
    struct dwarf_bytes bytes;
    const uint8_t *start;
    const struct expr_context *context;
    size_t depth;
    uint64_t stack[EXPR_MAX_STACK];
};

static bool push(struct machine *machine, uint64_t value)
{
    if (machine->depth == EXPR_MAX_STACK)
        return false;
    machine->stack[machine->depth++] = value;
    return true;
}

static bool pop(struct machine *machine, uint64_t *value_ret)
{
    if (machine->depth == 0)
        return false;
    *value_ret = machine->stack[--machine->depth];
    return true;
}

/* Pushes a copy of the entry `index` below the top. */
static bool pick(struct machine *machine, uint64_t index)
{
    return index < machine->depth && push(machine, machine->stack[machine->depth - 1 - index]);
}

static bool push_reg(struct machine *machine, uint64_t reg)
{
    uint64_t offset = (uint64_t)dwarf_bytes_read_sleb(&machine->bytes);

    if (reg >= ARCH_NUM_REGS || !(machine->context->known & (1U << reg)))
        return false;
    return push(machine, machine->context->regs[reg] + offset);
}

static bool dereference(struct machine *machine, uint64_t num_bytes)
{
    uint64_t memory_addr, value;

    if (num_bytes != 1 && num_bytes != 2 && num_bytes != 4 && num_bytes != 8)
        return false;
    return pop(machine, &memory_addr) &&
           machine->context->read(machine->context->memory, memory_addr, (size_t)num_bytes,
                                  &value) &&
           push(machine, value);
}

/* Jumps by a signed 16-bit distance, within the expression. */
static bool jump(struct machine *machine, bool is_taken)
{
    int64_t distance = (int64_t)dwarf_bytes_read_signed(&machine->bytes, 2);

    if (!is_taken)
        return true;
    if (distance < machine->start - machine->bytes.at ||
        distance > machine->bytes.limit - machine->bytes.at)
        return false;
    machine->bytes.at += distance;
    return true;
}

static bool run_const(struct machine *machine, uint8_t op)
{
    struct dwarf_bytes *bytes = &machine->bytes;

    switch (op) {
    case OP_ADDR:
        return push(machine, dwarf_bytes_read(bytes, 8));
    case OP_CONSTU:
        return push(machine, dwarf_bytes_read_uleb(bytes));
    case OP_CONSTS:
        return push(machine, (uint64_t)dwarf_bytes_read_sleb(bytes));
    default: { /* OP_CONST1U ... OP_CONST8S: two of each width, unsigned first */
        size_t width = (size_t)1 << ((op - OP_CONST1U) / 2);

        return push(machine, (op - OP_CONST1U) % 2 ? dwarf_bytes_read_signed(bytes, width)
                                                   : dwarf_bytes_read(bytes, width));
    }
    }
}

/* Reorders the stack. Returns: false when it is too short. */
static bool run_stack(struct machine *machine, uint8_t op)
{
    uint64_t *top = machine->stack + machine->depth;
    uint64_t kept;

    switch (op) {
    case OP_DUP:
        return pick(machine, 0);
    case OP_DROP:
        return pop(machine, &kept);
    case OP_OVER:
        return pick(machine, 1);
    case OP_PICK:
        return pick(machine, dwarf_bytes_read(&machine->bytes, 1));
    case OP_SWAP:
        if (machine->depth < 2)
            return false;
        kept = top[-1];
        top[-1] = top[-2];
        top[-2] = kept;
        return true;
    default: /* OP_ROT: the top goes third */
        if (machine->depth < 3)
            return false;
        kept = top[-1];
        top[-1] = top[-2];
        top[-2] = top[-3];
        top[-3] = kept;
        return true;
    }
}

static bool run_unary(struct machine *machine, uint8_t op)
{
    uint64_t value;

    if (!pop(machine, &value))
        return false;
    if (op == OP_NOT)
        return push(machine, ~value);
    if (op == OP_PLUS_UCONST)
        return push(machine, value + dwarf_bytes_read_uleb(&machine->bytes));
    if (op == OP_NEG || (int64_t)value < 0) /* OP_NEG, OP_ABS */
        value = 0 - value;
    return push(machine, value);
}

/* Compares, signed as DWARF says. Returns: false when op is no comparison. */
static bool compare(uint8_t op, int64_t left, int64_t right, uint64_t *value_ret)
{
    switch (op) {
    case OP_EQ:
        *value_ret = left == right;
        return true;
    case OP_NE:
        *value_ret = left != right;
        return true;
    case OP_GE:
        *value_ret = left >= right;
        return true;
    case OP_GT:
        *value_ret = left > right;
        return true;
    case OP_LE:
        *value_ret = left <= right;
        return true;
    case OP_LT:
        *value_ret = left < right;
        return true;
    default:
        return false;
    }
}

/* Divides (signed; INT64_MIN / -1 wraps) or takes the remainder (unsigned). Returns: false: by
 * zero. */
static bool divide(uint8_t op, uint64_t left, uint64_t right, uint64_t *value_ret)
{
    if (right == 0)
        return false;
    if (op == OP_MOD)
        *value_ret = left % right;
    else if (right == UINT64_MAX)
        *value_ret = 0 - left;
    else
        *value_ret = (uint64_t)((int64_t)left / (int64_t)right);
    return true;
}

/* Computes left OP right; shifts by 64 and more give what infinitely many shifts by one would.
 * Returns: false when op is none, or divides by zero. */
static bool compute(uint8_t op, uint64_t left, uint64_t right, uint64_t *value_ret)
{
    switch (op) {
    case OP_AND:
        *value_ret = left & right;
        return true;
    case OP_OR:
        *value_ret = left | right;
        return true;
    case OP_XOR:
        *value_ret = left ^ right;
        return true;
    case OP_PLUS:
        *value_ret = left + right;
        return true;
    case OP_MINUS:
        *value_ret = left - right;
        return true;
    case OP_MUL:
        *value_ret = left * right;
        return true;
    case OP_SHL:
        *value_ret = right < 64 ? left << right : 0;
        return true;
    case OP_SHR:
        *value_ret = right < 64 ? left >> right : 0;
        return true;
    case OP_SHRA:
        *value_ret = (uint64_t)((int64_t)left >> (right < 63 ? right : 63));
        return true;
    case OP_DIV:
    case OP_MOD:
        return divide(op, left, right, value_ret);
    default:
        return compare(op, (int64_t)left, (int64_t)right, value_ret);
    }
}

static bool run_binary(struct machine *machine, uint8_t op)
{
    uint64_t left, right, value;

    return pop(machine, &right) && pop(machine, &left) && compute(op, left, right, &value) &&
           push(machine, value);
}

/* Runs one operation. Returns: false when the expression is invalid. */
static bool run_one(struct machine *machine)
{
    struct dwarf_bytes *bytes = &machine->bytes;
    uint8_t op = (uint8_t)dwarf_bytes_read(bytes, 1);
    uint64_t value;

    if (op >= OP_LIT0 && op <= OP_LIT31)
        return push(machine, op - OP_LIT0);
    if (op >= OP_BREG0 && op <= OP_BREG31)
        return push_reg(machine, op - OP_BREG0);
    if (op == OP_ADDR || (op >= OP_CONST1U && op <= OP_CONSTS))
        return run_const(machine, op);
    if (op >= OP_DUP && op <= OP_ROT)
        return run_stack(machine, op);
    switch (op) {
    case OP_NOP:
        return true;
    case OP_BREGX:
        return push_reg(machine, dwarf_bytes_read_uleb(bytes));
    case OP_DEREF:
        return dereference(machine, 8);
    case OP_DEREF_SIZE:
        return dereference(machine, dwarf_bytes_read(bytes, 1));
    case OP_SKIP:
        return jump(machine, true);
    case OP_BRA:
        return pop(machine, &value) && jump(machine, value != 0);
    case OP_ABS:
    case OP_NEG:
    case OP_NOT:
    case OP_PLUS_UCONST:
        return run_unary(machine, op);
    default:
        return run_binary(machine, op);
    }
}

bool expr_evaluate(const uint8_t *expr, size_t num_bytes, const struct expr_context *context,
                   bool has_initial, uint64_t initial, uint64_t *work, uint64_t *value_ret)
{
    struct machine machine;

    machine.bytes = (struct dwarf_bytes){expr, expr + num_bytes, false};
    machine.start = expr;
    machine.context = context;
    machine.depth = 0;
    if (has_initial)
        push(&machine, initial);
    for (int step = 0; machine.bytes.at < machine.bytes.limit; step++) {
        if (step == EXPR_MAX_STEPS || *work == 0)
            return false;
        --*work;
        if (!run_one(&machine) || machine.bytes.is_bad)
            return false;
    }
    return pop(&machine, value_ret);
}
