#include "profile/live_set.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"
#include "profile/heap.h"

/* Ids are 32 bits, and hash_index cannot hold the last of them. */
#define MAX_ROWS ((size_t)UINT32_MAX - 1)

/* At the most samples in a second that we take, a retain every 16 s. */
#define GROWTH_ROWS 16384

/* How late a sample may come behind the news that its process ended. */
#define LATE_NS (UINT64_C(10) * 1000 * 1000 * 1000)

void live_set_init(struct live_set *set)
{
    *set = (struct live_set){.random = hash_seed_draw()};
    hash_index_init(&set->row_index);
    hash_index_init(&set->end_index);
}

void live_set_deinit(struct live_set *set)
{
    hash_index_deinit(&set->row_index);
    hash_index_deinit(&set->end_index);
    free(set->rows);
    free(set->ends);
    *set = (struct live_set){0};
}

static struct live_row *find_row(const struct live_set *set, uint64_t id)
{
    struct hash_index_cursor cursor = hash_index_first(&set->row_index, hash_u64(id));
    uint32_t item;

    while (hash_index_next(&set->row_index, &cursor, &item)) {
        if (set->rows[item].id == id)
            return &set->rows[item];
    }
    return NULL;
}

static struct live_end *find_end(const struct live_set *set, uint32_t pid)
{
    struct hash_index_cursor cursor = hash_index_first(&set->end_index, hash_u64(pid));
    uint32_t item;

    while (hash_index_next(&set->end_index, &cursor, &item)) {
        if (set->ends[item].pid == pid)
            return &set->ends[item];
    }
    return NULL;
}

static bool row_has_ended(const struct live_set *set, const struct live_row *row)
{
    const struct live_end *end = set->num_ends ? find_end(set, row->pid) : NULL;

    return end && row->time_ns < end->before_ns;
}

struct error *live_set_put(struct live_set *set, const struct live_row *row)
{
    struct live_row *known;

    if (row_has_ended(set, row)) {
        set->num_ended++;
        return NULL;
    }
    known = find_row(set, row->id);
    if (known) {
        *known = *row;
        return NULL;
    }
    if (set->num_rows >= MAX_ROWS)
        return &error_no_memory;
    RETURN_IF_ERROR(
        array_reserve(&set->rows, &set->rows_capacity, set->num_rows + 1, sizeof(*set->rows)));
    RETURN_IF_ERROR(hash_index_insert(&set->row_index, hash_u64(row->id), (uint32_t)set->num_rows));
    set->rows[set->num_rows++] = *row;
    return NULL;
}

struct error *live_set_drop(struct live_set *set, uint32_t pid, uint64_t before_ns)
{
    struct live_end *known = find_end(set, pid);

    if (known) {
        if (known->before_ns < before_ns)
            known->before_ns = before_ns;
        return NULL;
    }
    if (set->num_ends >= MAX_ROWS)
        return &error_no_memory;
    RETURN_IF_ERROR(
        array_reserve(&set->ends, &set->ends_capacity, set->num_ends + 1, sizeof(*set->ends)));
    RETURN_IF_ERROR(hash_index_insert(&set->end_index, hash_u64(pid), (uint32_t)set->num_ends));
    set->ends[set->num_ends++] = (struct live_end){.before_ns = before_ns, .pid = pid};
    return NULL;
}

/* Empties an index for `num_items` items: a far too large one is given back, if a smaller one can
 * be had. What is inserted then cannot fail. */
static void index_restart(struct hash_index *index, size_t num_items)
{
    struct hash_index smaller;

    hash_index_init(&smaller);
    if (index->num_slots > 8 * (num_items + 8)) {
        struct error *err = hash_index_reserve(&smaller, num_items);
        if (!err) {
            hash_index_deinit(index);
            *index = smaller;
            return;
        }
        error_destroy(err);
    }
    hash_index_clear(index);
}

/* Makes the index anew after rows went or moved, and gives memory back when much of it is free. */
static void rows_reindex(struct live_set *set)
{
    if (set->num_rows && set->rows_capacity / 4 > set->num_rows) {
        struct live_row *rows = realloc(set->rows, set->num_rows * 2 * sizeof(*rows));

        if (rows) {
            set->rows = rows;
            set->rows_capacity = set->num_rows * 2;
        }
    }
    index_restart(&set->row_index, set->num_rows);
    for (size_t i = 0; i < set->num_rows; i++)
        error_destroy(hash_index_insert(&set->row_index, hash_u64(set->rows[i].id), (uint32_t)i));
}

