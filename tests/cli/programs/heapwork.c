/* Holds, frees and leaks memory, step by step: each line on standard input is one step, answered
 * when it is done. A second thread allocates as well. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APART __attribute__((noinline))
#define NO_TAIL_CALL __asm__ volatile("")
#define NUM_BLOCKS 2000

static void *volatile escaped; /* so that no allocation is optimized away */
static void *held[3 * NUM_BLOCKS];
static size_t num_held;

APART static void hold(size_t num_blocks, size_t bytes)
{
    for (size_t i = 0; i < num_blocks; i++) {
        escaped = malloc(bytes);
        memset(escaped, 1, bytes);
        held[num_held++] = escaped;
    }
}

APART static void churn(void)
{
    for (int i = 0; i < 500; i++) {
        escaped = malloc(10000);
        free(escaped);
    }
}

APART static void keep(void)
{
    hold(NUM_BLOCKS, 6000);
    NO_TAIL_CALL;
}

APART static void leak(void)
{
    hold(NUM_BLOCKS, 12000);
    NO_TAIL_CALL;
}

APART static void large(void)
{
    hold(1, 8 << 20);
    NO_TAIL_CALL;
}

static void *helper(void *unused)
{
    churn();
    return unused;
}

static int work(void)
{
    pthread_t thread;
    char line[10];

    while (fgets(line, sizeof(line), stdin)) {
        if (line[0] == 'k') {
            keep();
            large();
            churn();
            if (pthread_create(&thread, NULL, helper, NULL) || pthread_join(thread, NULL))
                return 1;
        } else {
            leak();
        }
        puts("done");
        fflush(stdout);
    }
    return 0;
}

int main(void)
{
    return work();
}
