#include "profile/stack_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/hash.h"

/* Ids are 32 bits, and hash_index cannot hold the last of them. */
#define MAX_ROWS ((size_t)UINT32_MAX - 1)

struct error *stack_table_init(struct stack_table *table)
{
    uint32_t no_labels;

    *table = (struct stack_table){0};
    RETURN_IF_ERROR(string_table_init(&table->strings));
    table->scratch = malloc(CALLCHAIN_MAX_FRAMES * sizeof(*table->scratch));
    struct error *err = &error_no_memory;
    if (table->scratch)
        err = stack_table_add_label_set(table, NULL, 0, &no_labels);
    if (err)
        stack_table_deinit(table);
    return err;
}

void stack_table_deinit(struct stack_table *table)
{
    string_table_deinit(&table->strings);
    hash_index_deinit(&table->mapping_index);
    hash_index_deinit(&table->location_index);
    hash_index_deinit(&table->stack_index);
    hash_index_deinit(&table->function_index);
    hash_index_deinit(&table->label_set_index);
    free(table->mappings);
    free(table->locations);
    free(table->stacks);
    free(table->stack_locations);
    free(table->functions);
    free(table->lines);
    free(table->labels);
    free(table->label_sets);
    free(table->scratch);
    *table = (struct stack_table){0};
}

static struct error *rows_reserve(void *rows, size_t *capacity, size_t num_needed, size_t row_bytes)
{
    if (num_needed > MAX_ROWS)
        return &error_no_memory;
    return array_reserve(rows, capacity, num_needed, row_bytes);
}

/* Mappings */

static bool mapping_is_shared(const struct mapping *mapping)
{
    return mapping->kind == MAPPING_FILE || mapping->kind == MAPPING_VDSO ||
           mapping->kind == MAPPING_KERNEL;
}

static bool mapping_equals(const struct mapping *a, const struct mapping *b)
{
    if (mapping_is_shared(a) != mapping_is_shared(b))
        return false;
    if (mapping_is_shared(a))
        return a->module == b->module && a->file_off == b->file_off &&
               a->limit - a->start == b->limit - b->start;
    return a->pid == b->pid && a->start == b->start && a->limit == b->limit;
}

static uint64_t mapping_hash(uint64_t seed, const struct mapping *mapping)
{
    if (mapping_is_shared(mapping)) {
        uint64_t hash = hash_combine(seed, mapping->module);
        hash = hash_combine(hash, mapping->file_off);
        return hash_combine(hash, mapping->limit - mapping->start);
    }
    uint64_t hash = hash_combine(seed, (uint64_t)1 << 32 | mapping->pid);
    return hash_combine(hash_combine(hash, mapping->start), mapping->limit);
}

struct error *stack_table_add_mapping(struct stack_table *table, const struct mapping *mapping,
                                      uint32_t *mapping_ret)
{
    uint64_t hash = mapping_hash(table->strings.hash_seed, mapping);
    struct hash_index_cursor cursor = hash_index_first(&table->mapping_index, hash);
    uint32_t item;

    while (hash_index_next(&table->mapping_index, &cursor, &item)) {
        if (mapping_equals(&table->mappings[item], mapping)) {
            *mapping_ret = item + 1;
            return NULL;
        }
    }
    struct mapping copy = *mapping; /* it may be a row of the table that moves now */
    RETURN_IF_ERROR(rows_reserve(&table->mappings, &table->mappings_capacity,
                                 table->num_mappings + 1, sizeof(*table->mappings)));
    RETURN_IF_ERROR(hash_index_insert(&table->mapping_index, hash, (uint32_t)table->num_mappings));
    table->mappings[table->num_mappings++] = copy;
    *mapping_ret = (uint32_t)table->num_mappings;
    return NULL;
}

struct mapping *stack_table_mapping(struct stack_table *table, uint32_t mapping_id)
{
    if (mapping_id == 0 || mapping_id > table->num_mappings)
        return NULL;
    return &table->mappings[mapping_id - 1];
}

