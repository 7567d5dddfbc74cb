#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "profile/profile.h"

/* Most that one entry of a hash_index takes: load just above 1/3 after growth, 12 bytes a slot. */
#define INDEX_ENTRY_BYTES 36
#define SAMPLE_COST_BYTES (sizeof(struct profile_sample) + INDEX_ENTRY_BYTES)
#define STACK_COST_BYTES (sizeof(struct stack) + INDEX_ENTRY_BYTES)
#define LOCATION_COST_BYTES (sizeof(struct location) + INDEX_ENTRY_BYTES)
/* Rounding up: the smallest tables of three indexes. */
#define SLACK_BYTES 2048

/* Labels may take one part in so many of the memory. */
#define LABELS_SHARE 8

/* Weights are ordered by buckets, eight to the power of two: exact order would need a sort, and
 * which of two almost equal samples is merged does not matter. */
#define BUCKETS_PER_POWER 8
#define NUM_BUCKETS (64 * BUCKETS_PER_POWER)

struct limiter {
    struct profile *profile;
    uint32_t other_stack;
    size_t budget_bytes;
    uint32_t *order;           /* sample numbers, heaviest bucket first */
    bool *keep_samples;        /* one for each sample */
    bool *keep_stacks;         /* one for each stack */
    bool *has_location;        /* one for each location: paid for */
    uint32_t *stack_map;       /* new stack ids */
    uint32_t *label_set_other; /* for each label set: number in `others` + 1 */
    struct profile_sample *others;
    size_t num_others;
    uint64_t num_merged; /* sum of the first column */
};

static size_t profile_bytes(const struct profile *profile)
{
    return stack_table_bytes(profile->table) + hash_index_bytes(&profile->sample_index) +
           profile->num_samples * sizeof(*profile->samples) +
           profile->num_comments * sizeof(*profile->comments);
}

/* What a rebuild cannot give back: strings, mappings, functions, and labels, which went before. */
static size_t profile_fixed_bytes(const struct profile *profile)
{
    const struct stack_table *table = profile->table;

    return profile_bytes(profile) - hash_index_bytes(&profile->sample_index) -
           profile->num_samples * sizeof(*profile->samples) -
           hash_index_bytes(&table->location_index) - hash_index_bytes(&table->stack_index) -
           table->num_locations * sizeof(*table->locations) -
           table->num_stacks * sizeof(*table->stacks) -
           table->num_stack_locations * sizeof(*table->stack_locations) -
           table->num_lines * sizeof(*table->lines);
}

static struct error *intern_other(struct stack_table *table, uint32_t *stack_ret)
{
    struct frame_key key = {.reason = REASON_OTHER};
    uint32_t location;

    RETURN_IF_ERROR(stack_table_add_location(table, &key, &location));
    return stack_table_intern_locations(table, &location, 1, stack_ret);
}

static unsigned weight_bucket(int64_t weight)
{
    if (weight <= 0)
        return 0;
    if (weight < BUCKETS_PER_POWER)
        return (unsigned)weight;
    unsigned power = 63 - (unsigned)__builtin_clzll((unsigned long long)weight);
    unsigned part = (unsigned)(weight >> (power - 3)) & (BUCKETS_PER_POWER - 1);
    return power * BUCKETS_PER_POWER + part;
}

/* A counting sort, stable: of equals the one that was seen first comes first. */
static void limiter_sort(struct limiter *limiter)
{
    const struct profile *profile = limiter->profile;
    size_t column = profile->num_value_types ? profile->num_value_types - 1 : 0;
    size_t starts[NUM_BUCKETS + 1] = {0};

    for (size_t i = 0; i < profile->num_samples; i++)
        starts[NUM_BUCKETS - 1 - weight_bucket(profile->samples[i].values[column]) + 1]++;
    for (size_t i = 0; i < NUM_BUCKETS; i++)
        starts[i + 1] += starts[i];
    for (size_t i = 0; i < profile->num_samples; i++) {
        unsigned bucket = NUM_BUCKETS - 1 - weight_bucket(profile->samples[i].values[column]);
        limiter->order[starts[bucket]++] = (uint32_t)i;
    }
}

