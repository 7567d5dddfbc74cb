/* Spins for argv[1] milliseconds of CPU time in one static function, called FUNCTION. */
#include <stdlib.h>
#include <time.h>

static volatile unsigned long sink;

static double cpu_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static __attribute__((noinline)) void FUNCTION(unsigned long rounds)
{
    for (unsigned long i = 0; i < rounds; i++)
        sink = sink * 31 + i;
}

int main(int argc, char **argv)
{
    double limit = argc > 1 ? atof(argv[1]) : 300;

    while (cpu_ms() < limit)
        FUNCTION(200000);
    return 0;
}
