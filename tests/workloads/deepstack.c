/* Few frames, much stack: FRAMES frames of 16 KB each: deepstack [SECONDS [FRAMES]]. */
#include "truth.h"

static uint32_t seed = 23;

APART uint64_t burn_deep(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 131072);
}

APART uint64_t wide_frame(uint64_t x, long frames)
{
    volatile char room[16384];
    room[frames * 7] = (char)x;
    if (frames <= 1)
        return burn_deep(x, 10000000 + (long)(next_random(&seed) % 10000000)) + (uint64_t)room[7];
    return wide_frame(x, frames - 1) + (uint64_t)room[frames * 7];
}

int main(int argc, char **argv)
{
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns(),
             x = 1;
    long frames = (long)argument(argc, argv, 2, 12);
    while (thread_cpu_ns() - start < budget_ns)
        x = wide_frame(x, frames);
    truth_begin(x);
    truth_number("frames", (uint64_t)frames);
    truth_end();
    return 0;
}
