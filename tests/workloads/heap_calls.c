/* Calls of an allocator by known functions: heap-calls ROUNDS. In each round each function makes
 * the calls that its name tells, of these sizes; everything is freed.
 */
#include "truth.h"

static void *volatile escaped;

APART void malloc_100(void)
{
    escaped = malloc(100);
    free(escaped);
}

APART void malloc_10000(void)
{
    escaped = malloc(10000);
    free(escaped);
}

APART void calloc_500(void)
{
    escaped = calloc(10, 50);
    free(escaped);
}

APART void malloc_50_realloc_3000(void)
{
    escaped = malloc(50);
    escaped = realloc(escaped, 3000);
    free(escaped);
}

/* glibc's realloc jumps to its malloc. */
APART void realloc_null_700(void)
{
    escaped = realloc(NULL, 700);
    free(escaped);
}

int main(int argc, char **argv)
{
    uint64_t num_rounds = argument(argc, argv, 1, 20000);

    for (uint64_t i = 0; i < num_rounds; i++) {
        malloc_100();
        malloc_10000();
        calloc_500();
        malloc_50_realloc_3000();
        realloc_null_700();
    }
    printf("{\"rounds\": %llu}\n", (unsigned long long)num_rounds);
    return 0;
}