/* Forgets ends that no sample can be late for any more. */
static void forget_ends(struct live_set *set, uint64_t now_ns)
{
    size_t num_kept = 0;

    for (size_t i = 0; i < set->num_ends; i++) {
        if (set->ends[i].before_ns > now_ns || now_ns - set->ends[i].before_ns < LATE_NS)
            set->ends[num_kept++] = set->ends[i];
    }
    if (num_kept == set->num_ends)
        return;
    set->num_ends = num_kept;
    index_restart(&set->end_index, num_kept);
    for (size_t i = 0; i < num_kept; i++)
        error_destroy(hash_index_insert(&set->end_index, hash_u64(set->ends[i].pid), (uint32_t)i));
}

static bool has_id(const uint64_t *ids, size_t num_ids, uint64_t id)
{
    while (num_ids > 0) {
        size_t middle = num_ids / 2;

        if (ids[middle] == id)
            return true;
        if (ids[middle] < id) {
            ids += middle + 1;
            num_ids -= middle + 1;
        } else {
            num_ids = middle;
        }
    }
    return false;
}

void live_set_retain(struct live_set *set, const uint64_t *ids, size_t num_ids, uint64_t before_ns)
{
    size_t num_kept = 0;

    for (size_t i = 0; i < set->num_rows; i++) {
        const struct live_row *row = &set->rows[i];

        if (row_has_ended(set, row)) {
            set->num_ended++;
            continue;
        }
        if (row->time_ns >= before_ns || has_id(ids, num_ids, row->id))
            set->rows[num_kept++] = *row;
    }
    set->num_rows = num_kept;
    set->num_rows_after_retain = num_kept;
    rows_reindex(set);
    if (before_ns != UINT64_MAX)
        forget_ends(set, before_ns);
}

void live_set_settle(struct live_set *set)
{
    size_t num_kept = 0;

    for (size_t i = 0; i < set->num_rows; i++) {
        if (row_has_ended(set, &set->rows[i]))
            set->num_ended++;
        else
            set->rows[num_kept++] = set->rows[i];
    }
    if (num_kept == set->num_rows)
        return;
    set->num_rows = num_kept;
    rows_reindex(set);
}

bool live_set_has_grown(const struct live_set *set)
{
    return set->num_rows / 2 > set->num_rows_after_retain + GROWTH_ROWS / 2;
}

struct error *live_set_visit(const struct live_set *set, uint64_t before_ns,
                             live_set_visit_fn *visit, void *context)
{
    for (size_t i = 0; i < set->num_rows; i++) {
        const struct live_row *row = &set->rows[i];

        if ((before_ns == UINT64_MAX || row->time_ns < before_ns) && !row_has_ended(set, row))
            RETURN_IF_ERROR(visit(context, row));
    }
    return NULL;
}

size_t live_set_bytes(const struct live_set *set)
{
    return set->num_rows * sizeof(*set->rows) + set->num_ends * sizeof(*set->ends) +
           hash_index_bytes(&set->row_index) + hash_index_bytes(&set->end_index);
}

void live_set_mark_stacks(const struct live_set *set, bool *keep)
{
    for (size_t i = 0; i < set->num_rows; i++)
        keep[set->rows[i].stack] = true;
}

void live_set_renumber(struct live_set *set, const uint32_t *stack_map,
                       const uint32_t *label_set_map)
{
    for (size_t i = 0; i < set->num_rows; i++) {
        struct live_row *row = &set->rows[i];

        if (stack_map)
            row->stack = stack_map[row->stack];
        if (label_set_map)
            row->label_set = label_set_map[row->label_set];
    }
}

/* With x = exp(-s/2R), an allocation is sampled with 1 - x*x at rate R and 1 - x at rate 2R:
 * keeping it with (1 - x)/(1 - x*x) = 1/(1 + x) turns the one into the other. */
static bool survives_doubling(struct live_set *set, const struct live_row *row)
{
    double size = row->size_bytes ? (double)row->size_bytes : 1;
    double x = row->rate_bytes ? exp(-size / (2 * (double)row->rate_bytes)) : 0;

    return heap_random(&set->random) * (1 + x) < 1;
}

void live_set_thin(struct live_set *set)
{
    size_t num_kept = 0;

    for (size_t i = 0; i < set->num_rows; i++) {
        struct live_row row = set->rows[i];

        if (!survives_doubling(set, &row)) {
            set->num_thinned++;
            continue;
        }
        if (__builtin_mul_overflow(row.rate_bytes, 2, &row.rate_bytes))
            row.rate_bytes = UINT64_MAX;
        heap_estimate(row.size_bytes, row.rate_bytes, &set->random, &row.objects, &row.bytes);
        set->rows[num_kept++] = row;
    }
    set->num_rows = num_kept;
    rows_reindex(set);
}