/* Locations and stacks */

static bool frame_key_equals(const struct frame_key *a, const struct frame_key *b)
{
    return a->pc == b->pc && a->mapping == b->mapping && a->reason == b->reason;
}

static inline uint64_t frame_key_word(const struct frame_key *key)
{
    return key->pc + ((uint64_t)key->mapping << 32 | key->reason) * 0x9e3779b97f4a7c15ULL;
}

static uint64_t frame_key_hash(uint64_t seed, const struct frame_key *key)
{
    uint64_t hash = hash_combine(seed, key->pc);

    return hash_combine(hash, (uint64_t)key->mapping << 32 | key->reason);
}

struct error *stack_table_add_location(struct stack_table *table, const struct frame_key *key,
                                       uint32_t *location_ret)
{
    uint64_t hash = frame_key_hash(table->strings.hash_seed, key);
    struct hash_index_cursor cursor = hash_index_first(&table->location_index, hash);
    uint32_t item;

    while (hash_index_next(&table->location_index, &cursor, &item)) {
        if (frame_key_equals(&table->locations[item].key, key)) {
            *location_ret = item;
            return NULL;
        }
    }
    struct frame_key copy = *key;
    RETURN_IF_ERROR(rows_reserve(&table->locations, &table->locations_capacity,
                                 table->num_locations + 1, sizeof(*table->locations)));
    item = (uint32_t)table->num_locations;
    RETURN_IF_ERROR(hash_index_insert(&table->location_index, hash, item));
    table->locations[item] = (struct location){.key = copy};
    table->num_locations++;
    *location_ret = item;
    return NULL;
}

/* Stacks are hashed and compared by their frames, not by their location ids: so a known stack costs
 * one look-up in all instead of one for each frame. One multiplication a frame; hash_finish() mixes
 * the rest. */
static inline uint64_t stack_hash_add(uint64_t hash, const struct frame_key *key)
{
    hash = (hash ^ frame_key_word(key)) * 0xff51afd7ed558ccdULL;
    return hash ^ (hash >> 32);
}

static uint64_t stack_hash_finish(uint64_t hash, size_t num_frames)
{
    return hash_combine(hash, num_frames);
}

static uint64_t stack_hash_frames(uint64_t seed, const struct frame_key *frames, size_t num_frames)
{
    uint64_t hash = seed;

    for (size_t i = 0; i < num_frames; i++)
        hash = stack_hash_add(hash, &frames[i]);
    return stack_hash_finish(hash, num_frames);
}

static uint64_t stack_hash_locations(const struct stack_table *table, const uint32_t *locations,
                                     size_t num_locations)
{
    uint64_t hash = table->strings.hash_seed;

    for (size_t i = 0; i < num_locations; i++)
        hash = stack_hash_add(hash, &table->locations[locations[i]].key);
    return stack_hash_finish(hash, num_locations);
}

static bool stack_equals_frames(const struct stack_table *table, const struct stack *stack,
                                const struct frame_key *frames, size_t num_frames)
{
    const uint32_t *ids = table->stack_locations + stack->first;

    if (stack->num_locations != num_frames)
        return false;
    for (size_t i = 0; i < num_frames; i++) {
        if (!frame_key_equals(&table->locations[ids[i]].key, &frames[i]))
            return false;
    }
    return true;
}

