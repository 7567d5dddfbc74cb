/* A qsort callback that burns, and recursion over frames whose size is known only at run time:
 * callbacks [SECONDS]. */
#include <alloca.h>

#include "truth.h"

#define NUM_VALUES 300

static volatile uint64_t sink;
static uint64_t in_compare_ns, in_alloca_ns;

APART uint64_t burn_in_compare(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 16384);
}

APART int compare_values(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    sink = burn_in_compare(a + sink, 2000);
    return (a > b) - (a < b);
}

APART void sort_values(uint32_t *seed)
{
    uint32_t values[NUM_VALUES];
    for (int i = 0; i < NUM_VALUES; i++)
        values[i] = next_random(seed);
    qsort(values, NUM_VALUES, sizeof(values[0]), compare_values);
    sink += values[NUM_VALUES / 2];
}

APART uint64_t burn_under_alloca(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 32768);
}

APART uint64_t grow_frames(uint64_t x, int depth, uint32_t *seed)
{
    size_t size = 16 + next_random(seed) % 500;
    char *room = alloca(size);
    memset(room, depth, size);
    if (depth == 0)
        x = burn_under_alloca(x, 3000000);
    else
        x = grow_frames(x, depth - 1, seed);
    return x + (uint64_t)room[size / 2];
}

int main(int argc, char **argv)
{
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns();
    uint32_t seed = 17;
    while (thread_cpu_ns() - start < budget_ns) {
        uint64_t a = thread_cpu_ns();
        sort_values(&seed);
        uint64_t b = thread_cpu_ns();
        sink = grow_frames(sink, 30, &seed);
        in_compare_ns += b - a;
        in_alloca_ns += thread_cpu_ns() - b;
    }
    truth_begin(sink);
    truth_number("sort_values", in_compare_ns);
    truth_number("grow_frames", in_alloca_ns);
    truth_end();
    return 0;
}
