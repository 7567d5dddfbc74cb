/* What interning a stack costs: known stacks (the hot path) and new ones, shallow and deep.
 *
 * Prints one line each: ns of CPU per stack and per frame. The set of stacks is as a real program
 * shows them: few roots, many leaves, a few thousand locations.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "profile/profile.h"

#define NUM_STACKS 2000
#define NUM_LOCATIONS 4000
#define KNOWN_ROUNDS_FRAMES 40000000u

/* Fills `chain` with stack number `number`: the same frames every time. */
static void chain_fill(struct callchain *chain, uint32_t number, uint32_t num_frames)
{
    chain->num_frames = 0;
    for (uint32_t i = 0; i < num_frames; i++) {
        /* Towards the root the stacks agree: a tree that forks eight ways each few frames. */
        uint32_t depth = num_frames - i;
        uint32_t group = depth > 12 ? number : number % (1u << depth);
        uint64_t place = hash_u64((uint64_t)group << 32 | i) % NUM_LOCATIONS;
        callchain_push(chain, 0x400000 + place * 48, 1 + (uint32_t)(place % 20), REASON_NONE);
    }
}

static struct error *bench(struct stack_table *table, struct callchain *chains, uint32_t num_frames)
{
    uint32_t stack;
    uint32_t rounds = KNOWN_ROUNDS_FRAMES / num_frames / NUM_STACKS;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < NUM_STACKS; i++)
        chain_fill(&chains[i], i, num_frames);

    uint64_t begin_ns = clock_self_cpu_ns();
    for (uint32_t i = 0; i < NUM_STACKS; i++)
        RETURN_IF_ERROR(stack_table_intern(table, &chains[i], &stack));
    uint64_t new_ns = clock_self_cpu_ns() - begin_ns;

    begin_ns = clock_self_cpu_ns();
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < NUM_STACKS; i++) {
            RETURN_IF_ERROR(stack_table_intern(table, &chains[i], &stack));
            sum += stack;
        }
    }
    uint64_t known_ns = clock_self_cpu_ns() - begin_ns;

    double per_new = (double)new_ns / NUM_STACKS;
    double per_known = (double)known_ns / rounds / NUM_STACKS;
    printf("%4u frames  known %8.1f ns/stack %6.2f ns/frame   new %8.1f ns/stack %6.2f ns/frame"
           "   (%zu stacks, %zu locations, %zu KB, check %" PRIu64 ")\n",
           num_frames, per_known, per_known / num_frames, per_new, per_new / num_frames,
           table->num_stacks, table->num_locations, stack_table_bytes(table) / 1024, sum % 997);
    return NULL;
}

int main(void)
{
    static const uint32_t depths[] = {20, 200};
    CLEANUP(free) struct callchain *chains = calloc(NUM_STACKS, sizeof(*chains));

    for (size_t i = 0; chains && i < ARRAY_LENGTH(depths); i++) {
        struct stack_table table;
        struct error *err = stack_table_init(&table);
        if (!err) {
            err = bench(&table, chains, depths[i]);
            stack_table_deinit(&table);
        }
        if (err) {
            fprintf(stderr, "bench_intern: %s\n", err->message);
            error_destroy(err);
            return 1;
        }
    }
    return chains ? 0 : 1;
}
