/* Two threads handing a turn to and fro by futex, on one CPU: pingpong [THOUSANDS]. */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "truth.h"

static _Atomic int turn;
static long num_rounds;

APART void hand_over(int mine, int other)
{
    for (long i = 0; i < num_rounds; i++) {
        while (turn != mine)
            syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, other, NULL, NULL, 0);
        turn = other;
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

APART void *run_other(void *nothing)
{
    hand_over(1, 0);
    return nothing;
}

int main(int argc, char **argv)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof(one), &one);
    num_rounds = (long)argument(argc, argv, 1, 100) * 1000;
    pthread_t other;
    uint64_t start = clock_now_ns(CLOCK_MONOTONIC);
    if (pthread_create(&other, NULL, run_other, NULL) != 0)
        return 3;
    hand_over(0, 1);
    pthread_join(other, NULL);
    truth_begin((uint64_t)num_rounds);
    truth_number("wall_ns", clock_now_ns(CLOCK_MONOTONIC) - start);
    truth_end();
    return 0;
}
