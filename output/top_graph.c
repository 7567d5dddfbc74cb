#include "output/top_graph.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "output/top_name.h"

#define NO_NODE UINT32_MAX

int64_t top_abs(int64_t value)
{
    if (value == INT64_MIN)
        return INT64_MAX;
    return value < 0 ? -value : value;
}

static int64_t add_saturated(int64_t left, int64_t right)
{
    int64_t sum;

    if (__builtin_add_overflow(left, right, &sum))
        return right > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

void top_graph_deinit(struct top_graph *graph)
{
    free(graph->nodes);
    hash_index_deinit(&graph->node_index);
    free(graph->edges);
    hash_index_deinit(&graph->edge_index);
    free(graph->location_nodes);
    free(graph->frame_nodes);
    free(graph->order);
    memset(graph, 0, sizeof(*graph));
}

/* Finds or adds the node with the identity (name, objfile, start_line) of `wanted`. */
static struct error *top_graph_intern_node(struct top_graph *graph, const struct top_node *wanted,
                                           uint32_t *node_ret)
{
    uint64_t hash = hash_combine(graph->profile->table->strings.hash_seed,
                                 (uint64_t)wanted->name << 32 | wanted->objfile);
    struct hash_index_cursor cursor;
    uint32_t item;

    hash = hash_combine(hash, (uint64_t)wanted->start_line);
    cursor = hash_index_first(&graph->node_index, hash);
    while (hash_index_next(&graph->node_index, &cursor, &item)) {
        const struct top_node *node = &graph->nodes[item];

        if (node->name == wanted->name && node->objfile == wanted->objfile &&
            node->start_line == wanted->start_line) {
            *node_ret = item;
            return NULL;
        }
    }
    RETURN_IF_ERROR(array_reserve(&graph->nodes, &graph->nodes_capacity, graph->num_nodes + 1,
                                  sizeof(*graph->nodes)));
    RETURN_IF_ERROR(hash_index_insert(&graph->node_index, hash, (uint32_t)graph->num_nodes));
    item = (uint32_t)graph->num_nodes;
    graph->nodes[item] = *wanted;
    graph->nodes[item].is_kept = true;
    if (wanted->name != 0)
        graph->nodes[item].text = wanted->name;
    else
        RETURN_IF_ERROR(top_name_of_file(&graph->profile->table->strings, wanted->objfile,
                                         &graph->nodes[item].text));
    graph->num_nodes++;
    *node_ret = item;
    return NULL;
}

/* Appends the node of one frame. function: NULL when the frame has none. */
static struct error *top_graph_add_frame(struct top_graph *graph, const struct location *location,
                                         const struct function *function)
{
    struct stack_table *table = graph->profile->table;
    const struct mapping *mapping = stack_table_mapping(table, location->key.mapping);
    struct top_node node = {0};

    RETURN_IF_ERROR(array_reserve(&graph->frame_nodes, &graph->frame_nodes_capacity,
                                  graph->num_frame_nodes + 1, sizeof(*graph->frame_nodes)));
    if (function)
        RETURN_IF_ERROR(top_name_of_function(&table->strings, function, &node.name));
    else if (location->key.reason != REASON_NONE)
        RETURN_IF_ERROR(string_table_add(&table->strings,
                                         frame_reason_name((enum frame_reason)location->key.reason),
                                         &node.name));
    if (node.name == 0) {
        node.objfile = mapping ? mapping->path : 0;
        node.start_line = function ? function->start_line : 0;
    }
    return top_graph_intern_node(graph, &node, &graph->frame_nodes[graph->num_frame_nodes++]);
}

/* Makes the nodes of all locations. */
static struct error *top_graph_add_locations(struct top_graph *graph)
{
    const struct stack_table *table = graph->profile->table;

    for (size_t i = 0; i < table->num_locations; i++) {
        const struct location *location = &table->locations[i];

        graph->location_nodes[i] = graph->num_frame_nodes;
        for (uint32_t j = 0; j < location->num_lines; j++) {
            uint32_t function = table->lines[location->first_line + j].function;

            RETURN_IF_ERROR(top_graph_add_frame(
                graph, location,
                function < table->num_functions ? &table->functions[function] : NULL));
        }
        if (location->num_lines == 0)
            RETURN_IF_ERROR(top_graph_add_frame(graph, location, NULL));
    }
    graph->location_nodes[table->num_locations] = graph->num_frame_nodes;
    return NULL;
}

/* Adds a call to its edge, once for each sample. */
static struct error *top_graph_add_call(struct top_graph *graph, uint32_t caller, uint32_t callee,
                                        int64_t weight, bool is_inline)
{
    uint64_t hash =
        hash_combine(graph->profile->table->strings.hash_seed, (uint64_t)caller << 32 | callee);
    struct hash_index_cursor cursor = hash_index_first(&graph->edge_index, hash);
    uint32_t item;

    /* hash_combine() is a bijection of its second argument: the hash found is the edge. */
    if (hash_index_next(&graph->edge_index, &cursor, &item)) {
        struct top_edge *edge = &graph->edges[item];

        if (edge->last_sample == graph->num_samples_seen)
            return NULL;
        edge->last_sample = graph->num_samples_seen;
        edge->weight = add_saturated(edge->weight, weight);
        edge->is_inline = edge->is_inline && is_inline;
        return NULL;
    }
    RETURN_IF_ERROR(array_reserve(&graph->edges, &graph->edges_capacity, graph->num_edges + 1,
                                  sizeof(*graph->edges)));
    RETURN_IF_ERROR(hash_index_insert(&graph->edge_index, hash, (uint32_t)graph->num_edges));
    graph->edges[graph->num_edges++] =
        (struct top_edge){caller, callee, weight, is_inline, graph->num_samples_seen};
    return NULL;
}

static void add_error(struct heap_error *sum, const struct heap_error *error)
{
    if (!error)
        return;
    sum->variance += error->variance;
    sum->num_samples += error->num_samples;
}

/* Adds one frame of a sample, coming from the root. caller: in: the kept frame before; out: this
 * one. */
static struct error *top_graph_add_sample_frame(struct top_graph *graph, uint32_t node_id,
                                                int64_t weight, const struct heap_error *error,
                                                bool is_inline, uint32_t *caller)
{
    struct top_node *node = &graph->nodes[node_id];

    if (node->last_sample != graph->num_samples_seen) {
        node->last_sample = graph->num_samples_seen;
        node->cum = add_saturated(node->cum, weight);
        add_error(&node->cum_error, error);
    }
    if (*caller != NO_NODE && *caller != node_id)
        RETURN_IF_ERROR(top_graph_add_call(graph, *caller, node_id, weight, is_inline));
    *caller = node_id;
    return NULL;
}

static struct error *top_graph_add_sample(struct top_graph *graph,
                                          const struct profile_sample *sample)
{
    const struct stack_table *table = graph->profile->table;
    const struct stack *stack = &table->stacks[sample->stack];
    int64_t weight = sample->values[graph->column];
    const struct heap_error *error =
        graph->errors ? &graph->errors[sample - graph->profile->samples] : NULL;
    uint32_t caller = NO_NODE;
    bool is_leaf_kept = false;

    if (weight == 0)
        return NULL;
    graph->num_samples_seen++;
    for (uint32_t i = stack->num_locations; i-- > 0;) {
        uint32_t location = table->stack_locations[stack->first + i];
        size_t first = graph->location_nodes[location];
        size_t limit = graph->location_nodes[location + 1];

        for (size_t j = limit; j-- > first;) {
            uint32_t node = graph->frame_nodes[j];

            is_leaf_kept = graph->nodes[node].is_kept;
            if (is_leaf_kept)
                RETURN_IF_ERROR(top_graph_add_sample_frame(graph, node, weight, error,
                                                           j != limit - 1, &caller));
        }
    }
    if (caller != NO_NODE && is_leaf_kept) {
        graph->nodes[caller].flat = add_saturated(graph->nodes[caller].flat, weight);
        add_error(&graph->nodes[caller].flat_error, error);
    }
    return NULL;
}

/* Sums all samples over the kept nodes, and lists the nodes that got a value. */
static struct error *top_graph_sum(struct top_graph *graph)
{
    const struct profile *profile = graph->profile;

    graph->num_edges = 0;
    hash_index_clear(&graph->edge_index);
    for (size_t i = 0; i < graph->num_nodes; i++) {
        graph->nodes[i].flat = 0;
        graph->nodes[i].cum = 0;
        graph->nodes[i].flat_error = (struct heap_error){0};
        graph->nodes[i].cum_error = (struct heap_error){0};
    }
    for (size_t i = 0; i < profile->num_samples; i++)
        RETURN_IF_ERROR(top_graph_add_sample(graph, &profile->samples[i]));
    graph->num_order = 0;
    for (size_t i = 0; i < graph->num_nodes; i++)
        if (graph->nodes[i].cum != 0 || graph->nodes[i].flat != 0)
            graph->order[graph->num_order++] = (uint32_t)i;
    return NULL;
}

static struct error *top_graph_fill(struct top_graph *graph)
{
    const struct stack_table *table = graph->profile->table;

    hash_index_init(&graph->node_index);
    hash_index_init(&graph->edge_index);
    graph->location_nodes = calloc(table->num_locations + 1, sizeof(*graph->location_nodes));
    if (!graph->location_nodes)
        return &error_no_memory;
    RETURN_IF_ERROR(top_graph_add_locations(graph));
    graph->order = calloc(graph->num_nodes + 1, sizeof(*graph->order));
    if (!graph->order)
        return &error_no_memory;
    return top_graph_sum(graph);
}

struct error *top_graph_init(struct top_graph *graph, const struct profile *profile, size_t column,
                             const struct heap_error *errors)
{
    struct error *err;

    *graph = (struct top_graph){.profile = profile, .column = column, .errors = errors};
    err = top_graph_fill(graph);
    if (err)
        top_graph_deinit(graph);
    return err;
}

struct error *top_graph_rebuild(struct top_graph *graph)
{
    for (size_t i = 0; i < graph->num_nodes; i++)
        graph->nodes[i].is_kept = false;
    for (size_t i = 0; i < graph->num_order; i++)
        graph->nodes[graph->order[i]].is_kept = true;
    return top_graph_sum(graph);
}

size_t top_graph_cut(struct top_graph *graph, int64_t cutoff)
{
    size_t num_before = graph->num_order;

    graph->num_order = 0;
    for (size_t i = 0; i < num_before; i++)
        if (top_abs(graph->nodes[graph->order[i]].cum) >= cutoff)
            graph->order[graph->num_order++] = graph->order[i];
    return num_before - graph->num_order;
}

static int compare_values(int64_t left, int64_t right)
{
    if (top_abs(left) == top_abs(right))
        return 0;
    return top_abs(left) > top_abs(right) ? -1 : 1;
}

/* Orders what is equal else, so that equal input gives equal output. */
static int compare_ids(const void *left_item, const void *right_item)
{
    uint32_t left = *(const uint32_t *)left_item;
    uint32_t right = *(const uint32_t *)right_item;

    return (left > right) - (left < right);
}

/* Compares two nodes by flat value, text, cumulative value. */
static int compare_by_flat(const void *left_item, const void *right_item, void *graph_argument)
{
    const struct top_graph *graph = graph_argument;
    const struct top_node *left = &graph->nodes[*(const uint32_t *)left_item];
    const struct top_node *right = &graph->nodes[*(const uint32_t *)right_item];
    const struct string_table *strings = &graph->profile->table->strings;
    int order = compare_values(left->flat, right->flat);

    if (order == 0)
        order =
            strcmp(string_table_get(strings, left->text), string_table_get(strings, right->text));
    if (order == 0)
        order = compare_values(left->cum, right->cum);
    return order != 0 ? order : compare_ids(left_item, right_item);
}

/* Compares two nodes by cumulative value, text, flat value. */
static int compare_by_cum(const void *left_item, const void *right_item, void *graph_argument)
{
    const struct top_graph *graph = graph_argument;
    const struct top_node *left = &graph->nodes[*(const uint32_t *)left_item];
    const struct top_node *right = &graph->nodes[*(const uint32_t *)right_item];
    const struct string_table *strings = &graph->profile->table->strings;
    int order = compare_values(left->cum, right->cum);

    if (order == 0)
        order =
            strcmp(string_table_get(strings, left->text), string_table_get(strings, right->text));
    if (order == 0)
        order = compare_values(left->flat, right->flat);
    return order != 0 ? order : compare_ids(left_item, right_item);
}

/* What grew most first, what shrank most last. */
static int compare_by_growth(const void *left_item, const void *right_item, void *graph_argument)
{
    const struct top_graph *graph = graph_argument;
    const struct top_node *left = &graph->nodes[*(const uint32_t *)left_item];
    const struct top_node *right = &graph->nodes[*(const uint32_t *)right_item];

    if (left->flat != right->flat)
        return left->flat > right->flat ? -1 : 1;
    return compare_by_flat(left_item, right_item, graph_argument);
}

static int compare_by_cum_growth(const void *left_item, const void *right_item,
                                 void *graph_argument)
{
    const struct top_graph *graph = graph_argument;
    const struct top_node *left = &graph->nodes[*(const uint32_t *)left_item];
    const struct top_node *right = &graph->nodes[*(const uint32_t *)right_item];

    if (left->cum != right->cum)
        return left->cum > right->cum ? -1 : 1;
    return compare_by_cum(left_item, right_item, graph_argument);
}

void top_graph_sort(struct top_graph *graph, enum top_order order)
{
    static int (*const compare[])(const void *, const void *, void *) = {
        [TOP_BY_FLAT] = compare_by_flat,
        [TOP_BY_CUM] = compare_by_cum,
        [TOP_BY_GROWTH] = compare_by_growth,
        [TOP_BY_CUM_GROWTH] = compare_by_cum_growth,
    };

    if (graph->num_order > 0)
        qsort_r(graph->order, graph->num_order, sizeof(*graph->order), compare[order], graph);
}

void top_graph_mark_inline(struct top_graph *graph, int64_t cutoff)
{
    for (size_t i = 0; i < graph->num_nodes; i++) {
        graph->nodes[i].has_inline_call = false;
        graph->nodes[i].has_call = false;
    }
    for (size_t i = 0; i < graph->num_edges; i++) {
        const struct top_edge *edge = &graph->edges[i];

        if (top_abs(edge->weight) < cutoff)
            continue;
        if (edge->is_inline)
            graph->nodes[edge->callee].has_inline_call = true;
        else
            graph->nodes[edge->callee].has_call = true;
    }
}