static struct error *stack_append(struct stack_table *table, uint64_t hash,
                                  const uint32_t *locations, size_t num_locations,
                                  uint32_t *stack_ret)
{
    if (num_locations > MAX_ROWS - table->num_stack_locations)
        return &error_no_memory;
    RETURN_IF_ERROR(rows_reserve(&table->stack_locations, &table->stack_locations_capacity,
                                 table->num_stack_locations + num_locations,
                                 sizeof(*table->stack_locations)));
    RETURN_IF_ERROR(rows_reserve(&table->stacks, &table->stacks_capacity, table->num_stacks + 1,
                                 sizeof(*table->stacks)));
    uint32_t id = (uint32_t)table->num_stacks;
    RETURN_IF_ERROR(hash_index_insert(&table->stack_index, hash, id));
    table->stacks[id] = (struct stack){
        .first = (uint32_t)table->num_stack_locations,
        .num_locations = (uint32_t)num_locations,
    };
    if (num_locations)
        memcpy(table->stack_locations + table->num_stack_locations, locations,
               num_locations * sizeof(*locations));
    table->num_stack_locations += num_locations;
    table->num_stacks++;
    *stack_ret = id;
    return NULL;
}

struct error *stack_table_intern(struct stack_table *table, const struct callchain *chain,
                                 uint32_t *stack_ret)
{
    size_t num_frames = chain->num_frames;
    uint32_t item;

    if (num_frames == 0 || num_frames > CALLCHAIN_MAX_FRAMES)
        return error_create(ERROR_FAILED, NULL, "a callchain of %zu frames", num_frames);
    uint64_t hash = stack_hash_frames(table->strings.hash_seed, chain->frames, num_frames);
    struct hash_index_cursor cursor = hash_index_first(&table->stack_index, hash);
    while (hash_index_next(&table->stack_index, &cursor, &item)) {
        if (stack_equals_frames(table, &table->stacks[item], chain->frames, num_frames)) {
            *stack_ret = item;
            return NULL;
        }
    }
    for (size_t i = 0; i < num_frames; i++)
        RETURN_IF_ERROR(stack_table_add_location(table, &chain->frames[i], &table->scratch[i]));
    return stack_append(table, hash, table->scratch, num_frames, stack_ret);
}

struct error *stack_table_intern_locations(struct stack_table *table, const uint32_t *locations,
                                           size_t num_locations, uint32_t *stack_ret)
{
    uint32_t item;

    for (size_t i = 0; i < num_locations; i++) {
        if (locations[i] >= table->num_locations)
            return error_create(ERROR_FAILED, NULL, "location %u does not exist", locations[i]);
    }
    uint64_t hash = stack_hash_locations(table, locations, num_locations);
    struct hash_index_cursor cursor = hash_index_first(&table->stack_index, hash);
    while (hash_index_next(&table->stack_index, &cursor, &item)) {
        const struct stack *stack = &table->stacks[item];
        if (stack->num_locations == num_locations &&
            (!num_locations || memcmp(table->stack_locations + stack->first, locations,
                                      num_locations * sizeof(*locations)) == 0)) {
            *stack_ret = item;
            return NULL;
        }
    }
    return stack_append(table, hash, locations, num_locations, stack_ret);
}

/* Functions and lines */

static bool function_equals(const struct function *a, const struct function *b)
{
    return a->name == b->name && a->system_name == b->system_name && a->filename == b->filename &&
           a->start_line == b->start_line;
}

struct error *stack_table_add_function(struct stack_table *table, const struct function *function,
                                       uint32_t *function_ret)
{
    uint64_t hash = hash_combine(table->strings.hash_seed,
                                 (uint64_t)function->name << 32 | function->system_name);
    hash = hash_combine(hash, function->filename);
    hash = hash_combine(hash, (uint64_t)function->start_line);

    struct hash_index_cursor cursor = hash_index_first(&table->function_index, hash);
    uint32_t item;
    while (hash_index_next(&table->function_index, &cursor, &item)) {
        if (function_equals(&table->functions[item], function)) {
            *function_ret = item;
            return NULL;
        }
    }
    struct function copy = *function;
    RETURN_IF_ERROR(rows_reserve(&table->functions, &table->functions_capacity,
                                 table->num_functions + 1, sizeof(*table->functions)));
    item = (uint32_t)table->num_functions;
    RETURN_IF_ERROR(hash_index_insert(&table->function_index, hash, item));
    table->functions[item] = copy;
    table->num_functions++;
    *function_ret = item;
    return NULL;
}

