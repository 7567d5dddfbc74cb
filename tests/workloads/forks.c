/* N short children one after the other, MS of CPU each: forks [N [MS [AT_ONCE]]]. */
#include <sys/wait.h>
#include <unistd.h>

#include "truth.h"

APART uint64_t burn_in_child(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 32);
}

APART void run_child(uint64_t budget_ns, uint32_t seed)
{
    uint64_t x = seed, start = thread_cpu_ns();
    while (thread_cpu_ns() - start < budget_ns)
        x = burn_in_child(x, 2000 + (long)(next_random(&seed) % 4000));
    _exit(x == 0);
}

int main(int argc, char **argv)
{
    long num_children = (long)argument(argc, argv, 1, 50);
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 2, 40) * 1e6);
    long at_once = (long)argument(argc, argv, 3, 1), running = 0;
    uint64_t bad = 0;
    for (long started = 0, ended = 0; ended < num_children;) {
        if (started < num_children && running < at_once) {
            pid_t child = fork();
            if (child < 0)
                return 3;
            if (child == 0)
                run_child(budget_ns, (uint32_t)started + 1);
            started++;
            running++;
            continue;
        }
        int status;
        if (wait(&status) < 0)
            return 4;
        bad += status != 0;
        ended++;
        running--;
    }
    truth_begin(bad);
    truth_number("num_children", (uint64_t)num_children);
    truth_end();
    return 0;
}
