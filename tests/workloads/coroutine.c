/* Work on a stack made by makecontext, entered and left by swapcontext: coroutine [SECONDS]. */
#include <ucontext.h>

#include "truth.h"

static ucontext_t outside, inside;
static char stack[256 * 1024];
static uint64_t value = 1;

APART void burn_inside(int depth)
{
    if (depth > 0)
        burn_inside(depth - 1);
    else
        value = burn_rounds(value, 3000000, 8192);
    value++;
    if (depth == 0)
        swapcontext(&inside, &outside);
}

static void coroutine(void)
{
    for (;;) {
        burn_inside(5);
        value++;
    }
}

int main(int argc, char **argv)
{
    /* getcontext may return twice */
    static uint64_t end_ns;

    end_ns = thread_cpu_ns() + (uint64_t)(argument(argc, argv, 1, 1) * 1e9);
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = sizeof(stack);
    inside.uc_link = &outside;
    makecontext(&inside, coroutine, 0);
    while (thread_cpu_ns() < end_ns)
        swapcontext(&outside, &inside);
    truth_begin(value);
    truth_end();
    return 0;
}
