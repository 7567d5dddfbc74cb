/* Random operations against a naive model: after any mix of additions, compactions and limits each
 * (frames, labels) pair still has its sum, but for what went into [other]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "profile/profile.h"

#define NUM_KINDS 300
#define NUM_LABEL_SETS 7
#define NUM_STEPS 20000

struct model {
    int64_t sums[NUM_KINDS][NUM_LABEL_SETS]; /* of what was ever added */
};

static struct callchain chain;

/* Chain number `kind`: 1 to 60 frames; prefixes of each other and equal frames are frequent. */
static void chain_make(uint32_t kind)
{
    uint32_t num_frames = 1 + kind % 60;

    chain.num_frames = 0;
    for (uint32_t i = 1; i < num_frames; i++)
        callchain_push(&chain, hash_u64(kind % 5 + i) % 40, 1, REASON_NONE);
    callchain_push(&chain, kind, 2, REASON_NONE);
}

/* Tells which kind a stack of the table is, checking all its frames; NUM_KINDS for [other]. */
static uint32_t stack_kind(const struct stack_table *table, uint32_t stack_id)
{
    const struct stack *stack = &table->stacks[stack_id];
    const uint32_t *ids = table->stack_locations + stack->first;
    const struct frame_key *last = &table->locations[ids[stack->num_locations - 1]].key;

    if (last->reason == REASON_OTHER) {
        assert_int_equal(stack->num_locations, 1);
        return NUM_KINDS;
    }
    chain_make((uint32_t)last->pc);
    assert_int_equal(stack->num_locations, chain.num_frames);
    for (size_t i = 0; i < chain.num_frames; i++)
        assert_memory_equal(&table->locations[ids[i]].key, &chain.frames[i],
                            sizeof(chain.frames[i]));
    return (uint32_t)last->pc;
}

static void compare(const struct profile *profile, const struct model *model,
                    const uint32_t *label_sets)
{
    int64_t set_sums[NUM_LABEL_SETS] = {0};
    int64_t num_other = 0;

    for (size_t i = 0; i < profile->num_samples; i++) {
        const struct profile_sample *sample = &profile->samples[i];
        uint32_t kind = stack_kind(profile->table, sample->stack);
        uint32_t set = 0;
        while (label_sets[set] != sample->label_set)
            assert_true(++set < NUM_LABEL_SETS);
        set_sums[set] += sample->values[0];
        if (kind == NUM_KINDS)
            num_other += sample->values[0];
        else
            assert_true(sample->values[0] <= model->sums[kind][set]);
        assert_int_equal(sample->values[1], 10 * sample->values[0]);
    }
    assert_int_equal(profile->loss.counts[LOSS_MERGED], num_other);
    for (size_t set = 0; set < NUM_LABEL_SETS; set++) {
        int64_t expected = 0;
        for (size_t kind = 0; kind < NUM_KINDS; kind++)
            expected += model->sums[kind][set];
        assert_int_equal(set_sums[set], expected);
    }
}

static void step(struct profile *profile, struct model *model, const uint32_t *label_sets,
                 uint64_t random)
{
    uint32_t kind = (uint32_t)(random % NUM_KINDS * (random >> 16 & 1));
    uint32_t set = (uint32_t)(random >> 24) % NUM_LABEL_SETS;
    int64_t count = 1 + (int64_t)(random >> 40) % 9;
    const int64_t values[] = {count, 10 * count};
    uint32_t stack;

    chain_make(kind);
    assert_null(stack_table_intern(profile->table, &chain, &stack));
    assert_int_equal(stack_kind(profile->table, stack), kind);
    assert_null(profile_add(profile, stack, label_sets[set], values));
    model->sums[kind][set] += count;
    if (random >> 56 == 0)
        assert_null(profile_limit_memory(profile, 90000 + (random >> 8) % 60000));
}

static void agrees_with_the_model(void **state)
{
    CLEANUP(free) struct model *model = calloc(1, sizeof(*model));
    struct mapping mapping = {.limit = 1000};
    struct stack_table table;
    struct profile profile;
    uint32_t label_sets[NUM_LABEL_SETS];
    uint32_t id;

    (void)state;
    assert_null(stack_table_init(&table));
    assert_null(profile_init_cpu(&profile, &table, 10));
    for (mapping.module = 1; mapping.module <= 2; mapping.module++)
        assert_null(stack_table_add_mapping(&table, &mapping, &id));
    for (uint32_t i = 0; i < NUM_LABEL_SETS; i++) {
        struct label label = {.key = 1, .num = i + 1};
        assert_null(stack_table_add_label_set(&table, &label, 1, &label_sets[i]));
    }
    for (uint64_t i = 0; i < NUM_STEPS; i++) {
        step(&profile, model, label_sets, hash_u64(i + 12345));
        if (i % 500 == 0)
            compare(&profile, model, label_sets);
    }
    compare(&profile, model, label_sets);
    assert_true(profile.loss.counts[LOSS_MERGED] > 0);
    assert_null(profile_check(&profile, false));
    profile_deinit(&profile);
    stack_table_deinit(&table);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
