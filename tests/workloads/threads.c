/* N threads, each named and burning its part of SECONDS: threads [N [SECONDS]]. */
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "truth.h"

static uint64_t budget_ns, spent_ns;
static pthread_barrier_t all_here;

APART uint64_t burn_in_thread(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 16);
}

APART void *run_worker(void *argument_of_thread)
{
    uint64_t index = (uint64_t)(uintptr_t)argument_of_thread, x = index + 1;
    uint32_t seed = (uint32_t)index;
    char name[16];
    snprintf(name, sizeof(name), "worker-%u", (unsigned)index % 1000);
    pthread_setname_np(pthread_self(), name);
    pthread_barrier_wait(&all_here);
    uint64_t start = thread_cpu_ns(), now = start;
    for (; now - start < budget_ns; now = thread_cpu_ns())
        x = burn_in_thread(x, 20000 + (long)(next_random(&seed) % 40000));
    __atomic_fetch_add(&spent_ns, now - start, __ATOMIC_RELAXED);
    return (void *)(uintptr_t)x;
}

int main(int argc, char **argv)
{
    long num_threads = (long)argument(argc, argv, 1, 4);
    budget_ns = (uint64_t)(argument(argc, argv, 2, 2) * 1e9 / (double)num_threads);
    pthread_t *threads = calloc((size_t)num_threads, sizeof(*threads));
    pthread_barrier_init(&all_here, NULL, (unsigned)num_threads);
    uint64_t result = 0;
    for (long i = 0; i < num_threads; i++)
        if (pthread_create(&threads[i], NULL, run_worker, (void *)(uintptr_t)i) != 0)
            return 3;
    for (long i = 0; i < num_threads; i++) {
        void *x;
        pthread_join(threads[i], &x);
        result ^= (uint64_t)(uintptr_t)x;
    }
    truth_begin(result);
    truth_number("burn_in_thread", spent_ns);
    truth_number("num_threads", (uint64_t)num_threads);
    truth_end();
    free(threads);
    return 0;
}
