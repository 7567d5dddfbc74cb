#include "profile/profile.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"

struct error *profile_init(struct profile *profile, struct stack_table *table)
{
    *profile = (struct profile){.table = table};
    return NULL;
}

static struct error *value_type_intern(struct stack_table *table, const char *type,
                                       const char *unit, struct value_type *value_type_ret)
{
    struct value_type value_type;

    RETURN_IF_ERROR(string_table_add(&table->strings, type, &value_type.type));
    RETURN_IF_ERROR(string_table_add(&table->strings, unit, &value_type.unit));
    *value_type_ret = value_type;
    return NULL;
}

struct error *profile_init_cpu(struct profile *profile, struct stack_table *table,
                               uint64_t period_ns)
{
    struct profile cpu = {.table = table};

    if (period_ns > INT64_MAX)
        period_ns = INT64_MAX;
    cpu.period = (int64_t)period_ns;
    RETURN_IF_ERROR(value_type_intern(table, "cpu", "nanoseconds", &cpu.period_type));
    RETURN_IF_ERROR(profile_add_value_type(&cpu, "samples", "count"));
    RETURN_IF_ERROR(profile_add_value_type(&cpu, "cpu", "nanoseconds"));
    *profile = cpu;
    return NULL;
}

void profile_deinit(struct profile *profile)
{
    hash_index_deinit(&profile->sample_index);
    free(profile->samples);
    free(profile->comments);
    *profile = (struct profile){0};
}

struct error *profile_add_value_type(struct profile *profile, const char *type, const char *unit)
{
    if (profile->num_value_types == PROFILE_MAX_VALUES)
        return error_create(ERROR_FAILED, NULL, "a profile of more than %d value types",
                            PROFILE_MAX_VALUES);
    RETURN_IF_ERROR(value_type_intern(profile->table, type, unit,
                                      &profile->value_types[profile->num_value_types]));
    profile->num_value_types++;
    return NULL;
}

static int64_t saturating_add(int64_t a, int64_t b)
{
    int64_t sum;

    if (__builtin_add_overflow(a, b, &sum))
        return b > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

uint64_t profile_sample_hash(uint32_t stack, uint32_t label_set)
{
    return hash_u64((uint64_t)stack << 32 | label_set);
}

void profile_sample_add(struct profile_sample *sample, const int64_t *values, size_t num_values)
{
    for (size_t i = 0; i < num_values; i++)
        sample->values[i] = saturating_add(sample->values[i], values[i]);
}

/* Finds the sample of this stack and label set. Returns: NULL when there is none. */
static struct profile_sample *find_sample(const struct profile *profile,
                                          const struct hash_index *index, uint32_t stack,
                                          uint32_t label_set)
{
    struct hash_index_cursor cursor =
        hash_index_first(index, profile_sample_hash(stack, label_set));
    uint32_t item;

    while (hash_index_next(index, &cursor, &item)) {
        struct profile_sample *sample = &profile->samples[item];
        if (sample->stack == stack && sample->label_set == label_set)
            return sample;
    }
    return NULL;
}

struct error *profile_replace_stacks(struct profile *profile, const uint32_t *stack_map)
{
    struct hash_index index;
    size_t num_kept = 0;

    hash_index_init(&index);
    RETURN_IF_ERROR(hash_index_reserve(&index, profile->num_samples));
    for (size_t i = 0; i < profile->num_samples; i++) {
        struct profile_sample sample = profile->samples[i];

        sample.stack = stack_map[sample.stack];
        struct profile_sample *same = find_sample(profile, &index, sample.stack, sample.label_set);
        if (same) {
            profile_sample_add(same, sample.values, profile->num_value_types);
            continue;
        }
        uint64_t hash = profile_sample_hash(sample.stack, sample.label_set);
        error_destroy(hash_index_insert(&index, hash, (uint32_t)num_kept)); /* room is reserved */
        profile->samples[num_kept++] = sample;
    }
    profile->num_samples = num_kept;
    hash_index_deinit(&profile->sample_index);
    profile->sample_index = index;
    return NULL;
}

struct error *profile_add(struct profile *profile, uint32_t stack, uint32_t label_set,
                          const int64_t *values)
{
    uint64_t hash = profile_sample_hash(stack, label_set);
    struct hash_index_cursor cursor = hash_index_first(&profile->sample_index, hash);
    uint32_t item;

    while (hash_index_next(&profile->sample_index, &cursor, &item)) {
        struct profile_sample *sample = &profile->samples[item];
        if (sample->stack == stack && sample->label_set == label_set) {
            profile_sample_add(sample, values, profile->num_value_types);
            return NULL;
        }
    }
    if (profile->num_samples >= UINT32_MAX - 1)
        return &error_no_memory;
    RETURN_IF_ERROR(array_reserve(&profile->samples, &profile->samples_capacity,
                                  profile->num_samples + 1, sizeof(*profile->samples)));
    RETURN_IF_ERROR(
        hash_index_insert(&profile->sample_index, hash, (uint32_t)profile->num_samples));
    struct profile_sample *sample = &profile->samples[profile->num_samples++];
    *sample = (struct profile_sample){.stack = stack, .label_set = label_set};
    profile_sample_add(sample, values, profile->num_value_types);
    return NULL;
}

struct error *profile_add_comment(struct profile *profile, const char *format, ...)
{
    va_list args;
    uint32_t id;

    RETURN_IF_ERROR(array_reserve(&profile->comments, &profile->comments_capacity,
                                  profile->num_comments + 1, sizeof(*profile->comments)));
    va_start(args, format);
    struct error *err = string_table_vaddf(&profile->table->strings, &id, format, args);
    va_end(args);
    if (!err)
        profile->comments[profile->num_comments++] = id;
    return err;
}

int64_t profile_total(const struct profile *profile, size_t column)
{
    int64_t total = 0;

    for (size_t i = 0; i < profile->num_samples; i++)
        total = saturating_add(total, profile->samples[i].values[column]);
    return total;
}
