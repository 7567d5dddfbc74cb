/* The dictionary that profiles of one run share: strings, mappings, locations, stacks, functions,
 * label sets. Each is interned: equal things have one id, ids are dense.
 *
 * Hot path: stack_table_intern() on every sample; it allocates nothing for a known stack.
 * Cold path: symbolize/ walks the locations and gives them lines; output/ writes what profiles use.
 * Not here: values (profile/profile.h), I/O, ELF.
 * Ownership: the table owns all rows; pointers to rows are valid until the next addition.
 * Threads: none. Source: pprof profile.proto; OTLP profiles dictionary.
 */
#ifndef PROFILE_STACK_TABLE_H
#define PROFILE_STACK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash_index.h"
#include "base/string_table.h"
#include "profile/callchain.h"
#include "profile/mapping.h"

/* A function (pprof Function). All but start_line are string ids. */
struct function {
    uint32_t name;        /* readable; never "" */
    uint32_t system_name; /* the linker's symbol; "" when unknown */
    uint32_t filename;    /* absolute; "" when unknown */
    int64_t start_line;   /* line of the declaration; 0 when unknown */
};

/* One line of a location: a function and the line in it (0 unknown). */
struct line {
    uint32_t function; /* 0-based function id */
    int64_t line;
};

/* A location: one distinct frame, and after symbolization its lines, innermost inlined first. */
struct location {
    struct frame_key key;
    uint32_t first_line; /* index into stack_table.lines */
    uint32_t num_lines;  /* 0: not symbolized (yet) */
};

/* A stack: location ids, leaf first, in stack_table.stack_locations. */
struct stack {
    uint32_t first;
    uint32_t num_locations;
};

/* One label: a string value (str != 0) or a number with a unit (unit may be 0). A label with str,
 * num and unit 0 says nothing, as in pprof, and is not written: a number that may be 0 needs a
 * unit. */
struct label {
    uint32_t key; /* string id */
    uint32_t str; /* string id, 0 for a numeric label */
    int64_t num;
    uint32_t unit; /* string id */
};

/* An interned set of labels, in the order given. */
struct label_set {
    uint32_t first;
    uint32_t num_labels;
};

struct stack_table {
    struct string_table strings;
    struct mapping *mappings; /* id - 1 */
    size_t num_mappings, mappings_capacity;
    struct hash_index mapping_index;
    struct location *locations; /* id: 0-based */
    size_t num_locations, locations_capacity;
    struct hash_index location_index;
    struct stack *stacks; /* id: 0-based */
    size_t num_stacks, stacks_capacity;
    uint32_t *stack_locations;
    size_t num_stack_locations, stack_locations_capacity;
    struct hash_index stack_index;
    struct function *functions; /* id: 0-based */
    size_t num_functions, functions_capacity;
    struct hash_index function_index;
    struct line *lines;
    size_t num_lines, lines_capacity;
    struct label *labels;
    size_t num_labels, labels_capacity;
    struct label_set *label_sets; /* id: 0-based; id 0 is the empty set */
    size_t num_label_sets, label_sets_capacity;
    struct hash_index label_set_index;
    uint32_t *scratch; /* location ids of the chain being interned */
};

/* Makes an empty table (label set 0 = no labels) in the caller's storage.
 * Returns: NULL or error_no_memory. */
struct error *stack_table_init(struct stack_table *table) MUST_CHECK;

/* Frees all rows. A zeroed table is fine. */
void stack_table_deinit(struct stack_table *table);

/* Adds a mapping unless an equal one exists: MAPPING_FILE, _VDSO and _KERNEL are equal when module,
 * file_off and limit - start are; the others when pid, start and limit are.
 * mapping: copied. mapping_ret: its id (1..). Returns: NULL or error_no_memory. */
struct error *stack_table_add_mapping(struct stack_table *table, const struct mapping *mapping,
                                      uint32_t *mapping_ret) MUST_CHECK;

