/* Burns, execs itself, burns in another function, ...: execself [SECONDS [TIMES [STAGE]]]. */
#include <unistd.h>

#include "truth.h"

APART uint64_t burn_before_exec(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 64);
}

APART uint64_t burn_after_exec(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 128);
}

int main(int argc, char **argv)
{
    double seconds = argument(argc, argv, 1, 2);
    long times = (long)argument(argc, argv, 2, 1), stage = (long)argument(argc, argv, 3, 0);
    uint64_t budget_ns = (uint64_t)(seconds * 1e9 / (double)(times + 1)), start = thread_cpu_ns(),
             x = 1;
    uint32_t seed = 3;
    while (thread_cpu_ns() - start < budget_ns) {
        long rounds = 20000 + (long)(next_random(&seed) % 40000);
        x = stage == 0 ? burn_before_exec(x, rounds) : burn_after_exec(x, rounds);
    }
    if (stage < times) {
        char next[24];
        snprintf(next, sizeof(next), "%ld", stage + 1);
        execl("/proc/self/exe", argv[0], argc > 1 ? argv[1] : "2", argc > 2 ? argv[2] : "1", next,
              (char *)NULL);
        return 3;
    }
    truth_begin(x);
    truth_number("stages", (uint64_t)times + 1);
    truth_end();
    return 0;
}
