/* A profile: value types, and for each (stack, label set) the sum of the values, plus what was
 * lost.
 *
 * Not symbols and not stacks (both in the shared struct stack_table). No I/O.
 * Ownership: the profile owns its samples; it borrows the stack table, which must outlive it.
 * Threads: none. Source: pprof profile.proto.
 */
#ifndef PROFILE_PROFILE_H
#define PROFILE_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "profile/loss.h"
#include "profile/stack_table.h"

#define PROFILE_MAX_VALUES 8

/* A value column or period: name and unit, string ids of the stack table. */
struct value_type {
    uint32_t type;
    uint32_t unit;
};

struct profile_sample {
    uint32_t stack;
    uint32_t label_set;
    int64_t values[PROFILE_MAX_VALUES]; /* [0, num_value_types) */
};

struct profile {
    struct stack_table *table; /* borrowed */
    struct value_type value_types[PROFILE_MAX_VALUES];
    size_t num_value_types;
    uint32_t default_type; /* string id, 0 = the last type */
    struct value_type period_type;
    int64_t period;
    int64_t time_ns; /* start, since 1970 */
    int64_t duration_ns;
    uint32_t *comments; /* string ids */
    size_t num_comments, comments_capacity;
    struct profile_sample *samples;
    size_t num_samples, samples_capacity;
    struct hash_index sample_index;
    struct loss loss;
};

/* Makes an empty profile over `table` in the caller's storage.
 * Returns: NULL or error_no_memory. */
struct error *profile_init(struct profile *profile, struct stack_table *table) MUST_CHECK;

/* Makes an empty CPU profile: samples/count, cpu/nanoseconds, period cpu/nanoseconds `period_ns`.
 * Returns: NULL or error_no_memory. */
struct error *profile_init_cpu(struct profile *profile, struct stack_table *table,
                               uint64_t period_ns) MUST_CHECK;

/* Frees the samples; the table stays. A zeroed profile is fine. */
void profile_deinit(struct profile *profile);

/* Appends a value column. Returns: NULL, error_no_memory, or ERROR_FAILED beyond
 * PROFILE_MAX_VALUES. */
struct error *profile_add_value_type(struct profile *profile, const char *type,
                                     const char *unit) MUST_CHECK;

/* Adds `values` (num_value_types of them, each >= 0 while recording) to (stack, label set).
 * Sums saturate at INT64_MAX. Allocates nothing for a known pair. Returns: NULL or error_no_memory.
 */
struct error *profile_add(struct profile *profile, uint32_t stack, uint32_t label_set,
                          const int64_t *values) MUST_CHECK;

/* Adds `values` to a sample; sums saturate. num_values: the profile's num_value_types. */
void profile_sample_add(struct profile_sample *sample, const int64_t *values, size_t num_values);

/* Gives all samples other stacks and adds up those that are alike then.
 * stack_map: new stack of each stack that a sample has. Returns: NULL, or error_no_memory (nothing
 * changed then). */
struct error *profile_replace_stacks(struct profile *profile, const uint32_t *stack_map) MUST_CHECK;

/* Tells under which hash a sample is found in sample_index. */
uint64_t profile_sample_hash(uint32_t stack, uint32_t label_set);

/* Appends a comment line (tool version, command, losses). Returns: NULL or error_no_memory. */
struct error *profile_add_comment(struct profile *profile, const char *format, ...)
    PRINTF_LIKE(2, 3) MUST_CHECK;

/* Sums one value column. column: [0, num_value_types). Returns: the total. */
int64_t profile_total(const struct profile *profile, size_t column);

/* Keeps label sets within `max_bytes`, each with the sample that it takes at least: when they need
 * more, the samples of those that stand for least lose their labels, keep their stacks, and count
 * as LOSS_UNLABELED by their first column. Label set ids change. Only for a table used by this
 * profile alone; for several: profile/profile_group.h. Returns: NULL or error_no_memory. */
struct error *profile_limit_labels(struct profile *profile, size_t max_bytes) MUST_CHECK;

/* Keeps stack table + samples within `max_bytes`: when they hold more, first labels go, as above,
 * that need more than an eighth of it; then the samples with the smallest values are merged into
 * the stack `[other]` (one for each label set), the table is rebuilt without their stacks and
 * LOSS_MERGED grows by their first column. Ids of stacks and label sets change. Only for a table
 * used by this profile alone; for several: profile/profile_group.h. Returns: NULL or
 * error_no_memory. */
struct error *profile_limit_memory(struct profile *profile, size_t max_bytes) MUST_CHECK;

/* Checks all invariants a writer relies on: ids in range, >= 1 location per sample, values not
 * negative, below 2^53 and not all zero, every location with a line when require_lines.
 * Returns: NULL, or ERROR_FAILED naming the first broken rule (our own bug). */
struct error *profile_check(const struct profile *profile, bool require_lines) MUST_CHECK;

#endif
