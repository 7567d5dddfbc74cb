/* A call that never returns as the last instruction of its function: noreturn [SECONDS].
 *
 * The return address then belongs to the next function in the text, `wrong_neighbour`, whose unwind
 * rules differ: only a profiler that looks up return address - 1 finds `true_caller` and main.
 * Built with -falign-functions=1 and functions kept in this order.
 */
#include <setjmp.h>

#include "truth.h"

static jmp_buf back;
static uint64_t sink;

APART __attribute__((noreturn)) void burn_and_never_return(uint64_t x, long rounds)
{
    sink = burn_rounds(x, rounds, 256);
    longjmp(back, 1);
}

APART void true_caller(uint64_t x, long rounds)
{
    volatile char room[200];
    room[0] = (char)x;
    burn_and_never_return(x + (uint64_t)room[0], rounds);
}

APART uint64_t wrong_neighbour(uint64_t x)
{
    return x * 3 + 1;
}

APART void call_true_caller(uint64_t x, long rounds)
{
    if (setjmp(back) == 0)
        true_caller(x, rounds);
}

int main(int argc, char **argv)
{
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns();
    uint32_t seed = 5;
    while (thread_cpu_ns() - start < budget_ns)
        call_true_caller(sink, 20000 + (long)(next_random(&seed) % 40000));
    truth_begin(wrong_neighbour(sink));
    truth_end();
    return 0;
}
