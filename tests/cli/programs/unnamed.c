/* Works under an empty name: unnamed [SECONDS]. */
#include <sys/prctl.h>

#include "truth.h"

APART uint64_t burn_namelessly(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 32);
}

int main(int argc, char **argv)
{
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns();
    uint64_t x = 1;

    prctl(PR_SET_NAME, "");
    while (thread_cpu_ns() - start < budget_ns)
        x = burn_namelessly(x, 30000);
    truth_begin(x);
    truth_end();
    return 0;
}
