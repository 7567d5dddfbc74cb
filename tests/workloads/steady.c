/* A fixed amount of work with one right answer, on two threads, with signals and sleeps in between:
 * steady [MILLIONS]. Its result and its counts depend on nothing but the argument. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "truth.h"

static long millions;
static volatile sig_atomic_t num_signals;

APART uint64_t burn_steadily(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 524288);
}

APART uint64_t work_through(uint64_t x)
{
    for (long i = 0; i < millions; i++)
        x = burn_steadily(x, 1000000);
    return x;
}

static void *run_second(void *nothing)
{
    (void)nothing;
    return (void *)(uintptr_t)work_through(2);
}

static void count_signal(int signal_number)
{
    (void)signal_number;
    num_signals++;
}

int main(int argc, char **argv)
{
    millions = (long)argument(argc, argv, 1, 1000);
    signal(SIGUSR1, count_signal);
    pthread_t second;
    puts("ready");
    fflush(stdout);
    if (pthread_create(&second, NULL, run_second, NULL) != 0)
        return 3;
    uint64_t x = work_through(1);
    for (int i = 0; i < 20; i++)
        raise(SIGUSR1);
    void *y;
    pthread_join(second, &y);
    truth_begin(x ^ (uint64_t)(uintptr_t)y);
    truth_number("num_signals", (uint64_t)num_signals);
    truth_end();
    return 0;
}
