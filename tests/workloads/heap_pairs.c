/* What a pair of malloc and free costs: heap-pairs [THREADS]. Each line on stdin is a number of
 * seconds and, maybe, a number of pairs a second that all threads do together; without, they do as
 * many as they can. The answer is one line of JSON with the CPU time of the whole process for each
 * pair. */
#include <pthread.h>
#include <unistd.h>

#include "truth.h"

#define PAIRS_BETWEEN_LOOKS 64

static uint64_t limit_ns, pause_ns, num_pairs;
static long num_threads;
static pthread_barrier_t start, end;
static __thread void *volatile escaped;

APART void do_pairs(uint32_t *seed)
{
    for (int i = 0; i < PAIRS_BETWEEN_LOOKS; i++) {
        escaped = malloc(16 + next_random(seed) % 496);
        free(escaped);
    }
}

static void *run_thread(void *number)
{
    uint32_t seed = (uint32_t)(uintptr_t)number + 1;
    for (;;) {
        pthread_barrier_wait(&start);
        uint64_t done = 0;
        if (pause_ns) /* so that they do not all come at once */
            nanosleep(&(struct timespec){0, (long)pause_ns / num_threads * (long)(uintptr_t)number},
                      NULL);
        for (; clock_now_ns(CLOCK_MONOTONIC) < limit_ns; done += PAIRS_BETWEEN_LOOKS) {
            do_pairs(&seed);
            if (pause_ns)
                nanosleep(&(struct timespec){0, (long)pause_ns}, NULL);
        }
        __atomic_fetch_add(&num_pairs, done, __ATOMIC_RELAXED);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    num_threads = (long)argument(argc, argv, 1, 1);
    pthread_barrier_init(&start, NULL, (unsigned)num_threads + 1);
    pthread_barrier_init(&end, NULL, (unsigned)num_threads + 1);
    for (long i = 0; i < num_threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run_thread, (void *)(uintptr_t)i) != 0)
            return 3;
    }
    puts("ready");
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof(line), stdin)) {
        uint64_t cpu_ns = clock_now_ns(CLOCK_PROCESS_CPUTIME_ID);
        char *rest;
        num_pairs = 0;
        limit_ns = clock_now_ns(CLOCK_MONOTONIC) + (uint64_t)(strtod(line, &rest) * 1e9);
        double per_second = strtod(rest, NULL);
        pause_ns =
            per_second > 0 ? (uint64_t)(PAIRS_BETWEEN_LOOKS * num_threads * 1e9 / per_second) : 0;
        pthread_barrier_wait(&start);
        pthread_barrier_wait(&end);
        cpu_ns = clock_now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
        printf("{\"num_pairs\": %llu, \"cpu_ns\": %llu, \"pair_ns\": %.2f}\n",
               (unsigned long long)num_pairs, (unsigned long long)cpu_ns,
               (double)cpu_ns / (double)(num_pairs ? num_pairs : 1));
        fflush(stdout);
    }
    return 0;
}