struct error *stack_table_set_lines(struct stack_table *table, uint32_t location,
                                    const struct line *lines, size_t num_lines)
{
    if (location >= table->num_locations)
        return error_create(ERROR_FAILED, NULL, "location %u does not exist", location);

    struct location *row = &table->locations[location];
    if (num_lines > row->num_lines) {
        if (num_lines > MAX_ROWS - table->num_lines)
            return &error_no_memory;
        RETURN_IF_ERROR(rows_reserve(&table->lines, &table->lines_capacity,
                                     table->num_lines + num_lines, sizeof(*table->lines)));
        row->first_line = (uint32_t)table->num_lines;
        table->num_lines += num_lines;
    }
    if (num_lines)
        memcpy(table->lines + row->first_line, lines, num_lines * sizeof(*lines));
    row->num_lines = (uint32_t)num_lines;
    return NULL;
}

/* Label sets */

static bool label_equals(const struct label *a, const struct label *b)
{
    return a->key == b->key && a->str == b->str && a->num == b->num && a->unit == b->unit;
}

static bool label_set_equals(const struct stack_table *table, const struct label_set *set,
                             const struct label *labels, size_t num_labels)
{
    if (set->num_labels != num_labels)
        return false;
    for (size_t i = 0; i < num_labels; i++) {
        if (!label_equals(&table->labels[set->first + i], &labels[i]))
            return false;
    }
    return true;
}

static uint64_t label_set_hash(uint64_t seed, const struct label *labels, size_t num_labels)
{
    uint64_t hash = hash_combine(seed, num_labels);

    for (size_t i = 0; i < num_labels; i++) {
        hash = hash_combine(hash, (uint64_t)labels[i].key << 32 | labels[i].str);
        hash = hash_combine(hash, (uint64_t)labels[i].num);
        hash = hash_combine(hash, labels[i].unit);
    }
    return hash;
}

struct error *stack_table_add_label_set(struct stack_table *table, const struct label *labels,
                                        size_t num_labels, uint32_t *label_set_ret)
{
    uint64_t hash = label_set_hash(table->strings.hash_seed, labels, num_labels);
    struct hash_index_cursor cursor = hash_index_first(&table->label_set_index, hash);
    uint32_t item;

    while (hash_index_next(&table->label_set_index, &cursor, &item)) {
        if (label_set_equals(table, &table->label_sets[item], labels, num_labels)) {
            *label_set_ret = item;
            return NULL;
        }
    }
    if (num_labels > MAX_ROWS - table->num_labels)
        return &error_no_memory;
    RETURN_IF_ERROR(rows_reserve(&table->labels, &table->labels_capacity,
                                 table->num_labels + num_labels, sizeof(*table->labels)));
    RETURN_IF_ERROR(rows_reserve(&table->label_sets, &table->label_sets_capacity,
                                 table->num_label_sets + 1, sizeof(*table->label_sets)));
    item = (uint32_t)table->num_label_sets;
    RETURN_IF_ERROR(hash_index_insert(&table->label_set_index, hash, item));
    table->label_sets[item] = (struct label_set){
        .first = (uint32_t)table->num_labels,
        .num_labels = (uint32_t)num_labels,
    };
    if (num_labels)
        memcpy(table->labels + table->num_labels, labels, num_labels * sizeof(*labels));
    table->num_labels += num_labels;
    table->num_label_sets++;
    *label_set_ret = item;
    return NULL;
}

/* Memory */

