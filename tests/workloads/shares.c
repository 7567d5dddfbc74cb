/* Three functions with 10, 30 and 60 % of the CPU: shares [SECONDS [UNLINK_SELF]]. */
#include <unistd.h>

#include "truth.h"

#define UNIT_ROUNDS 40000L

static uint64_t spent_ns[3];

APART uint64_t burn_ten(uint64_t x, long unit)
{
    return burn_rounds(x, unit, 2);
}

APART uint64_t burn_thirty(uint64_t x, long unit)
{
    return burn_rounds(x, 3 * unit, 4);
}

APART uint64_t burn_sixty(uint64_t x, long unit)
{
    return burn_rounds(x, 6 * unit, 8);
}

APART uint64_t burn_all(uint64_t x, uint64_t budget_ns)
{
    uint32_t seed = 7;
    uint64_t start = thread_cpu_ns(), now = start;
    while (now - start < budget_ns) {
        long unit = UNIT_ROUNDS / 2 + (long)(next_random(&seed) % UNIT_ROUNDS);
        uint64_t a = now;
        x = burn_ten(x, unit);
        uint64_t b = thread_cpu_ns();
        x = burn_thirty(x, unit);
        uint64_t c = thread_cpu_ns();
        x = burn_sixty(x, unit);
        now = thread_cpu_ns();
        spent_ns[0] += b - a;
        spent_ns[1] += c - b;
        spent_ns[2] += now - c;
    }
    return x;
}

int main(int argc, char **argv)
{
    if (argc > 2 && unlink(argv[0]) != 0)
        return 3;
    uint64_t x = burn_all(1, (uint64_t)(argument(argc, argv, 1, 2) * 1e9));
    truth_begin(x);
    truth_number("burn_ten", spent_ns[0]);
    truth_number("burn_thirty", spent_ns[1]);
    truth_number("burn_sixty", spent_ns[2]);
    truth_number("pid", (uint64_t)getpid());
    truth_end();
    return 0;
}
