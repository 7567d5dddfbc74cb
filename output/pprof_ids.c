#include "output/pprof_ids.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/hash.h"

void pprof_ids_deinit(struct pprof_ids *ids)
{
    string_table_deinit(&ids->strings);
    free(ids->string_ids);
    free(ids->samples);
    free(ids->mapping_ids);
    free(ids->mappings);
    free(ids->mapping_has_lines);
    free(ids->location_ids);
    free(ids->function_ids);
    free(ids->functions);
    hash_index_deinit(&ids->function_index);
    free(ids->labels);
    free(ids->label_sets);
    hash_index_deinit(&ids->label_set_index);
    memset(ids, 0, sizeof(*ids));
}

/* Adds a string of any bytes to the file's strings. */
static struct error *pprof_ids_add_text(struct pprof_ids *ids, const char *text, uint32_t *id_ret)
{
    CLEANUP(free) char *clean = NULL;

    RETURN_IF_ERROR(utf8_sanitize(text, &clean));
    return string_table_add(&ids->strings, clean, id_ret);
}

struct error *pprof_ids_string(struct pprof_ids *ids, uint32_t table_string, uint32_t *id_ret)
{
    const struct string_table *strings = &ids->profile->table->strings;
    uint32_t id;

    if (table_string >= strings->num_strings)
        table_string = 0;
    if (ids->string_ids[table_string] == 0) {
        RETURN_IF_ERROR(pprof_ids_add_text(ids, string_table_get(strings, table_string), &id));
        ids->string_ids[table_string] = id + 1;
    }
    *id_ret = ids->string_ids[table_string] - 1;
    return NULL;
}

static int label_compare(const void *left_item, const void *right_item)
{
    const struct label *left = left_item;
    const struct label *right = right_item;

    if (left->key != right->key)
        return left->key < right->key ? -1 : 1;
    if (left->str != right->str)
        return left->str < right->str ? -1 : 1;
    if (left->num != right->num)
        return left->num < right->num ? -1 : 1;
    return left->unit < right->unit ? -1 : left->unit > right->unit;
}

/* Appends one label as the file will have it, or nothing when it has nothing to say: pprof drops
 * labels with an empty string, and numbers 0 without a unit. */
static struct error *pprof_ids_add_label(struct pprof_ids *ids, const struct label *label)
{
    struct label written = {.num = label->num};

    RETURN_IF_ERROR(pprof_ids_string(ids, label->key, &written.key));
    if (written.key == 0)
        return NULL;
    if (label->str != 0) {
        RETURN_IF_ERROR(pprof_ids_string(ids, label->str, &written.str));
        written.num = 0;
        if (written.str == 0)
            return NULL;
    } else {
        RETURN_IF_ERROR(pprof_ids_string(ids, label->unit, &written.unit));
        if (written.num == 0 && written.unit == 0)
            return NULL;
    }
    RETURN_IF_ERROR(array_reserve(&ids->labels, &ids->labels_capacity, ids->num_labels + 1,
                                  sizeof(*ids->labels)));
    ids->labels[ids->num_labels++] = written;
    return NULL;
}

/* Tells the id of the label set that consists of labels[first..], which are given back when it
 * exists. */
static struct error *pprof_ids_intern_labels(struct pprof_ids *ids, size_t first, uint32_t *id_ret)
{
    size_t num_labels = ids->num_labels - first;
    uint64_t hash = hash_combine(ids->strings.hash_seed, num_labels);
    struct hash_index_cursor cursor;
    uint32_t id;

