/* Prints the monotonic clock as its first act: how late does a launched command start? */
#include "truth.h"

int main(void)
{
    printf("{\"started_ns\": %llu}\n", (unsigned long long)clock_now_ns(CLOCK_MONOTONIC));
    return 0;
}