size_t stack_table_bytes(const struct stack_table *table)
{
    return string_table_bytes(&table->strings) + hash_index_bytes(&table->mapping_index) +
           hash_index_bytes(&table->location_index) + hash_index_bytes(&table->stack_index) +
           hash_index_bytes(&table->function_index) + hash_index_bytes(&table->label_set_index) +
           table->num_mappings * sizeof(*table->mappings) +
           table->num_locations * sizeof(*table->locations) +
           table->num_stacks * sizeof(*table->stacks) +
           table->num_stack_locations * sizeof(*table->stack_locations) +
           table->num_functions * sizeof(*table->functions) +
           table->num_lines * sizeof(*table->lines) + table->num_labels * sizeof(*table->labels) +
           table->num_label_sets * sizeof(*table->label_sets) +
           CALLCHAIN_MAX_FRAMES * sizeof(*table->scratch);
}

/* What a compaction needs; all memory is allocated before the first row moves. */
struct compaction {
    uint32_t *location_map; /* new id + 1 of each location, 0: dropped */
    size_t num_locations;
    size_t num_stacks;
    size_t num_lines;
    struct line *lines;
    struct hash_index location_index;
    struct hash_index stack_index;
};

static void compaction_deinit(struct compaction *compaction)
{
    free(compaction->location_map);
    free(compaction->lines);
    hash_index_deinit(&compaction->location_index);
    hash_index_deinit(&compaction->stack_index);
}

static struct error *compaction_plan(struct compaction *plan, const struct stack_table *table,
                                     const bool *keep_stacks)
{
    plan->location_map = calloc(table->num_locations + 1, sizeof(*plan->location_map));
    if (!plan->location_map)
        return &error_no_memory;
    for (size_t i = 0; i < table->num_stacks; i++) {
        const struct stack *stack = &table->stacks[i];
        if (!keep_stacks[i])
            continue;
        plan->num_stacks++;
        for (size_t j = 0; j < stack->num_locations; j++)
            plan->location_map[table->stack_locations[stack->first + j]] = 1;
    }
    for (size_t i = 0; i < table->num_locations; i++) {
        if (!plan->location_map[i])
            continue;
        plan->location_map[i] = (uint32_t)++plan->num_locations;
        plan->num_lines += table->locations[i].num_lines;
    }
    plan->lines = malloc((plan->num_lines + 1) * sizeof(*plan->lines));
    if (!plan->lines)
        return &error_no_memory;
    RETURN_IF_ERROR(hash_index_reserve(&plan->location_index, plan->num_locations));
    return hash_index_reserve(&plan->stack_index, plan->num_stacks);
}

/* The plan has reserved the room, so nothing can fail; dropping an error would hide a bug. */
static void index_put(struct hash_index *index, uint64_t hash, size_t item)
{
    error_destroy(hash_index_insert(index, hash, (uint32_t)item));
}

static void compact_locations(struct stack_table *table, struct compaction *plan)
{
    size_t num_lines = 0;

    for (size_t i = 0; i < table->num_locations; i++) {
        if (!plan->location_map[i])
            continue;
        size_t id = plan->location_map[i] - 1;
        struct location location = table->locations[i];
        if (location.num_lines)
            memcpy(plan->lines + num_lines, table->lines + location.first_line,
                   location.num_lines * sizeof(*plan->lines));
        location.first_line = (uint32_t)num_lines;
        num_lines += location.num_lines;
        table->locations[id] = location;
        index_put(&plan->location_index, frame_key_hash(table->strings.hash_seed, &location.key),
                  id);
    }
    table->num_locations = plan->num_locations;
    free(table->lines);
    table->lines = take_ptr(plan->lines);
    table->num_lines = num_lines;
    table->lines_capacity = plan->num_lines + 1;
}

