/* The profiles of one recording: they share one stack table, and one limit on memory.
 *
 * Not the profiles themselves (profile/profile.h) nor what is in use (profile/live_set.h).
 * Ownership: everything is borrowed. Threads: none.
 */
#ifndef PROFILE_PROFILE_GROUP_H
#define PROFILE_PROFILE_GROUP_H

#include <stddef.h>

#include "base/error.h"
#include "profile/live_set.h"
#include "profile/profile.h"

#define PROFILE_GROUP_MAX 8

/* All profiles over one stack table; at least one. */
struct profile_group {
    struct profile *profiles[PROFILE_GROUP_MAX];
    size_t num_profiles;
    struct profile *heap;  /* which of them the live set belongs to; NULL without one */
    struct live_set *live; /* rows over the same table; NULL: none */
};

/* Tells the memory that stack table, samples and live set fill, in bytes. */
size_t profile_group_bytes(const struct profile_group *group);

/* Keeps label sets within `max_bytes`, each with the samples that it takes at least: when they need
 * more, the samples of those that stand for least lose their labels, keep their stacks, and count
 * as LOSS_UNLABELED by their first column. Label set ids change, also in the live set.
 * Returns: NULL or error_no_memory. */
struct error *profile_group_limit_labels(const struct profile_group *group,
                                         size_t max_bytes) MUST_CHECK;

/* Keeps all of it within `max_bytes`. When it holds more: the live set is thinned until it takes no
 * more than a quarter (live_set_thin()); labels go that need more than an eighth; then the samples
 * with the smallest values are merged into the stack `[other]` (one for each label set), the table
 * is rebuilt without their stacks and LOSS_MERGED grows by their first column. A sample's weight is
 * its share of its profile; of a heap profile, what it allocated and what is in use count alike.
 * Ids of stacks and label sets change, also in the live set, and what is in use is set anew.
 * Returns: NULL or error_no_memory. */
struct error *profile_group_limit_memory(const struct profile_group *group,
                                         size_t max_bytes) MUST_CHECK;

/* The weights by which limits choose, for the two functions above: shares of each profile's totals,
 * so that profiles of different units compare. A single profile is weighed by its last column. */
struct profile_scale {
    size_t columns[2];
    double factors[2]; /* 0: not used */
    bool is_plain;     /* the weight is the value of columns[0] as it is */
};

/* Tells how the samples of one profile of the group are weighed. */
struct profile_scale profile_group_scale(const struct profile_group *group,
                                         const struct profile *profile);

/* Tells the weight of one sample; >= 0. */
static inline int64_t profile_scale_weight(const struct profile_scale *scale,
                                           const struct profile_sample *sample)
{
    double weight;

    if (scale->is_plain)
        return sample->values[scale->columns[0]] > 0 ? sample->values[scale->columns[0]] : 0;
    weight = (double)sample->values[scale->columns[0]] * scale->factors[0] +
             (double)sample->values[scale->columns[1]] * scale->factors[1];
    return weight > 0 ? (int64_t)weight : 0;
}

#endif
