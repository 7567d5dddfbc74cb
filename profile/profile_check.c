#include "profile/profile.h"

/* JavaScript readers hold values in doubles. */
#define VALUE_LIMIT ((int64_t)1 << 53)

static bool string_exists(const struct stack_table *table, uint32_t id)
{
    return id < table->strings.num_strings;
}

static struct error *check_value_types(const struct profile *profile)
{
    if (!profile->num_value_types || profile->num_value_types > PROFILE_MAX_VALUES)
        return error_create(ERROR_FAILED, NULL, "profile: %zu value types",
                            profile->num_value_types);
    for (size_t i = 0; i < profile->num_value_types; i++) {
        const struct value_type *type = &profile->value_types[i];
        if (!type->type || !string_exists(profile->table, type->type) ||
            !string_exists(profile->table, type->unit))
            return error_create(ERROR_FAILED, NULL, "profile: value type %zu has no name", i);
    }
    if (!string_exists(profile->table, profile->default_type) ||
        !string_exists(profile->table, profile->period_type.type) ||
        !string_exists(profile->table, profile->period_type.unit))
        return error_create(ERROR_FAILED, NULL, "profile: the period type has no name");
    for (size_t i = 0; i < profile->num_comments; i++) {
        if (!string_exists(profile->table, profile->comments[i]))
            return error_create(ERROR_FAILED, NULL, "profile: comment %zu does not exist", i);
    }
    return NULL;
}

static struct error *check_mappings(const struct stack_table *table)
{
    for (size_t i = 0; i < table->num_mappings; i++) {
        const struct mapping *mapping = &table->mappings[i];
        if (!string_exists(table, mapping->path) || !string_exists(table, mapping->build_id))
            return error_create(ERROR_FAILED, NULL, "profile: mapping %zu has no path", i + 1);
        if (mapping->start > mapping->limit)
            return error_create(ERROR_FAILED, NULL, "profile: mapping %zu ends before its start",
                                i + 1);
    }
    return NULL;
}

static struct error *check_functions(const struct stack_table *table)
{
    for (size_t i = 0; i < table->num_functions; i++) {
        const struct function *function = &table->functions[i];
        if (!function->name || !string_exists(table, function->name) ||
            !string_exists(table, function->system_name) ||
            !string_exists(table, function->filename))
            return error_create(ERROR_FAILED, NULL, "profile: function %zu has no name", i);
    }
    return NULL;
}

static struct error *check_location(const struct stack_table *table, uint32_t id,
                                    bool require_lines)
{
    if (id >= table->num_locations)
        return error_create(ERROR_FAILED, NULL, "profile: location %u does not exist", id);
    const struct location *location = &table->locations[id];
    if (location->key.mapping > table->num_mappings)
        return error_create(ERROR_FAILED, NULL, "profile: location %u names no mapping", id);
    if (location->num_lines > table->num_lines ||
        location->first_line > table->num_lines - location->num_lines)
        return error_create(ERROR_FAILED, NULL, "profile: lines of location %u do not exist", id);
    if (require_lines && !location->num_lines)
        return error_create(ERROR_FAILED, NULL, "profile: location %u has no line", id);
    for (size_t i = 0; i < location->num_lines; i++) {
        if (table->lines[location->first_line + i].function >= table->num_functions)
            return error_create(ERROR_FAILED, NULL,
                                "profile: a line of location %u has no function", id);
    }
    return NULL;
}

static struct error *check_stack(const struct stack_table *table, uint32_t id, bool require_lines)
{
    if (id >= table->num_stacks)
        return error_create(ERROR_FAILED, NULL, "profile: stack %u does not exist", id);
    const struct stack *stack = &table->stacks[id];
    if (!stack->num_locations || stack->num_locations > table->num_stack_locations ||
        stack->first > table->num_stack_locations - stack->num_locations)
        return error_create(ERROR_FAILED, NULL, "profile: stack %u has no locations", id);
    for (size_t i = 0; i < stack->num_locations; i++)
        RETURN_IF_ERROR(
            check_location(table, table->stack_locations[stack->first + i], require_lines));
    return NULL;
}

static struct error *check_label_set(const struct stack_table *table, uint32_t id)
{
    if (id >= table->num_label_sets)
        return error_create(ERROR_FAILED, NULL, "profile: label set %u does not exist", id);
    const struct label_set *set = &table->label_sets[id];
    if (set->num_labels > table->num_labels || set->first > table->num_labels - set->num_labels)
        return error_create(ERROR_FAILED, NULL, "profile: labels of set %u do not exist", id);
    for (size_t i = 0; i < set->num_labels; i++) {
        const struct label *label = &table->labels[set->first + i];
        if (!label->key || !string_exists(table, label->key) || !string_exists(table, label->str) ||
            !string_exists(table, label->unit))
            return error_create(ERROR_FAILED, NULL, "profile: a label of set %u has no key", id);
        if (label->str && label->num)
            return error_create(ERROR_FAILED, NULL,
                                "profile: a label of set %u is string and number", id);
    }
    return NULL;
}

static struct error *check_values(const struct profile *profile, size_t sample)
{
    const int64_t *values = profile->samples[sample].values;
    bool is_zero = true;

    for (size_t i = 0; i < profile->num_value_types; i++) {
        if (values[i] < 0 || values[i] >= VALUE_LIMIT)
            return error_create(ERROR_FAILED, NULL,
                                "profile: value %zu of sample %zu is out of range", i, sample);
        is_zero &= values[i] == 0;
    }
    if (is_zero)
        return error_create(ERROR_FAILED, NULL, "profile: sample %zu is all zero", sample);
    return NULL;
}

struct error *profile_check(const struct profile *profile, bool require_lines)
{
    const struct stack_table *table = profile->table;

    RETURN_IF_ERROR(check_value_types(profile));
    RETURN_IF_ERROR(check_mappings(table));
    RETURN_IF_ERROR(check_functions(table));
    for (size_t i = 0; i < profile->num_samples; i++) {
        RETURN_IF_ERROR(check_stack(table, profile->samples[i].stack, require_lines));
        RETURN_IF_ERROR(check_label_set(table, profile->samples[i].label_set));
        RETURN_IF_ERROR(check_values(profile, i));
    }
    return NULL;
}