/* Tells what keeping a sample costs, given what is kept already, and how much of it is shared. */
static size_t stack_cost(const struct limiter *limiter, uint32_t stack_id)
{
    const struct stack_table *table = limiter->profile->table;
    const struct stack *stack = &table->stacks[stack_id];
    size_t cost = STACK_COST_BYTES + stack->num_locations * sizeof(*table->stack_locations);

    for (size_t i = 0; i < stack->num_locations; i++) {
        uint32_t location = table->stack_locations[stack->first + i];
        if (!limiter->has_location[location])
            cost +=
                LOCATION_COST_BYTES + table->locations[location].num_lines * sizeof(*table->lines);
    }
    return cost;
}

static void stack_keep(struct limiter *limiter, uint32_t stack_id)
{
    const struct stack_table *table = limiter->profile->table;
    const struct stack *stack = &table->stacks[stack_id];

    limiter->keep_stacks[stack_id] = true;
    for (size_t i = 0; i < stack->num_locations; i++)
        limiter->has_location[table->stack_locations[stack->first + i]] = true;
}

/* Keeps samples, heaviest first, for as long as the budget lasts. One that does not fit ends it:
 * going on would favour short stacks over heavy ones. */
static void limiter_choose(struct limiter *limiter)
{
    const struct profile *profile = limiter->profile;
    size_t used_bytes = SLACK_BYTES + profile->table->num_label_sets * SAMPLE_COST_BYTES +
                        stack_cost(limiter, limiter->other_stack);

    stack_keep(limiter, limiter->other_stack);
    for (size_t i = 0; i < profile->num_samples; i++) {
        uint32_t stack = profile->samples[limiter->order[i]].stack;
        if (stack == limiter->other_stack)
            continue;
        used_bytes += SAMPLE_COST_BYTES;
        if (!limiter->keep_stacks[stack])
            used_bytes += stack_cost(limiter, stack);
        if (used_bytes > limiter->budget_bytes)
            return;
        stack_keep(limiter, stack);
        limiter->keep_samples[limiter->order[i]] = true;
    }
}

static void limiter_merge_one(struct limiter *limiter, const struct profile_sample *sample)
{
    struct profile *profile = limiter->profile;
    uint32_t *other = &limiter->label_set_other[sample->label_set];

    if (!*other) {
        *other = (uint32_t)++limiter->num_others;
        limiter->others[*other - 1] = (struct profile_sample){.label_set = sample->label_set};
    }
    struct profile_sample *sum = &limiter->others[*other - 1];
    for (size_t i = 0; i < profile->num_value_types; i++) {
        if (__builtin_add_overflow(sum->values[i], sample->values[i], &sum->values[i]))
            sum->values[i] = INT64_MAX;
    }
    if (sample->stack != limiter->other_stack && sample->values[0] > 0)
        limiter->num_merged += (uint64_t)sample->values[0];
}

/* Moves the samples that stay to the front and puts the merged ones behind them: never more than
 * there were, since each merged one stands for at least one. */
static void limiter_rebuild_samples(struct limiter *limiter, struct hash_index *index)
{
    struct profile *profile = limiter->profile;
    size_t num_kept = 0;

    for (size_t i = 0; i < profile->num_samples; i++) {
        struct profile_sample sample = profile->samples[i];
        if (!limiter->keep_samples[i])
            continue;
        sample.stack = limiter->stack_map[sample.stack];
        profile->samples[num_kept++] = sample;
    }
    for (size_t i = 0; i < limiter->num_others; i++) {
        limiter->others[i].stack = limiter->stack_map[limiter->other_stack];
        profile->samples[num_kept++] = limiter->others[i];
    }
    profile->num_samples = num_kept;
    for (size_t i = 0; i < num_kept; i++) {
        const struct profile_sample *sample = &profile->samples[i];
        uint64_t hash = hash_u64((uint64_t)sample->stack << 32 | sample->label_set);
        error_destroy(hash_index_insert(index, hash, (uint32_t)i)); /* room is reserved */
    }
    struct profile_sample *samples =
        num_kept ? realloc(profile->samples, num_kept * sizeof(*samples)) : NULL;
    if (samples) {
        profile->samples = samples;
        profile->samples_capacity = num_kept;
    }
    if (__builtin_add_overflow(profile->loss.counts[LOSS_MERGED], limiter->num_merged,
                               &profile->loss.counts[LOSS_MERGED]))
        profile->loss.counts[LOSS_MERGED] = UINT64_MAX;
}