    for (size_t i = first; i < ids->num_labels; i++) {
        const struct label *label = &ids->labels[i];

        hash = hash_combine(hash, (uint64_t)label->key << 32 | label->str);
        hash = hash_combine(hash, (uint64_t)label->num);
        hash = hash_combine(hash, label->unit);
    }
    cursor = hash_index_first(&ids->label_set_index, hash);
    while (hash_index_next(&ids->label_set_index, &cursor, &id)) {
        const struct label_set *set = &ids->label_sets[id];
        bool is_equal = set->num_labels == num_labels;

        for (size_t i = 0; is_equal && i < num_labels; i++)
            is_equal = label_compare(&ids->labels[set->first + i], &ids->labels[first + i]) == 0;
        if (is_equal) {
            ids->num_labels = first;
            *id_ret = id;
            return NULL;
        }
    }
    RETURN_IF_ERROR(array_reserve(&ids->label_sets, &ids->label_sets_capacity,
                                  ids->num_label_sets + 1, sizeof(*ids->label_sets)));
    id = (uint32_t)ids->num_label_sets;
    RETURN_IF_ERROR(hash_index_insert(&ids->label_set_index, hash, id));
    ids->label_sets[ids->num_label_sets++] =
        (struct label_set){.first = (uint32_t)first, .num_labels = (uint32_t)num_labels};
    *id_ret = id;
    return NULL;
}

/* Makes the file's label set of one of the table: names that differ only in broken bytes become
 * equal. */
static struct error *pprof_ids_add_label_set(struct pprof_ids *ids, uint32_t table_set,
                                             uint32_t *id_ret)
{
    const struct stack_table *table = ids->profile->table;
    size_t first = ids->num_labels;

    if (table_set < table->num_label_sets) {
        const struct label_set *set = &table->label_sets[table_set];

        for (uint32_t i = 0; i < set->num_labels; i++)
            RETURN_IF_ERROR(pprof_ids_add_label(ids, &table->labels[set->first + i]));
    }
    if (ids->num_labels > first)
        qsort(ids->labels + first, ids->num_labels - first, sizeof(*ids->labels), label_compare);
    return pprof_ids_intern_labels(ids, first, id_ret);
}

static int sample_compare_key(const void *left_item, const void *right_item)
{
    const struct profile_sample *left = left_item;
    const struct profile_sample *right = right_item;

    if (left->stack != right->stack)
        return left->stack < right->stack ? -1 : 1;
    return left->label_set < right->label_set ? -1 : left->label_set > right->label_set;
}

/* Largest first; column: the one pprof shows by default. */
static int sample_compare_value(const void *left_item, const void *right_item, void *column)
{
    const struct profile_sample *left = left_item;
    const struct profile_sample *right = right_item;
    int64_t left_value = left->values[*(const size_t *)column];
    int64_t right_value = right->values[*(const size_t *)column];

    if (left_value != right_value)
        return left_value > right_value ? -1 : 1;
    return sample_compare_key(left, right);
}

static bool sample_is_zero(const struct profile_sample *sample, size_t num_values)
{
    for (size_t i = 0; i < num_values; i++)
        if (sample->values[i] != 0)
            return false;
    return true;
}

static void sample_add_values(struct profile_sample *sample, const struct profile_sample *more,
                              size_t num_values)
{
    for (size_t i = 0; i < num_values; i++)
        if (__builtin_add_overflow(sample->values[i], more->values[i], &sample->values[i]))
            sample->values[i] = more->values[i] > 0 ? INT64_MAX : INT64_MIN;
}

/* Merges neighbours with equal stack and labels, and drops samples without any value. */
static void pprof_ids_merge_samples(struct pprof_ids *ids)
{
    size_t num_values = ids->profile->num_value_types;
    size_t num_kept = 0;

    for (size_t i = 0; i < ids->num_samples; i++) {
        if (num_kept > 0 &&
            sample_compare_key(&ids->samples[num_kept - 1], &ids->samples[i]) == 0) {
            sample_add_values(&ids->samples[num_kept - 1], &ids->samples[i], num_values);
            continue;
        }
        if (num_kept > 0 && sample_is_zero(&ids->samples[num_kept - 1], num_values))
            num_kept--;
        ids->samples[num_kept++] = ids->samples[i];
    }
    if (num_kept > 0 && sample_is_zero(&ids->samples[num_kept - 1], num_values))
        num_kept--;
    ids->num_samples = num_kept;
}

/* Copies the samples with the file's label sets and puts them in order. */
static struct error *pprof_ids_collect_samples(struct pprof_ids *ids)
{
    const struct profile *profile = ids->profile;
    size_t num_label_sets = profile->table->num_label_sets;
    CLEANUP(free) uint32_t *label_set_ids = calloc(num_label_sets + 1, sizeof(*label_set_ids));
    size_t column = profile->num_value_types > 0 ? profile->num_value_types - 1 : 0;

