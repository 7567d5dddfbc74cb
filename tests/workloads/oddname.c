/* A process whose name is no text: bytes 0xff, a quote, a newline: oddname [SECONDS]. */
#include <sys/prctl.h>

#include "truth.h"

APART uint64_t burn_oddly(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 262144);
}

int main(int argc, char **argv)
{
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns(),
             x = 1;
    uint32_t seed = 29;
    prctl(PR_SET_NAME, "a\xff\xfe\"b) R 1\n\\");
    while (thread_cpu_ns() - start < budget_ns)
        x = burn_oddly(x, 20000 + (long)(next_random(&seed) % 40000));
    truth_begin(x);
    truth_end();
    return 0;
}
