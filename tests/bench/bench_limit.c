/* What it costs to stay within the memory limit: fill 64 MB with distinct stacks, merge, go on.
 *
 * Prints the CPU time of each merge and what was kept: the sampler's rings have to hold what
 * arrives meanwhile.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "profile/profile.h"

#define MAX_BYTES ((size_t)64 << 20)
#define NUM_MERGES 3

/* Fills `chain` with a stack that nobody had before, most of its frames common ones. */
static void chain_fill(struct callchain *chain, uint64_t number, uint32_t num_frames)
{
    chain->num_frames = 0;
    for (uint32_t i = 0; i < num_frames; i++)
        callchain_push(chain, 0x400000 + hash_u64(number * 4096 + i) % 50000, 1, REASON_NONE);
}

static struct error *bench(struct profile *profile, struct callchain *chain, uint32_t num_frames)
{
    static const int64_t values[] = {1, 10101010};
    uint64_t number = 0;
    uint32_t stack;

    for (int merge = 0; merge < NUM_MERGES;) {
        for (int i = 0; i < 1000; i++) {
            chain_fill(chain, number++, num_frames);
            RETURN_IF_ERROR(stack_table_intern(profile->table, chain, &stack));
            RETURN_IF_ERROR(profile_add(profile, stack, 0, values));
        }
        size_t num_before = profile->num_samples;
        uint64_t begin_ns = clock_self_cpu_ns();
        RETURN_IF_ERROR(profile_limit_memory(profile, MAX_BYTES));
        uint64_t passed_ns = clock_self_cpu_ns() - begin_ns;
        if (profile->num_samples == num_before)
            continue;
        printf("%4u frames  merged in %6.1f ms: %7zu samples -> %7zu, table now %5zu KB, total "
               "%" PRId64 " of %" PRIu64 "\n",
               num_frames, (double)passed_ns / 1e6, num_before, profile->num_samples,
               stack_table_bytes(profile->table) / 1024, profile_total(profile, 0), number);
        merge++;
    }
    return NULL;
}

static struct error *bench_depth(struct callchain *chain, uint32_t num_frames)
{
    struct stack_table table;
    struct profile profile;

    RETURN_IF_ERROR(stack_table_init(&table));
    struct error *err = profile_init_cpu(&profile, &table, 10101010);
    if (!err) {
        err = bench(&profile, chain, num_frames);
        profile_deinit(&profile);
    }
    stack_table_deinit(&table);
    return err;
}

int main(void)
{
    static const uint32_t depths[] = {20, 200};
    CLEANUP(free) struct callchain *chain = calloc(1, sizeof(*chain));

    for (size_t i = 0; chain && i < ARRAY_LENGTH(depths); i++) {
        struct error *err = bench_depth(chain, depths[i]);
        if (err) {
            fprintf(stderr, "bench_limit: %s\n", err->message);
            error_destroy(err);
            return 1;
        }
    }
    return chain ? 0 : 1;
}
