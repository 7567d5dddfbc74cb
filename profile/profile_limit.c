#include <stdlib.h>

#include "profile/heap.h"
#include "profile/profile_group.h"

/* Most that one entry of a hash_index takes: load just above 1/3 after growth, 12 bytes a slot. */
#define INDEX_ENTRY_BYTES 36
#define SAMPLE_COST_BYTES (sizeof(struct profile_sample) + INDEX_ENTRY_BYTES)
#define STACK_COST_BYTES (sizeof(struct stack) + INDEX_ENTRY_BYTES)
#define LOCATION_COST_BYTES (sizeof(struct location) + INDEX_ENTRY_BYTES)
/* Rounding up: the smallest tables of three indexes. */
#define SLACK_BYTES 2048

/* Labels, and the live set, may take one part in so many of the memory. */
#define LABELS_SHARE 8
#define LIVE_SHARE 4

/* No fewer: 1000 samples are an error of 3 %. */
#define MIN_LIVE_ROWS 1000

/* Weights are ordered by buckets, eight to the power of two: exact order would need a sort, and
 * which of two almost equal samples is merged does not matter. */
#define BUCKETS_PER_POWER 8
#define NUM_BUCKETS (64 * BUCKETS_PER_POWER)

/* One profile of the group on its way through the limit. */
struct limit_part {
    struct profile *profile;
    size_t first;              /* its samples are numbered from here on, over all profiles */
    bool *keep_samples;        /* one for each sample */
    uint32_t *label_set_other; /* for each label set: number in `others` + 1 */
    struct profile_sample *others;
    size_t num_others;
    uint64_t num_merged; /* sum of the first column */
    struct hash_index index;
};

struct limiter {
    const struct profile_group *group;
    struct stack_table *table;
    struct limit_part parts[PROFILE_GROUP_MAX];
    size_t num_samples;
    uint32_t other_stack;
    size_t budget_bytes;
    uint32_t *order;     /* sample numbers, heaviest bucket first */
    bool *keep_stacks;   /* one for each stack */
    bool *has_location;  /* one for each location: paid for */
    uint32_t *stack_map; /* new stack ids */
    size_t num_stacks_before;
};

/* What a rebuild cannot give back: strings, mappings, functions, the live set, and labels, which
 * went before. */
static size_t group_fixed_bytes(const struct profile_group *group)
{
    const struct stack_table *table = group->profiles[0]->table;
    size_t bytes = profile_group_bytes(group);

    for (size_t i = 0; i < group->num_profiles; i++) {
        const struct profile *profile = group->profiles[i];

        bytes -= hash_index_bytes(&profile->sample_index) +
                 profile->num_samples * sizeof(*profile->samples);
    }
    return bytes - hash_index_bytes(&table->location_index) -
           hash_index_bytes(&table->stack_index) -
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
    size_t starts[NUM_BUCKETS + 1] = {0};

    for (size_t p = 0; p < limiter->group->num_profiles; p++) {
        const struct profile *profile = limiter->parts[p].profile;
        struct profile_scale scale = profile_group_scale(limiter->group, profile);

        for (size_t i = 0; i < profile->num_samples; i++) {
            int64_t weight = profile_scale_weight(&scale, &profile->samples[i]);
            starts[NUM_BUCKETS - 1 - weight_bucket(weight) + 1]++;
        }
    }
    for (size_t i = 0; i < NUM_BUCKETS; i++)
        starts[i + 1] += starts[i];
    for (size_t p = 0; p < limiter->group->num_profiles; p++) {
        const struct limit_part *part = &limiter->parts[p];
        const struct profile *profile = part->profile;
        struct profile_scale scale = profile_group_scale(limiter->group, profile);

        for (size_t i = 0; i < profile->num_samples; i++) {
            int64_t weight = profile_scale_weight(&scale, &profile->samples[i]);
            unsigned bucket = NUM_BUCKETS - 1 - weight_bucket(weight);
            limiter->order[starts[bucket]++] = (uint32_t)(part->first + i);
        }
    }
}

/* Tells in which profile the sample of this number is. */
static struct limit_part *part_of(struct limiter *limiter, size_t number)
{
    struct limit_part *part = &limiter->parts[limiter->group->num_profiles - 1];

    while (number < part->first)
        part--;
    return part;
}