    ids->samples = calloc(profile->num_samples + 1, sizeof(*ids->samples));
    if (!label_set_ids || !ids->samples)
        return &error_no_memory;
    for (size_t i = 0; i < profile->num_samples; i++) {
        const struct profile_sample *sample = &profile->samples[i];
        uint32_t table_set = sample->label_set < num_label_sets ? sample->label_set : 0;
        uint32_t set;

        if (sample->stack >= profile->table->num_stacks)
            continue;
        if (label_set_ids[table_set] == 0) {
            RETURN_IF_ERROR(pprof_ids_add_label_set(ids, table_set, &set));
            label_set_ids[table_set] = set + 1;
        }
        ids->samples[ids->num_samples] = *sample;
        ids->samples[ids->num_samples++].label_set = label_set_ids[table_set] - 1;
    }
    qsort(ids->samples, ids->num_samples, sizeof(*ids->samples), sample_compare_key);
    pprof_ids_merge_samples(ids);
    qsort_r(ids->samples, ids->num_samples, sizeof(*ids->samples), sample_compare_value, &column);
    return NULL;
}

/* Gives a function of the file its number; one that equals an earlier one gets that one's. */
static struct error *pprof_ids_add_function(struct pprof_ids *ids,
                                            const struct pprof_function *function,
                                            uint32_t *pprof_id_ret)
{
    uint64_t hash = hash_combine(ids->strings.hash_seed,
                                 (uint64_t)function->name << 32 | function->system_name);
    struct hash_index_cursor cursor;
    uint32_t item;

    hash = hash_combine(hash, function->filename);
    hash = hash_combine(hash, (uint64_t)function->start_line);
    cursor = hash_index_first(&ids->function_index, hash);
    while (hash_index_next(&ids->function_index, &cursor, &item)) {
        const struct pprof_function *known = &ids->functions[item];

        if (known->name == function->name && known->system_name == function->system_name &&
            known->filename == function->filename && known->start_line == function->start_line) {
            *pprof_id_ret = item + 1;
            return NULL;
        }
    }
    RETURN_IF_ERROR(array_reserve(&ids->functions, &ids->functions_capacity, ids->num_functions + 1,
                                  sizeof(*ids->functions)));
    RETURN_IF_ERROR(hash_index_insert(&ids->function_index, hash, (uint32_t)ids->num_functions));
    ids->functions[ids->num_functions++] = *function;
    *pprof_id_ret = (uint32_t)ids->num_functions;
    return NULL;
}

/* Marks what a used location uses: its mapping, its functions or its reason. */
static void pprof_ids_mark_location(struct pprof_ids *ids, const struct location *location)
{
    const struct stack_table *table = ids->profile->table;
    uint32_t mapping = location->key.mapping;

    for (uint32_t i = 0; i < location->num_lines; i++) {
        uint32_t function = table->lines[location->first_line + i].function;

        if (function < table->num_functions)
            ids->function_ids[function] = 1;
    }
    if (location->num_lines == 0 && location->key.reason > REASON_NONE &&
        location->key.reason < REASON_NUM)
        ids->function_ids[table->num_functions + location->key.reason] = 1;
    if (mapping >= 1 && mapping <= table->num_mappings) {
        ids->mapping_ids[mapping - 1] = 1;
        if (location->num_lines > 0)
            ids->mapping_has_lines[mapping - 1] = true;
    }
}

/* Marks what the samples use with 1; the numbers come after. */
static void pprof_ids_mark(struct pprof_ids *ids)
{
    const struct stack_table *table = ids->profile->table;

    for (size_t i = 0; i < ids->num_samples; i++) {
        const struct stack *stack = &table->stacks[ids->samples[i].stack];

        for (uint32_t j = 0; j < stack->num_locations; j++) {
            uint32_t location = table->stack_locations[stack->first + j];

            if (ids->location_ids[location] == 0)
                pprof_ids_mark_location(ids, &table->locations[location]);
            ids->location_ids[location] = 1;
        }
    }
}