/* Tells a mapping by id (1..num_mappings); NULL for 0 and ids that do not exist. Paths, build-id
 * and flags may be filled in later; what makes mappings equal must stay. */
struct mapping *stack_table_mapping(struct stack_table *table, uint32_t mapping_id);

/* Interns one location. location_ret: its id. Returns: NULL or error_no_memory. */
struct error *stack_table_add_location(struct stack_table *table, const struct frame_key *key,
                                       uint32_t *location_ret) MUST_CHECK;

/* Interns a callchain of at least one frame. stack_ret: its id. Returns: NULL or error_no_memory.
 */
struct error *stack_table_intern(struct stack_table *table, const struct callchain *chain,
                                 uint32_t *stack_ret) MUST_CHECK;

/* Interns a stack given by location ids, leaf first. stack_ret: its id. Returns: as above. */
struct error *stack_table_intern_locations(struct stack_table *table, const uint32_t *locations,
                                           size_t num_locations, uint32_t *stack_ret) MUST_CHECK;

/* Interns a function (equal: all four fields). function_ret: its id. Returns: as above. */
struct error *stack_table_add_function(struct stack_table *table, const struct function *function,
                                       uint32_t *function_ret) MUST_CHECK;

/* Gives a location its lines, innermost first; replaces those it had.
 * lines: copied. num_lines: 0 takes them away. Returns: NULL or error_no_memory. */
struct error *stack_table_set_lines(struct stack_table *table, uint32_t location,
                                    const struct line *lines, size_t num_lines) MUST_CHECK;

/* Interns a label set (order matters; none gives 0). label_set_ret: its id. Returns: as above. */
struct error *stack_table_add_label_set(struct stack_table *table, const struct label *labels,
                                        size_t num_labels, uint32_t *label_set_ret) MUST_CHECK;

/* Keeps only what is marked and renumbers it, in the old order; locations keep their lines.
 * Mappings, functions, strings and label sets stay. keep_stacks: one flag for each stack.
 * stack_map: room for num_stacks ids; new id of each stack that was kept. Locations that no kept
 * stack uses are dropped. Returns: NULL, or error_no_memory (nothing changed then). */
struct error *stack_table_compact(struct stack_table *table, const bool *keep_stacks,
                                  uint32_t *stack_map) MUST_CHECK;

/* Keeps only the label sets that are marked, and the empty one, and renumbers them, in the old
 * order. keep: one flag for each label set. map: room for num_label_sets ids; new id of each, 0 for
 * those that went. Returns: NULL, or error_no_memory (nothing changed then). */
struct error *stack_table_compact_label_sets(struct stack_table *table, const bool *keep,
                                             uint32_t *map) MUST_CHECK;

/* Rows of a profile that was read from a file have an identity of their own: a file may hold
 * several locations at address 0, or mappings without a module. These three append without looking
 * for an equal row, and what they append is not found by the interning functions above. */

/* Appends a mapping. mapping: copied. mapping_ret: its id (1..). Returns: NULL or error_no_memory.
 */
struct error *stack_table_append_mapping(struct stack_table *table, const struct mapping *mapping,
                                         uint32_t *mapping_ret) MUST_CHECK;

/* Appends a location. location_ret: its id. Returns: NULL or error_no_memory. */
struct error *stack_table_append_location(struct stack_table *table, const struct frame_key *key,
                                          uint32_t *location_ret) MUST_CHECK;

/* Appends a stack of existing locations, leaf first; it may be empty. stack_ret: its id.
 * Returns: NULL or error_no_memory. */
struct error *stack_table_append_stack(struct stack_table *table, const uint32_t *locations,
                                       size_t num_locations, uint32_t *stack_ret) MUST_CHECK;

/* Tells the memory that rows and indexes fill, in bytes. Room kept for growth is left out: large
 * arrays are fresh pages, which cost nothing until they are written. */
size_t stack_table_bytes(const struct stack_table *table);

#endif
