/* N idle threads and one that measures how late it wakes: manythreads [N [SECONDS]].
 * For the time an attach takes, and for the stall it causes: the longest gap between two reads of
 * the clock by a thread that never sleeps. */
#include <pthread.h>
#include <unistd.h>

#include "truth.h"

static void *sleep_on(void *nothing)
{
    for (;;)
        pause();
    return nothing;
}

int main(int argc, char **argv)
{
    long num_threads = (long)argument(argc, argv, 1, 100);
    uint64_t limit_ns = (uint64_t)(argument(argc, argv, 2, 5) * 1e9), longest = 0;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    for (long i = 1; i < num_threads; i++)
        if (pthread_create(&thread, &attributes, sleep_on, NULL) != 0)
            return 3;
    puts("ready");
    fflush(stdout);
    uint64_t start = clock_now_ns(CLOCK_MONOTONIC), last = start, now = start, over_1ms = 0;
    while (now - start < limit_ns) {
        now = clock_now_ns(CLOCK_MONOTONIC);
        if (now - last > longest)
            longest = now - last;
        over_1ms += now - last > 1000000;
        last = now;
    }
    truth_begin((uint64_t)num_threads);
    truth_number("longest_gap_ns", longest);
    truth_number("gaps_over_1ms", over_1ms);
    truth_end();
    return 0;
}
