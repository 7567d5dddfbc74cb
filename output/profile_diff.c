#include "output/profile_diff.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"

/* New ids of what is copied from one table into another. */
struct table_copy {
    const struct stack_table *from;
    struct stack_table *to;
    uint32_t *functions; /* [functions] */
    uint32_t *mappings;  /* [mappings + 1], by id */
    uint32_t *locations; /* [locations] */
    uint32_t *stacks;    /* [stacks] */
    uint32_t *label_sets;
};

static struct error *copy_string(const struct table_copy *copy, uint32_t id, uint32_t *id_ret)
{
    return string_table_add(&copy->to->strings, string_table_get(&copy->from->strings, id), id_ret);
}

static struct error *copy_functions(const struct table_copy *copy)
{
    for (size_t i = 0; i < copy->from->num_functions; i++) {
        struct function function = copy->from->functions[i];

        RETURN_IF_ERROR(copy_string(copy, function.name, &function.name));
        RETURN_IF_ERROR(copy_string(copy, function.system_name, &function.system_name));
        RETURN_IF_ERROR(copy_string(copy, function.filename, &function.filename));
        RETURN_IF_ERROR(stack_table_add_function(copy->to, &function, &copy->functions[i]));
    }
    return NULL;
}

static struct error *copy_mappings(const struct table_copy *copy)
{
    for (size_t i = 0; i < copy->from->num_mappings; i++) {
        struct mapping mapping = copy->from->mappings[i];

        mapping.is_main = false;
        RETURN_IF_ERROR(copy_string(copy, mapping.path, &mapping.path));
        RETURN_IF_ERROR(copy_string(copy, mapping.build_id, &mapping.build_id));
        RETURN_IF_ERROR(stack_table_append_mapping(copy->to, &mapping, &copy->mappings[i + 1]));
    }
    return NULL;
}

static struct error *copy_location(const struct table_copy *copy, const struct location *location,
                                   uint32_t *location_ret)
{
    struct frame_key key = location->key;
    CLEANUP(free) struct line *lines = calloc((size_t)location->num_lines + 1, sizeof(*lines));

    if (!lines)
        return &error_no_memory;
    for (uint32_t i = 0; i < location->num_lines; i++) {
        lines[i] = copy->from->lines[location->first_line + i];
        lines[i].function = copy->functions[lines[i].function];
    }
    key.mapping = copy->mappings[key.mapping];
    RETURN_IF_ERROR(stack_table_append_location(copy->to, &key, location_ret));
    return stack_table_set_lines(copy->to, *location_ret, lines, location->num_lines);
}

static struct error *copy_stack(const struct table_copy *copy, const struct stack *stack,
                                uint32_t *stack_ret)
{
    CLEANUP(free)
    uint32_t *locations = calloc((size_t)stack->num_locations + 1, sizeof(*locations));

    if (!locations)
        return &error_no_memory;
    for (uint32_t i = 0; i < stack->num_locations; i++)
        locations[i] = copy->locations[copy->from->stack_locations[stack->first + i]];
    return stack_table_append_stack(copy->to, locations, stack->num_locations, stack_ret);
}

static struct error *copy_label_set(const struct table_copy *copy, const struct label_set *set,
                                    uint32_t *label_set_ret)
{
    CLEANUP(free) struct label *labels = calloc((size_t)set->num_labels + 1, sizeof(*labels));

    if (!labels)
        return &error_no_memory;
    for (uint32_t i = 0; i < set->num_labels; i++) {
        labels[i] = copy->from->labels[set->first + i];
        RETURN_IF_ERROR(copy_string(copy, labels[i].key, &labels[i].key));
        RETURN_IF_ERROR(copy_string(copy, labels[i].str, &labels[i].str));
        RETURN_IF_ERROR(copy_string(copy, labels[i].unit, &labels[i].unit));
    }
    return stack_table_add_label_set(copy->to, labels, set->num_labels, label_set_ret);
}

static struct error *table_copy_run(const struct table_copy *copy)
{
    const struct stack_table *from = copy->from;

    RETURN_IF_ERROR(copy_functions(copy));
    RETURN_IF_ERROR(copy_mappings(copy));
    for (size_t i = 0; i < from->num_locations; i++)
        RETURN_IF_ERROR(copy_location(copy, &from->locations[i], &copy->locations[i]));
    for (size_t i = 0; i < from->num_stacks; i++)
        RETURN_IF_ERROR(copy_stack(copy, &from->stacks[i], &copy->stacks[i]));
    for (size_t i = 0; i < from->num_label_sets; i++)
        RETURN_IF_ERROR(copy_label_set(copy, &from->label_sets[i], &copy->label_sets[i]));
    return NULL;
}