static void compact_stacks(struct stack_table *table, struct compaction *plan,
                           const bool *keep_stacks, uint32_t *stack_map)
{
    size_t num_stacks = 0;
    size_t num_stack_locations = 0;

    /* Stacks lie in stack_locations in the order of their ids: every move is downwards. */
    for (size_t i = 0; i < table->num_stacks; i++) {
        struct stack stack = table->stacks[i];
        if (!keep_stacks[i])
            continue;
        uint32_t *ids = table->stack_locations + num_stack_locations;
        for (size_t j = 0; j < stack.num_locations; j++)
            ids[j] = plan->location_map[table->stack_locations[stack.first + j]] - 1;
        stack.first = (uint32_t)num_stack_locations;
        num_stack_locations += stack.num_locations;
        table->stacks[num_stacks] = stack;
        index_put(&plan->stack_index, stack_hash_locations(table, ids, stack.num_locations),
                  num_stacks);
        stack_map[i] = (uint32_t)num_stacks++;
    }
    table->num_stacks = num_stacks;
    table->num_stack_locations = num_stack_locations;
}

/* Gives memory back; that a smaller block cannot be had only means that we keep the larger one. */
static void rows_shrink(void *rows, size_t *capacity, size_t num_rows, size_t row_bytes)
{
    void *old_rows;

    if (num_rows == 0 || num_rows == *capacity)
        return;
    memcpy(&old_rows, rows, sizeof(old_rows));
    void *new_rows = realloc(old_rows, num_rows * row_bytes);
    if (!new_rows)
        return;
    memcpy(rows, &new_rows, sizeof(new_rows));
    *capacity = num_rows;
}

struct error *stack_table_compact(struct stack_table *table, const bool *keep_stacks,
                                  uint32_t *stack_map)
{
    struct compaction plan = {0};

    struct error *err = compaction_plan(&plan, table, keep_stacks);
    if (!err) {
        compact_locations(table, &plan);
        compact_stacks(table, &plan, keep_stacks, stack_map);
        struct hash_index old = table->location_index;
        table->location_index = plan.location_index;
        plan.location_index = old;
        old = table->stack_index;
        table->stack_index = plan.stack_index;
        plan.stack_index = old;
        rows_shrink(&table->locations, &table->locations_capacity, table->num_locations,
                    sizeof(*table->locations));
        rows_shrink(&table->stacks, &table->stacks_capacity, table->num_stacks,
                    sizeof(*table->stacks));
        rows_shrink(&table->stack_locations, &table->stack_locations_capacity,
                    table->num_stack_locations, sizeof(*table->stack_locations));
    }
    compaction_deinit(&plan);
    return err;
}

struct error *stack_table_compact_label_sets(struct stack_table *table, const bool *keep,
                                             uint32_t *map)
{
    size_t num_sets = 0;
    size_t num_labels = 0;
    struct hash_index index;

    hash_index_init(&index);
    for (size_t i = 0; i < table->num_label_sets; i++)
        num_sets += i == 0 || keep[i];
    RETURN_IF_ERROR(hash_index_reserve(&index, num_sets));
    num_sets = 0;
    /* Labels lie in the order of the ids of their sets: every move is downwards. */
    for (size_t i = 0; i < table->num_label_sets; i++) {
        struct label_set set = table->label_sets[i];
        struct label *labels = table->labels + num_labels;

        map[i] = 0;
        if (i != 0 && !keep[i])
            continue;
        if (set.num_labels)
            memmove(labels, table->labels + set.first, set.num_labels * sizeof(*labels));
        set.first = (uint32_t)num_labels;
        num_labels += set.num_labels;
        index_put(&index, label_set_hash(table->strings.hash_seed, labels, set.num_labels),
                  num_sets);
        table->label_sets[num_sets] = set;
        map[i] = (uint32_t)num_sets++;
    }
    table->num_label_sets = num_sets;
    table->num_labels = num_labels;
    hash_index_deinit(&table->label_set_index);
    table->label_set_index = index;
    rows_shrink(&table->labels, &table->labels_capacity, num_labels, sizeof(*table->labels));
    rows_shrink(&table->label_sets, &table->label_sets_capacity, num_sets,
                sizeof(*table->label_sets));
    return NULL;
}