static struct error *limiter_alloc(struct limiter *limiter)
{
    const struct profile *profile = limiter->profile;
    const struct stack_table *table = profile->table;
    size_t num_samples = profile->num_samples;
    size_t num_others_max =
        num_samples < table->num_label_sets ? num_samples : table->num_label_sets;

    limiter->order = calloc(num_samples + 1, sizeof(*limiter->order));
    limiter->keep_samples = calloc(num_samples + 1, sizeof(*limiter->keep_samples));
    limiter->keep_stacks = calloc(table->num_stacks + 1, sizeof(*limiter->keep_stacks));
    limiter->has_location = calloc(table->num_locations + 1, sizeof(*limiter->has_location));
    limiter->stack_map = calloc(table->num_stacks + 1, sizeof(*limiter->stack_map));
    limiter->label_set_other = calloc(table->num_label_sets + 1, sizeof(*limiter->label_set_other));
    limiter->others = calloc(num_others_max + 1, sizeof(*limiter->others));
    if (!limiter->order || !limiter->keep_samples || !limiter->keep_stacks ||
        !limiter->has_location || !limiter->stack_map || !limiter->label_set_other ||
        !limiter->others)
        return &error_no_memory;
    return NULL;
}

static void limiter_deinit(struct limiter *limiter)
{
    free(limiter->order);
    free(limiter->keep_samples);
    free(limiter->keep_stacks);
    free(limiter->has_location);
    free(limiter->stack_map);
    free(limiter->label_set_other);
    free(limiter->others);
}

static struct error *limiter_run(struct limiter *limiter)
{
    struct profile *profile = limiter->profile;
    struct hash_index index;
    size_t num_kept = 0;

    hash_index_init(&index);
    RETURN_IF_ERROR(limiter_alloc(limiter));
    limiter_sort(limiter);
    limiter_choose(limiter);
    for (size_t i = 0; i < profile->num_samples; i++) {
        if (limiter->keep_samples[i])
            num_kept++;
        else
            limiter_merge_one(limiter, &profile->samples[i]);
    }
    RETURN_IF_ERROR(hash_index_reserve(&index, num_kept + limiter->num_others));
    struct error *err =
        stack_table_compact(profile->table, limiter->keep_stacks, limiter->stack_map);
    if (err) {
        hash_index_deinit(&index);
        return err;
    }
    limiter_rebuild_samples(limiter, &index);
    hash_index_deinit(&profile->sample_index);
    profile->sample_index = index;
    return NULL;
}

struct error *profile_limit_memory(struct profile *profile, size_t max_bytes)
{
    struct limiter limiter = {.profile = profile};

    if (profile_bytes(profile) <= max_bytes || !profile->num_samples)
        return NULL;
    RETURN_IF_ERROR(profile_limit_labels(profile, max_bytes / LABELS_SHARE));
    if (profile_bytes(profile) <= max_bytes / 2)
        return NULL;
    RETURN_IF_ERROR(intern_other(profile->table, &limiter.other_stack));
    size_t fixed_bytes = profile_fixed_bytes(profile);
    limiter.budget_bytes = max_bytes / 2 > fixed_bytes ? max_bytes / 2 - fixed_bytes : 0;
    struct error *err = limiter_run(&limiter);
    limiter_deinit(&limiter);
    return err;
}
