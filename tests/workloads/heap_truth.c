/* C's ways to allocate; see heap_truth.h. */
#include <malloc.h>
#include <pthread.h>

#include "heap_truth.h"

static void *volatile escaped; /* so that no allocation is optimized away */

APART void keep_small(void)
{
    for (int i = 0; i < 900; i++) {
        uint64_t bytes = size_between(0, 6);
        void *block = malloc(bytes);
        account_alloc(ACCOUNT(keep_small), bytes);
        account_keep(ACCOUNT(keep_small), block, bytes, free);
        if (i % 100 == 0)
            breathe();
    }
}

APART void keep_medium(void)
{
    for (int i = 0; i < 240; i++) {
        uint64_t bytes = size_between(8, 56);
        void *block = malloc(bytes);
        account_alloc(ACCOUNT(keep_medium), bytes);
        account_keep(ACCOUNT(keep_medium), block, bytes, free);
        if (i % 32 == 0)
            breathe();
    }
}

APART void keep_zeroed(void)
{
    for (int i = 0; i < 100; i++) {
        uint64_t number = size_between(2, 4), bytes = 8 * number;
        void *block = calloc(number, 8);
        account_alloc(ACCOUNT(keep_zeroed), bytes);
        account_keep(ACCOUNT(keep_zeroed), block, bytes, free);
    }
}

/* Each step is a free and an allocation. */
APART void keep_grown(void)
{
    for (int i = 0; i < 75; i++) {
        uint64_t bytes = size_between(1, 2);
        void *block = NULL;
        for (int step = 0; step < 5; step++, bytes *= 2) {
            block = realloc(block, bytes);
            account_alloc(ACCOUNT(keep_grown), bytes);
        }
        account_keep(ACCOUNT(keep_grown), block, bytes / 2, free);
    }
    breathe();
}

APART void keep_shrunk(void)
{
    for (int i = 0; i < 100; i++) {
        uint64_t bytes = size_between(24, 40);
        escaped = malloc(bytes);
        account_alloc(ACCOUNT(keep_shrunk), bytes);
        bytes = bytes / 2 + 1;
        void *block = realloc(escaped, bytes);
        account_alloc(ACCOUNT(keep_shrunk), bytes);
        account_keep(ACCOUNT(keep_shrunk), block, bytes, free);
    }
    breathe();
}

/* A realloc that fails leaves the block as it was. */
APART void keep_failed(void)
{
    for (int i = 0; i < 100; i++) {
        uint64_t bytes = size_between(12, 20);
        void *block = malloc(bytes);
        account_alloc(ACCOUNT(keep_failed), bytes);
        escaped = block;
        volatile size_t too_much = SIZE_MAX / 2 - 4096;
        if (realloc(escaped, too_much) != NULL)
            _exit(20);
        account_keep(ACCOUNT(keep_failed), block, bytes, free);
    }
    breathe();
}

APART void keep_aligned(void)
{
    for (int i = 0; i < 100; i++) {
        uint64_t bytes = size_between(8, 40) / 64 * 64 + 64;
        size_t alignment = i % 2 ? 16 : 64; /* malloc's own, too */
        void *block = NULL;
        if (i % 3 == 0)
            block = memalign(alignment, bytes);
        else if (i % 3 == 1)
            block = aligned_alloc(alignment, bytes);
        else if (posix_memalign(&block, alignment, bytes) != 0)
            _exit(21);
        account_alloc(ACCOUNT(keep_aligned), bytes);
        account_keep(ACCOUNT(keep_aligned), block, bytes, free);
    }
    breathe();
}

APART void keep_array(void)
{
    for (int i = 0; i < 100; i++) {
        uint64_t number = size_between(4, 6), bytes = 4 * number;
        escaped = i % 2 ? NULL : malloc(16);
        void *block = reallocarray(escaped, number, 4);
        account_alloc(ACCOUNT(keep_array), bytes);
        if (i % 2 == 0)
            account_alloc(ACCOUNT(keep_array), 16);
        account_keep(ACCOUNT(keep_array), block, bytes, free);
    }
    breathe();
}

APART void keep_big(void)
{
    uint64_t bytes = unit_bytes * 120;
    void *block = malloc(bytes);
    account_alloc(ACCOUNT(keep_big), bytes);
    account_keep(ACCOUNT(keep_big), block, bytes, free);
}

APART void keep_in_thread(void)
{
    for (int i = 0; i < 60; i++) {
        uint64_t bytes = size_between(8, 24);
        void *block = malloc(bytes);
        account_alloc(ACCOUNT(keep_in_thread), bytes);
        account_keep(ACCOUNT(keep_in_thread), block, bytes, free);
    }
}

static void *handed[3][64];

/* Allocates what the main thread will free. */
APART void hand_over(void **blocks)
{
    for (int i = 0; i < 64; i++) {
        uint64_t bytes = size_between(8, 24);
        blocks[i] = malloc(bytes);
        account_alloc(ACCOUNT(hand_over), bytes);
    }
}

static void *run_thread(void *blocks)
{
    keep_in_thread();
    hand_over(blocks);
    return NULL;
}

APART void use_threads(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, run_thread, handed[i]) != 0)
            _exit(22);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    breathe();
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 64; j++)
            free(handed[i][j]);
}

/* Everything goes again: small ones at once, larger ones later and by realloc. */
APART void drop_all(void)
{
    void *blocks[128];
    for (int i = 0; i < 1500; i++) {
        uint64_t bytes = size_between(0, 1);
        escaped = malloc(bytes);
        account_alloc(ACCOUNT(drop_all), bytes);
        free(escaped);
    }
    for (int i = 0; i < 128; i++) {
        uint64_t bytes = size_between(8, 24);
        blocks[i] = malloc(bytes);
        account_alloc(ACCOUNT(drop_all), bytes);
    }
    breathe();
    for (int i = 0; i < 128; i++) {
        blocks[i] = realloc(blocks[i], unit_bytes / 4);
        account_alloc(ACCOUNT(drop_all), unit_bytes / 4);
    }
    for (int i = 0; i < 128; i++)
        free(blocks[i]);
    free(NULL);
}

static void do_round(void)
{
    keep_small();
    keep_medium();
    keep_zeroed();
    keep_grown();
    keep_shrunk();
    keep_failed();
    keep_aligned();
    keep_array();
    keep_big();
    use_threads();
    drop_all();
}

int main(int argc, char **argv)
{
    return obey(argc, argv);
}
