#include "output/heap_error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "profile/heap.h"

static const char *profile_string(const struct profile *profile, uint32_t id)
{
    return string_table_get(&profile->table->strings, id);
}

/* The two columns of one kind: how many objects, how many bytes. */
struct heap_columns {
    size_t objects;
    size_t space;
};

static bool find_column(const struct profile *profile, const char *prefix, size_t prefix_bytes,
                        const char *rest, size_t *column_ret)
{
    for (size_t i = 0; i < profile->num_value_types; i++) {
        const char *type = profile_string(profile, profile->value_types[i].type);

        if (strncmp(type, prefix, prefix_bytes) == 0 && strcmp(type + prefix_bytes, rest) == 0) {
            *column_ret = i;
            return true;
        }
    }
    return false;
}

/* Finds both columns of a kind ("alloc_", "inuse_", "") by one of them. */
static bool find_columns(const struct profile *profile, size_t column,
                         struct heap_columns *columns_ret)
{
    const char *type = profile_string(profile, profile->value_types[column].type);
    const char *kind = strrchr(type, '_');
    size_t prefix_bytes = kind ? (size_t)(kind - type) + 1 : 0;

    return find_column(profile, type, prefix_bytes, "objects", &columns_ret->objects) &&
           find_column(profile, type, prefix_bytes, "space", &columns_ret->space) &&
           (columns_ret->objects == column || columns_ret->space == column);
}

bool heap_error_is_known(const struct profile *profile, size_t column)
{
    struct heap_columns columns;

    return profile->period > 1 &&
           strcmp(profile_string(profile, profile->period_type.type), "space") == 0 &&
           strcmp(profile_string(profile, profile->period_type.unit), "bytes") == 0 &&
           find_columns(profile, column, &columns);
}

/* Tells the value of a numeric label; 0 when the set does not have it. */
static double label_value(const struct profile *profile, uint32_t label_set, const char *key)
{
    const struct stack_table *table = profile->table;
    const struct label_set *set = &table->label_sets[label_set];

    for (uint32_t i = 0; i < set->num_labels; i++) {
        const struct label *label = &table->labels[set->first + i];

        if (label->str == 0 && label->num > 0 &&
            strcmp(profile_string(profile, label->key), key) == 0)
            return (double)label->num;
    }
    return 0;
}

/* A sampled allocation of s bytes stands for 1/p of them; the number of samples of x objects is
 * binomial, so the sum of what they stand for has the variance x (1 - p)/p, for which (samples)
 * (1 - p)/p^2 is an unbiased estimate. */
static struct heap_error row_error(const struct profile *profile,
                                   const struct profile_sample *sample,
                                   const struct heap_columns *columns, size_t column)
{
    struct heap_error error = {0};
    double objects = fabs((double)sample->values[columns->objects]);
    double space = fabs((double)sample->values[columns->space]);
    double size = label_value(profile, sample->label_set, HEAP_LABEL_SIZE);
    double rate = label_value(profile, sample->label_set, HEAP_LABEL_RATE);
    double share;

    if (objects == 0) /* memory that was not sampled; and rounding that left no object */
        return error;
    if (size == 0)
        size = space / objects;
    if (size <= 0)
        return error;
    share = -expm1(-size / (rate > 0 ? rate : (double)profile->period));
    error.num_samples = space / size * share;
    error.variance = error.num_samples * (1 - share) / (share * share);
    if (column == columns->space)
        error.variance *= size * size;
    return error;
}

struct error *heap_error_compute(const struct profile *profile, size_t column,
                                 struct heap_error **errors_ret)
{
    CLEANUP(free) struct heap_error *errors = calloc(profile->num_samples + 1, sizeof(*errors));
    struct heap_columns columns;

    if (!errors)
        return &error_no_memory;
    if (find_columns(profile, column, &columns)) {
        for (size_t i = 0; i < profile->num_samples; i++)
            errors[i] = row_error(profile, &profile->samples[i], &columns, column);
    }
    *errors_ret = take_ptr(errors);
    return NULL;
}

static uint64_t hash_text(const struct profile *profile, uint64_t hash, uint32_t id)
{
    const char *text = profile_string(profile, id);

    return hash_combine(hash, hash_bytes(text, strlen(text)));
}

static uint64_t hash_location(const struct profile *profile, uint64_t hash, uint32_t id)
{
    const struct stack_table *table = profile->table;
    const struct location *location = &table->locations[id];
    const struct mapping *mapping = stack_table_mapping(profile->table, location->key.mapping);

    hash = hash_combine(hash, location->key.pc);
    if (mapping)
        hash = hash_text(profile, hash, mapping->path);
    for (uint32_t i = 0; i < location->num_lines; i++)
        hash = hash_text(profile, hash,
                         table->functions[table->lines[location->first_line + i].function].name);
    return hash;
}

/* Hashes what a sample is of: stack and labels. is_of_process_ret: whether the labels name one. */
static uint64_t hash_sample(const struct profile *profile, const struct profile_sample *sample,
                            bool *is_of_process_ret)
{
    const struct stack_table *table = profile->table;
    const struct stack *stack = &table->stacks[sample->stack];
    uint64_t hash = hash_combine(table->strings.hash_seed, sample->label_set);

    *is_of_process_ret = label_value(profile, sample->label_set, "pid") > 0;
    for (uint32_t i = 0; i < stack->num_locations; i++)
        hash = hash_location(profile, hash, table->stack_locations[stack->first + i]);
    return hash;
}

/* Two rows of the same samples, but for those by which they differ: which is the larger keeps the
 * error of the difference, the other none. */
static void cancel_rows(struct heap_error *row, struct heap_error *base)
{
    struct heap_error *larger = row->num_samples >= base->num_samples ? row : base;
    struct heap_error *smaller = larger == row ? base : row;
    double left;

    if (larger->num_samples <= 0)
        return;
    left = (larger->num_samples - smaller->num_samples) / larger->num_samples;
    larger->num_samples *= left;
    larger->variance *= left;
    *smaller = (struct heap_error){0};
}

struct error *heap_error_cancel(const struct profile *profile, size_t first_base,
                                struct heap_error *errors)
{
    struct hash_index index;
    struct error *err = NULL;
    bool is_of_process;

    hash_index_init(&index);
    for (size_t i = 0; i < first_base && !err; i++) {
        uint64_t hash = hash_sample(profile, &profile->samples[i], &is_of_process);

        if (is_of_process)
            err = hash_index_insert(&index, hash, (uint32_t)i);
    }
    for (size_t i = first_base; i < profile->num_samples && !err; i++) {
        uint64_t hash = hash_sample(profile, &profile->samples[i], &is_of_process);
        struct hash_index_cursor cursor = hash_index_first(&index, hash);
        uint32_t item;

        if (is_of_process && hash_index_next(&index, &cursor, &item))
            cancel_rows(&errors[item], &errors[i]);
    }
    hash_index_deinit(&index);
    return err;
}

double heap_error_share(const struct heap_error *error, double value)
{
    return sqrt(error->variance) / fabs(value);
}
