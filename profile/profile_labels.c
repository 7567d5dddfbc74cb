/* Giving up labels: a program that starts threads without end has as many label sets. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "profile/profile_group.h"

/* Most that one entry of a hash_index takes: load just above 1/3 after growth, 12 bytes a slot. */
#define INDEX_ENTRY_BYTES 36
/* A label set comes with at least one sample: its [other]. */
#define SET_COST_BYTES \
    (sizeof(struct label_set) + sizeof(struct profile_sample) + 2 * INDEX_ENTRY_BYTES)
#define NUM_WEIGHTS 64 /* powers of two */

static unsigned weight_class(uint64_t weight)
{
    return weight ? 63 - (unsigned)__builtin_clzll(weight) : 0;
}

static size_t set_cost(const struct stack_table *table, size_t set)
{
    return SET_COST_BYTES + table->label_sets[set].num_labels * sizeof(*table->labels);
}

/* Tells how much each label set stands for: the sum of the weights of its samples. */
static void weigh_sets(const struct profile_group *group, uint64_t *weights)
{
    for (size_t i = 0; i < group->num_profiles; i++) {
        const struct profile *profile = group->profiles[i];
        struct profile_scale scale = profile_group_scale(group, profile);

        for (size_t j = 0; j < profile->num_samples; j++) {
            const struct profile_sample *sample = &profile->samples[j];
            uint64_t *weight = &weights[sample->label_set];

            if (__builtin_add_overflow(*weight, (uint64_t)profile_scale_weight(&scale, sample),
                                       weight))
                *weight = UINT64_MAX;
        }
    }
}

/* Marks the heaviest sets for as long as the budget lasts; of the last class that fits in part,
 * those that came first. No sort: samples wait in the rings meanwhile. */
static void choose_sets(const struct stack_table *table, const uint64_t *weights, size_t max_bytes,
                        bool *keep)
{
    size_t class_bytes[NUM_WEIGHTS] = {0};
    size_t used_bytes = 0;
    unsigned lightest = NUM_WEIGHTS; /* classes from here on fit as a whole */

    for (size_t i = 1; i < table->num_label_sets; i++)
        class_bytes[weight_class(weights[i])] += set_cost(table, i);
    while (lightest > 0 && used_bytes + class_bytes[lightest - 1] <= max_bytes)
        used_bytes += class_bytes[--lightest];
    for (size_t i = 1; i < table->num_label_sets; i++) {
        unsigned class = weight_class(weights[i]);

        keep[i] = class >= lightest;
        if (class + 1 == lightest && used_bytes + set_cost(table, i) <= max_bytes) {
            used_bytes += set_cost(table, i);
            keep[i] = true;
        }
    }
}

/* Finds a sample that stays. Returns: NULL when there is none of this stack and label set yet. */
static struct profile_sample *find_sample(const struct profile *profile,
                                          const struct hash_index *index, uint64_t hash,
                                          const struct profile_sample *wanted)
{
    struct hash_index_cursor cursor = hash_index_first(index, hash);
    uint32_t item;

    while (hash_index_next(index, &cursor, &item)) {
        struct profile_sample *sample = &profile->samples[item];

        if (sample->stack == wanted->stack && sample->label_set == wanted->label_set)
            return sample;
    }
    return NULL;
}

/* Gives all samples their new label sets, adding up those that are alike now. index: empty, with
 * room for all. */
static void relabel_samples(struct profile *profile, const uint32_t *map, struct hash_index *index)
{
    uint64_t *num_unlabeled = &profile->loss.counts[LOSS_UNLABELED];
    size_t num_kept = 0;

    for (size_t i = 0; i < profile->num_samples; i++) {
        struct profile_sample sample = profile->samples[i];
        bool loses_labels = sample.label_set != 0 && map[sample.label_set] == 0;
        struct profile_sample *same;
        uint64_t hash;

        if (loses_labels && sample.values[0] > 0 &&
            __builtin_add_overflow(*num_unlabeled, (uint64_t)sample.values[0], num_unlabeled))
            *num_unlabeled = UINT64_MAX;
        sample.label_set = map[sample.label_set];
        hash = profile_sample_hash(sample.stack, sample.label_set);
        same = find_sample(profile, index, hash, &sample);
        if (same) {
            profile_sample_add(same, sample.values, profile->num_value_types);
            continue;
        }
        error_destroy(hash_index_insert(index, hash, (uint32_t)num_kept)); /* room is reserved */
        profile->samples[num_kept++] = sample;
    }
    profile->num_samples = num_kept;
}

/* Makes the indexes that the samples need once they are relabelled. */
static struct error *reserve_indexes(const struct profile_group *group, struct hash_index *indexes)
{
    for (size_t i = 0; i < group->num_profiles; i++)
        RETURN_IF_ERROR(hash_index_reserve(&indexes[i], group->profiles[i]->num_samples));
    return NULL;
}

/* Compacts the label sets and gives all rows their new ones; indexes: as reserved. */
static struct error *drop_sets(const struct profile_group *group, const bool *keep, uint32_t *map,
                               struct hash_index *indexes)
{
    RETURN_IF_ERROR(stack_table_compact_label_sets(group->profiles[0]->table, keep, map));
    for (size_t i = 0; i < group->num_profiles; i++) {
        struct profile *profile = group->profiles[i];
        struct hash_index old = profile->sample_index;

        relabel_samples(profile, map, &indexes[i]);
        profile->sample_index = indexes[i];
        indexes[i] = old;
    }
    if (group->live)
        live_set_renumber(group->live, NULL, map);
    return NULL;
}

struct error *profile_group_limit_labels(const struct profile_group *group, size_t max_bytes)
{
    const struct stack_table *table = group->profiles[0]->table;
    size_t num_sets = table->num_label_sets;
    CLEANUP(free) uint64_t *weights = NULL;
    CLEANUP(free) uint32_t *map = NULL;
    CLEANUP(free) bool *keep = NULL;
    struct hash_index indexes[PROFILE_GROUP_MAX] = {0};
    struct error *err;

    if (num_sets * SET_COST_BYTES + table->num_labels * sizeof(*table->labels) <= max_bytes)
        return NULL;
    weights = calloc(num_sets, sizeof(*weights));
    map = calloc(num_sets, sizeof(*map));
    keep = calloc(num_sets, sizeof(*keep));
    if (!weights || !map || !keep)
        return &error_no_memory;
    weigh_sets(group, weights);
    choose_sets(table, weights, max_bytes, keep);
    err = reserve_indexes(group, indexes);
    if (!err)
        err = drop_sets(group, keep, map, indexes);
    for (size_t i = 0; i < group->num_profiles; i++)
        hash_index_deinit(&indexes[i]);
    return err;
}

struct error *profile_limit_labels(struct profile *profile, size_t max_bytes)
{
    struct profile_group group = {.profiles = {profile}, .num_profiles = 1};

    return profile_group_limit_labels(&group, max_bytes);
}
