#include "profile/profile_group.h"

#include "profile/heap.h"

/* A share of the whole, as a whole number: what is lighter weighs nothing. */
#define WHOLE ((double)((int64_t)1 << 50))

size_t profile_group_bytes(const struct profile_group *group)
{
    size_t bytes = stack_table_bytes(group->profiles[0]->table);

    for (size_t i = 0; i < group->num_profiles; i++) {
        const struct profile *profile = group->profiles[i];

        bytes += hash_index_bytes(&profile->sample_index) +
                 profile->num_samples * sizeof(*profile->samples) +
                 profile->num_comments * sizeof(*profile->comments);
    }
    return bytes + (group->live ? live_set_bytes(group->live) : 0);
}

/* Tells by what to multiply a column's values to get shares of it. */
static double share_factor(const struct profile *profile, size_t column, double whole)
{
    int64_t total = profile_total(profile, column);

    return total > 0 ? whole / (double)total : 0;
}

struct profile_scale profile_group_scale(const struct profile_group *group,
                                         const struct profile *profile)
{
    size_t last = profile->num_value_types ? profile->num_value_types - 1 : 0;
    struct profile_scale scale = {.columns = {last, last}};

    if (group->num_profiles == 1 && !group->live) {
        scale.is_plain = true;
    } else if (profile == group->heap && profile->num_value_types == HEAP_NUM_COLUMNS) {
        scale.columns[1] = HEAP_ALLOC_SPACE;
        scale.factors[0] = share_factor(profile, last, WHOLE / 2);
        scale.factors[1] = share_factor(profile, HEAP_ALLOC_SPACE, WHOLE / 2);
    } else {
        scale.factors[0] = share_factor(profile, last, WHOLE);
    }
    return scale;
}
