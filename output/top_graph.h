/* Functions and calls of a profile with their flat and cumulative values: what `top` prints.
 *
 * A node is a function name (equal names are one node), or for frames without a name their file. An
 * edge is a call; it is inline when the callee was inlined into the caller wherever it was seen.
 * Small nodes are dropped as pprof does: the values are summed again as if their frames were not
 * there. Ownership: the caller's storage; borrows the profile, to whose string table it adds the
 * texts of nodes. Threads: none.
 */
#ifndef OUTPUT_TOP_GRAPH_H
#define OUTPUT_TOP_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash_index.h"
#include "output/heap_error.h"
#include "output/top.h"
#include "profile/profile.h"

struct top_node {
    uint32_t name;    /* string id: function name, 0 when there is none */
    uint32_t objfile; /* string id: file of the mapping, for frames without a name */
    int64_t start_line;
    uint32_t text; /* string id: what is printed */
    int64_t flat;
    int64_t cum;
    struct heap_error flat_error; /* when the graph has errors */
    struct heap_error cum_error;
    bool is_kept;
    bool has_inline_call; /* called by an inline edge; top_graph_mark_inline() */
    bool has_call;        /* called by an edge that is not inline */
    size_t last_sample;   /* number of the last sample it was counted in */
};

struct top_edge {
    uint32_t caller;
    uint32_t callee;
    int64_t weight;
    bool is_inline;
    size_t last_sample;
};

struct top_graph {
    const struct profile *profile; /* borrowed */
    size_t column;
    const struct heap_error *errors; /* [samples], borrowed; NULL: not known */
    struct top_node *nodes;
    size_t num_nodes, nodes_capacity;
    struct hash_index node_index;
    struct top_edge *edges;
    size_t num_edges, edges_capacity;
    struct hash_index edge_index;
    size_t *location_nodes; /* [location] first item in frame_nodes; one item more than locations */
    uint32_t *frame_nodes;  /* nodes of the location's lines, innermost first */
    size_t num_frame_nodes, frame_nodes_capacity;
    uint32_t *order; /* the nodes that are shown, sorted */
    size_t num_order;
    size_t num_samples_seen; /* stamps of nodes and edges */
};

/* Makes the nodes of all frames and sums all samples' values of one column.
 * errors: of each sample, borrowed; NULL: not known. Returns: NULL or error_no_memory. */
struct error *top_graph_init(struct top_graph *graph, const struct profile *profile, size_t column,
                             const struct heap_error *errors) MUST_CHECK;

/* Frees it. A zeroed graph is fine. */
void top_graph_deinit(struct top_graph *graph);

/* Sums again, with only those nodes that are in `order` now. Returns: NULL or error_no_memory. */
struct error *top_graph_rebuild(struct top_graph *graph) MUST_CHECK;

/* Leaves in `order` the nodes whose cumulative value is at least `cutoff`. Returns: how many went.
 */
size_t top_graph_cut(struct top_graph *graph, int64_t cutoff);

/* Sorts `order`, largest flat (or cumulative) value first. */
void top_graph_sort(struct top_graph *graph, enum top_order order);

/* Tells for each node how it is called, by edges of at least `cutoff`. */
void top_graph_mark_inline(struct top_graph *graph, int64_t cutoff);

/* |value|, saturating. */
int64_t top_abs(int64_t value);

#endif