static struct error *table_copy_init(struct table_copy *copy)
{
    const struct stack_table *from = copy->from;

    copy->functions = calloc(from->num_functions + 1, sizeof(uint32_t));
    copy->mappings = calloc(from->num_mappings + 1, sizeof(uint32_t));
    copy->locations = calloc(from->num_locations + 1, sizeof(uint32_t));
    copy->stacks = calloc(from->num_stacks + 1, sizeof(uint32_t));
    copy->label_sets = calloc(from->num_label_sets + 1, sizeof(uint32_t));
    if (!copy->functions || !copy->mappings || !copy->locations || !copy->stacks ||
        !copy->label_sets)
        return &error_no_memory;
    return NULL;
}

static inline void cleanup_table_copy_deinit(struct table_copy *copy)
{
    free(copy->functions);
    free(copy->mappings);
    free(copy->locations);
    free(copy->stacks);
    free(copy->label_sets);
}

/* Tells whether the stack is nothing but a remark on memory that nobody was seen to allocate. */
static bool stack_is_rest(const struct stack_table *table, const struct stack *stack)
{
    const struct location *location;
    const char *name;

    if (stack->num_locations != 1)
        return false;
    location = &table->locations[table->stack_locations[stack->first]];
    if (location->key.mapping != 0 || location->num_lines != 1)
        return false;
    name = string_table_get(&table->strings,
                            table->functions[table->lines[location->first_line].function].name);
    return strcmp(name, frame_reason_name(REASON_BEFORE_ATTACH)) == 0 ||
           strcmp(name, frame_reason_name(REASON_UNTRACKED)) == 0;
}

void profile_remove_rest(struct profile *profile, size_t column, int64_t *removed_ret)
{
    size_t num_kept = 0;
    int64_t removed = 0;

    for (size_t i = 0; i < profile->num_samples; i++) {
        const struct profile_sample *sample = &profile->samples[i];

        if (!stack_is_rest(profile->table, &profile->table->stacks[sample->stack]))
            profile->samples[num_kept++] = *sample;
        else if (__builtin_add_overflow(removed, sample->values[column], &removed))
            removed = INT64_MAX;
    }
    profile->num_samples = num_kept;
    *removed_ret = removed;
}

static bool strings_are_equal(const struct profile *profile, uint32_t id,
                              const struct profile *base, uint32_t base_id)
{
    return strcmp(string_table_get(&profile->table->strings, id),
                  string_table_get(&base->table->strings, base_id)) == 0;
}

bool profile_find_like(const struct profile *profile, size_t column, const struct profile *base,
                       size_t *column_ret)
{
    const struct value_type *type = &profile->value_types[column];

    for (size_t i = 0; i < base->num_value_types; i++) {
        const struct value_type *other = &base->value_types[i];

        if (strings_are_equal(profile, type->type, base, other->type) &&
            strings_are_equal(profile, type->unit, base, other->unit)) {
            *column_ret = i;
            return true;
        }
    }
    return false;
}

static int64_t negate(int64_t value)
{
    return value == INT64_MIN ? INT64_MAX : -value;
}

struct error *profile_subtract(struct profile *profile, const struct profile *base)
{
    CLEANUP(table_copy_deinit)
    struct table_copy copy = {.from = base->table, .to = profile->table};
    size_t columns[PROFILE_MAX_VALUES];

    RETURN_IF_ERROR(table_copy_init(&copy));
    RETURN_IF_ERROR(table_copy_run(&copy));
    RETURN_IF_ERROR(array_reserve(&profile->samples, &profile->samples_capacity,
                                  profile->num_samples + base->num_samples,
                                  sizeof(*profile->samples)));
    for (size_t i = 0; i < profile->num_value_types; i++) {
        if (!profile_find_like(profile, i, base, &columns[i]))
            columns[i] = SIZE_MAX;
    }
    for (size_t i = 0; i < base->num_samples; i++) {
        const struct profile_sample *from = &base->samples[i];
        struct profile_sample *to = &profile->samples[profile->num_samples++];

        *to = (struct profile_sample){.stack = copy.stacks[from->stack],
                                      .label_set = copy.label_sets[from->label_set]};
        for (size_t j = 0; j < profile->num_value_types; j++)
            to->values[j] = columns[j] != SIZE_MAX ? negate(from->values[columns[j]]) : 0;
    }
    hash_index_clear(&profile->sample_index);
    return NULL;
}
