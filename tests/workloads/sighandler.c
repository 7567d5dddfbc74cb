/* A signal handler that burns a third of the CPU: sighandler [SECONDS [ALTSTACK]]. */
#include <signal.h>
#include <sys/time.h>

#include "truth.h"

#define HANDLER_ROUNDS 2000000L

static volatile uint64_t sink;
static uint64_t in_handler_ns, num_signals;

APART uint64_t burn_in_handler(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 512);
}

APART uint64_t burn_in_main(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 1024);
}

APART void on_alarm(int signal_number)
{
    uint64_t start = thread_cpu_ns();
    sink = burn_in_handler(sink + (uint64_t)signal_number, HANDLER_ROUNDS);
    in_handler_ns += thread_cpu_ns() - start;
    num_signals++;
}

APART uint64_t interrupted(uint64_t x, long rounds)
{
    return burn_in_main(x, rounds) + 1;
}

int main(int argc, char **argv)
{
    static char other_stack[65536];
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns(),
             x = 1;
    uint32_t seed = 9;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    if (argc > 2) {
        stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof(other_stack)};
        sigaltstack(&stack, NULL);
        action.sa_flags |= SA_ONSTACK;
    }
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 9700}, {0, 9700}};
    setitimer(ITIMER_REAL, &every, NULL);
    while (thread_cpu_ns() - start < budget_ns)
        x = interrupted(x, 200000 + (long)(next_random(&seed) % 400000));
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    truth_begin(x);
    truth_number("burn_in_handler", in_handler_ns);
    truth_number("num_signals", num_signals);
    truth_end();
    return 0;
}
