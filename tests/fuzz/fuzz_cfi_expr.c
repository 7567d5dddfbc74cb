/* libFuzzer target: the DWARF expression evaluator of unwind/.
 *
 * Input: 8 bytes that fill the registers and the readable memory, then the expression. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "unwind/arch_x86_64.h"
#include "unwind/expr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

/* expr_context.read: every fourth address can't be read. */
static bool read_memory(void *memory, uint64_t addr, size_t num_bytes, uint64_t *value_ret)
{
    const uint64_t *seed = memory;

    if (num_bytes != 1 && num_bytes != 2 && num_bytes != 4 && num_bytes != 8)
        abort();
    if (addr % 4 == 3)
        return false;
    *value_ret = *seed ^ addr;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes)
{
    uint64_t seed, value, work = 100000;
    uint64_t regs[ARCH_NUM_REGS];
    struct expr_context context = {.regs = regs, .read = read_memory, .memory = &seed};
    uint8_t *expr;

    if (num_bytes < sizeof(seed))
        return 0;
    memcpy(&seed, data, sizeof(seed));
    data += sizeof(seed);
    num_bytes -= sizeof(seed);
    for (unsigned reg = 0; reg < ARCH_NUM_REGS; reg++)
        regs[reg] = seed * (reg + 1);
    context.known = (uint32_t)seed & ARCH_ALL_REGS;
    expr = malloc(num_bytes ? num_bytes : 1); /* of exact size, so that an overread shows */
    if (!expr)
        return 0;
    memcpy(expr, data, num_bytes);
    if (expr_evaluate(expr, num_bytes, &context, seed & 1, seed, &work, &value) && work > 100000)
        abort();
    if (100000 - work > EXPR_MAX_STEPS)
        abort();
    free(expr);
    return 0;
}