/* Numbers the marked mappings, the main executable first, used or not. */
static void pprof_ids_number_mappings(struct pprof_ids *ids)
{
    const struct stack_table *table = ids->profile->table;
    size_t main_mapping = 0;

    while (main_mapping < table->num_mappings && !table->mappings[main_mapping].is_main)
        main_mapping++;
    if (main_mapping < table->num_mappings) {
        ids->mappings[ids->num_mappings++] = (uint32_t)main_mapping;
        ids->mapping_ids[main_mapping] = ids->num_mappings;
    }
    for (size_t i = 0; i < table->num_mappings; i++) {
        if (i == main_mapping || ids->mapping_ids[i] == 0)
            continue;
        ids->mappings[ids->num_mappings++] = (uint32_t)i;
        ids->mapping_ids[i] = ids->num_mappings;
    }
}

/* Numbers the marked functions, then the reasons. */
static struct error *pprof_ids_number_functions(struct pprof_ids *ids)
{
    const struct stack_table *table = ids->profile->table;

    for (size_t i = 0; i < table->num_functions + REASON_NUM; i++) {
        struct pprof_function written = {0};

        if (ids->function_ids[i] == 0)
            continue;
        if (i < table->num_functions) {
            const struct function *function = &table->functions[i];

            RETURN_IF_ERROR(pprof_ids_string(ids, function->name, &written.name));
            RETURN_IF_ERROR(pprof_ids_string(ids, function->system_name, &written.system_name));
            RETURN_IF_ERROR(pprof_ids_string(ids, function->filename, &written.filename));
            written.start_line = function->start_line;
        } else {
            const char *text = frame_reason_name((enum frame_reason)(i - table->num_functions));

            RETURN_IF_ERROR(pprof_ids_add_text(ids, text, &written.name));
        }
        RETURN_IF_ERROR(pprof_ids_add_function(ids, &written, &ids->function_ids[i]));
    }
    return NULL;
}

static struct error *pprof_ids_fill(struct pprof_ids *ids)
{
    const struct stack_table *table = ids->profile->table;

    RETURN_IF_ERROR(string_table_init(&ids->strings));
    hash_index_init(&ids->function_index);
    hash_index_init(&ids->label_set_index);
    ids->string_ids = calloc(table->strings.num_strings + 1, sizeof(*ids->string_ids));
    ids->mapping_ids = calloc(table->num_mappings + 1, sizeof(*ids->mapping_ids));
    ids->mappings = calloc(table->num_mappings + 1, sizeof(*ids->mappings));
    ids->mapping_has_lines = calloc(table->num_mappings + 1, sizeof(*ids->mapping_has_lines));
    ids->location_ids = calloc(table->num_locations + 1, sizeof(*ids->location_ids));
    ids->function_ids = calloc(table->num_functions + REASON_NUM, sizeof(*ids->function_ids));
    if (!ids->string_ids || !ids->mapping_ids || !ids->mappings || !ids->mapping_has_lines ||
        !ids->location_ids || !ids->function_ids)
        return &error_no_memory;
    RETURN_IF_ERROR(pprof_ids_collect_samples(ids));
    pprof_ids_mark(ids);
    pprof_ids_number_mappings(ids);
    for (size_t i = 0; i < table->num_locations; i++)
        if (ids->location_ids[i] != 0)
            ids->location_ids[i] = ++ids->num_locations;
    return pprof_ids_number_functions(ids);
}

struct error *pprof_ids_init(struct pprof_ids *ids, const struct profile *profile)
{
    struct error *err;

    *ids = (struct pprof_ids){.profile = profile};
    err = pprof_ids_fill(ids);
    if (err)
        pprof_ids_deinit(ids);
    return err;
}

uint32_t pprof_ids_function(const struct pprof_ids *ids, uint32_t table_function)
{
    return table_function < ids->profile->table->num_functions ? ids->function_ids[table_function]
                                                               : 0;
}

uint32_t pprof_ids_reason(const struct pprof_ids *ids, uint32_t reason)
{
    return reason < REASON_NUM ? ids->function_ids[ids->profile->table->num_functions + reason] : 0;
}
