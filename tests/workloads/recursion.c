/* DEPTH frames of one function, all work at the bottom: recursion [SECONDS [DEPTH]]. */
#include "truth.h"

static uint32_t seed = 11;

APART uint64_t burn_at_bottom(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 2048);
}

APART uint64_t descend(uint64_t x, long depth)
{
    if (depth <= 1)
        return burn_at_bottom(x, 20000000 + (long)(next_random(&seed) % 20000000));
    return descend(x, depth - 1) + (uint64_t)depth;
}

int main(int argc, char **argv)
{
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns(),
             x = 1;
    long depth = (long)argument(argc, argv, 2, 3000);
    while (thread_cpu_ns() - start < budget_ns)
        x = descend(x, depth);
    truth_begin(x);
    truth_number("depth", (uint64_t)depth);
    truth_end();
    return 0;
}