/* Tells what keeping a sample costs, given what is kept already, and how much of it is shared. */
static size_t stack_cost(const struct limiter *limiter, uint32_t stack_id)
{
    const struct stack_table *table = limiter->table;
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

/* Tells how many samples of [other] a profile gets at most. */
static size_t num_others_max(const struct limiter *limiter, const struct limit_part *part)
{
    size_t num_samples = part->profile->num_samples;

    return num_samples < limiter->table->num_label_sets ? num_samples
                                                        : limiter->table->num_label_sets;
}

static void stack_keep(struct limiter *limiter, uint32_t stack_id)
{
    const struct stack_table *table = limiter->table;
    const struct stack *stack = &table->stacks[stack_id];

    limiter->keep_stacks[stack_id] = true;
    for (size_t i = 0; i < stack->num_locations; i++)
        limiter->has_location[table->stack_locations[stack->first + i]] = true;
}

/* Keeps samples, heaviest first, for as long as the budget lasts. One that does not fit ends it:
 * going on would favour short stacks over heavy ones. */
static void limiter_choose(struct limiter *limiter)
{
    size_t used_bytes = SLACK_BYTES + stack_cost(limiter, limiter->other_stack);

    for (size_t p = 0; p < limiter->group->num_profiles; p++)
        used_bytes += num_others_max(limiter, &limiter->parts[p]) * SAMPLE_COST_BYTES;
    stack_keep(limiter, limiter->other_stack);
    for (size_t i = 0; i < limiter->num_samples; i++) {
        struct limit_part *part = part_of(limiter, limiter->order[i]);
        size_t number = limiter->order[i] - part->first;
        uint32_t stack = part->profile->samples[number].stack;

        if (stack == limiter->other_stack)
            continue;
        used_bytes += SAMPLE_COST_BYTES;
        if (!limiter->keep_stacks[stack])
            used_bytes += stack_cost(limiter, stack);
        if (used_bytes > limiter->budget_bytes)
            return;
        stack_keep(limiter, stack);
        part->keep_samples[number] = true;
    }
}

static void limiter_merge_one(const struct limiter *limiter, struct limit_part *part,
                              const struct profile_sample *sample)
{
    const struct profile *profile = part->profile;
    uint32_t *other = &part->label_set_other[sample->label_set];

    if (!*other) {
        *other = (uint32_t)++part->num_others;
        part->others[*other - 1] = (struct profile_sample){.label_set = sample->label_set};
    }
    struct profile_sample *sum = &part->others[*other - 1];
    for (size_t i = 0; i < profile->num_value_types; i++) {
        if (__builtin_add_overflow(sum->values[i], sample->values[i], &sum->values[i]))
            sum->values[i] = INT64_MAX;
    }
    if (sample->stack != limiter->other_stack && sample->values[0] > 0)
        part->num_merged += (uint64_t)sample->values[0];
}

/* Moves the samples that stay to the front and puts the merged ones behind them: never more than
 * there were, since each merged one stands for at least one. */
static void limiter_rebuild_samples(const struct limiter *limiter, struct limit_part *part)
{
    struct profile *profile = part->profile;
    size_t num_kept = 0;

    for (size_t i = 0; i < profile->num_samples; i++) {
        struct profile_sample sample = profile->samples[i];
        if (!part->keep_samples[i])
            continue;
        sample.stack = limiter->stack_map[sample.stack];
        profile->samples[num_kept++] = sample;
    }
    for (size_t i = 0; i < part->num_others; i++) {
        part->others[i].stack = limiter->stack_map[limiter->other_stack];
        profile->samples[num_kept++] = part->others[i];
    }
    profile->num_samples = num_kept;
    for (size_t i = 0; i < num_kept; i++) {
        const struct profile_sample *sample = &profile->samples[i];
        uint64_t hash = profile_sample_hash(sample->stack, sample->label_set);
        error_destroy(hash_index_insert(&part->index, hash, (uint32_t)i)); /* room is reserved */
    }
    struct hash_index old = profile->sample_index;
    profile->sample_index = part->index;
    part->index = old;
    struct profile_sample *samples =
        num_kept ? realloc(profile->samples, num_kept * sizeof(*samples)) : NULL;
    if (samples) {
        profile->samples = samples;
        profile->samples_capacity = num_kept;
    }
    if (__builtin_add_overflow(profile->loss.counts[LOSS_MERGED], part->num_merged,
                               &profile->loss.counts[LOSS_MERGED]))
        profile->loss.counts[LOSS_MERGED] = UINT64_MAX;
}

static struct error *limiter_alloc_part(const struct limiter *limiter, struct limit_part *part)
{
    part->keep_samples = calloc(part->profile->num_samples + 1, sizeof(*part->keep_samples));
    part->label_set_other =
        calloc(limiter->table->num_label_sets + 1, sizeof(*part->label_set_other));
    part->others = calloc(num_others_max(limiter, part) + 1, sizeof(*part->others));
    if (!part->keep_samples || !part->label_set_other || !part->others)
        return &error_no_memory;
    return NULL;
}

static struct error *limiter_alloc(struct limiter *limiter)
{
    const struct stack_table *table = limiter->table;

    for (size_t i = 0; i < limiter->group->num_profiles; i++) {
        struct limit_part *part = &limiter->parts[i];

        part->profile = limiter->group->profiles[i];
        part->first = limiter->num_samples;
        limiter->num_samples += part->profile->num_samples;
        RETURN_IF_ERROR(limiter_alloc_part(limiter, part));
    }
    if (limiter->num_samples > UINT32_MAX)
        return &error_no_memory;
    limiter->order = calloc(limiter->num_samples + 1, sizeof(*limiter->order));
    limiter->keep_stacks = calloc(table->num_stacks + 1, sizeof(*limiter->keep_stacks));
    limiter->has_location = calloc(table->num_locations + 1, sizeof(*limiter->has_location));
    limiter->stack_map = calloc(table->num_stacks + 1, sizeof(*limiter->stack_map));
    if (!limiter->order || !limiter->keep_stacks || !limiter->has_location || !limiter->stack_map)
        return &error_no_memory;
    return NULL;
}

static void limiter_deinit(struct limiter *limiter)
{
    for (size_t i = 0; i < limiter->group->num_profiles; i++) {
        struct limit_part *part = &limiter->parts[i];

        free(part->keep_samples);
        free(part->label_set_other);
        free(part->others);
        hash_index_deinit(&part->index);
    }
    free(limiter->order);
    free(limiter->keep_stacks);
    free(limiter->has_location);
    free(limiter->stack_map);
}

/* Sums what is merged, and makes the index that the part's samples will need. */
static struct error *limiter_merge(const struct limiter *limiter, struct limit_part *part)
{
    size_t num_kept = 0;

    for (size_t i = 0; i < part->profile->num_samples; i++) {
        if (part->keep_samples[i])
            num_kept++;
        else
            limiter_merge_one(limiter, part, &part->profile->samples[i]);
    }
    return hash_index_reserve(&part->index, num_kept + part->num_others);
}

/* Rows of the live set whose stack went are merged as well. */
static void limiter_renumber_live(const struct limiter *limiter)
{
    for (size_t i = 0; i < limiter->num_stacks_before; i++) {
        if (!limiter->keep_stacks[i])
            limiter->stack_map[i] = limiter->stack_map[limiter->other_stack];
    }
    live_set_renumber(limiter->group->live, limiter->stack_map, NULL);
}

static struct error *limiter_run(struct limiter *limiter)
{
    RETURN_IF_ERROR(limiter_alloc(limiter));
    limiter_sort(limiter);
    limiter_choose(limiter);
    for (size_t i = 0; i < limiter->group->num_profiles; i++)
        RETURN_IF_ERROR(limiter_merge(limiter, &limiter->parts[i]));
    limiter->num_stacks_before = limiter->table->num_stacks;
    RETURN_IF_ERROR(stack_table_compact(limiter->table, limiter->keep_stacks, limiter->stack_map));
    for (size_t i = 0; i < limiter->group->num_profiles; i++)
        limiter_rebuild_samples(limiter, &limiter->parts[i]);
    if (limiter->group->live)
        limiter_renumber_live(limiter);
    return NULL;
}

/* Thinned rows were taken at another rate, and say so. */
static struct error *relabel_live(const struct profile_group *group)
{
    struct live_set *live = group->live;

    for (size_t i = 0; i < live->num_rows; i++) {
        struct live_row *row = &live->rows[i];

        RETURN_IF_ERROR(heap_label_set(group->heap, row->label_set, row->size_bytes,
                                       row->rate_bytes, &row->label_set));
    }
    return NULL;
}

/* Thins the live set to its share, and sets what is in use: by that, too, samples are weighed. */
static struct error *limit_live(const struct profile_group *group, size_t max_bytes)
{
    size_t num_before;

    live_set_settle(group->live);
    num_before = group->live->num_rows;
    while (live_set_bytes(group->live) > max_bytes && group->live->num_rows > MIN_LIVE_ROWS)
        live_set_thin(group->live);
    if (group->live->num_rows != num_before)
        RETURN_IF_ERROR(relabel_live(group));
    return heap_set_in_use(group->heap, group->live, UINT64_MAX);
}

static bool group_is_empty(const struct profile_group *group)
{
    for (size_t i = 0; i < group->num_profiles; i++) {
        if (group->profiles[i]->num_samples > 0)
            return false;
    }
    return true;
}

struct error *profile_group_limit_memory(const struct profile_group *group, size_t max_bytes)
{
    struct limiter limiter = {.group = group, .table = group->profiles[0]->table};

    if (profile_group_bytes(group) <= max_bytes || group_is_empty(group))
        return NULL;
    if (group->live)
        RETURN_IF_ERROR(limit_live(group, max_bytes / LIVE_SHARE));
    RETURN_IF_ERROR(profile_group_limit_labels(group, max_bytes / LABELS_SHARE));
    if (profile_group_bytes(group) <= max_bytes / 2)
        return NULL;
    RETURN_IF_ERROR(intern_other(limiter.table, &limiter.other_stack));
    size_t fixed_bytes = group_fixed_bytes(group);
    limiter.budget_bytes = max_bytes / 2 > fixed_bytes ? max_bytes / 2 - fixed_bytes : 0;
    struct error *err = limiter_run(&limiter);
    limiter_deinit(&limiter);
    return err;
}

struct error *profile_limit_memory(struct profile *profile, size_t max_bytes)
{
    struct profile_group group = {.profiles = {profile}, .num_profiles = 1};

    return profile_group_limit_memory(&group, max_bytes);
}
