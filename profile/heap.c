#include "profile/heap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"

/* JavaScript readers hold values in doubles; profile_check() wants them below. */
#define MAX_VALUE (((int64_t)1 << 53) - 1)

/* Labels of one sample: those of its thread, and two of ours. */
#define MAX_LABELS 16

double heap_weight(uint64_t size_bytes, uint64_t rate_bytes)
{
    double size = size_bytes ? (double)size_bytes : 1;

    /* expm1: for a size far below the rate, 1 - exp() would leave but a few digits, or none. */
    return rate_bytes ? -1 / expm1(-size / (double)rate_bytes) : 1;
}

/* Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (SplitMix64). */
double heap_random(uint64_t *random)
{
    uint64_t value = *random += 0x9e3779b97f4a7c15ULL;

    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    value ^= value >> 31;
    return (double)(value >> 11) / (double)(UINT64_C(1) << 53);
}

static int64_t round_at_random(double value, uint64_t *random)
{
    double rounded = floor(value + heap_random(random));

    return rounded < (double)MAX_VALUE ? (int64_t)rounded : MAX_VALUE;
}

void heap_estimate(uint64_t size_bytes, uint64_t rate_bytes, uint64_t *random, int64_t *objects_ret,
                   int64_t *bytes_ret)
{
    double weight = heap_weight(size_bytes, rate_bytes);

    *objects_ret = round_at_random(weight, random);
    *bytes_ret = round_at_random(weight * (double)size_bytes, random);
}

static int64_t clamp_value(uint64_t value)
{
    return value < (uint64_t)MAX_VALUE ? (int64_t)value : MAX_VALUE;
}

/* Makes a profile with these columns; default: the last. */
static struct error *init_columns(struct profile *profile, struct stack_table *table,
                                  const char *const (*columns)[2], size_t num_columns,
                                  const char *const period_type[2], uint64_t period)
{
    struct profile made;

    RETURN_IF_ERROR(profile_init(&made, table));
    for (size_t i = 0; i < num_columns; i++)
        RETURN_IF_ERROR(profile_add_value_type(&made, columns[i][0], columns[i][1]));
    RETURN_IF_ERROR(string_table_add(&table->strings, period_type[0], &made.period_type.type));
    RETURN_IF_ERROR(string_table_add(&table->strings, period_type[1], &made.period_type.unit));
    made.default_type = made.value_types[num_columns - 1].type;
    made.period = clamp_value(period);
    *profile = made;
    return NULL;
}

struct error *profile_init_heap(struct profile *profile, struct stack_table *table,
                                uint64_t rate_bytes)
{
    static const char *const columns[HEAP_NUM_COLUMNS][2] = {
        [HEAP_ALLOC_OBJECTS] = {"alloc_objects", "count"},
        [HEAP_ALLOC_SPACE] = {"alloc_space", "bytes"},
        [HEAP_INUSE_OBJECTS] = {"inuse_objects", "count"},
        [HEAP_INUSE_SPACE] = {"inuse_space", "bytes"},
    };
    static const char *const period_type[2] = {"space", "bytes"};

    return init_columns(profile, table, columns, ARRAY_LENGTH(columns), period_type, rate_bytes);
}

struct error *profile_init_heap_by_count(struct profile *profile, struct stack_table *table,
                                         uint64_t interval)
{
    static const char *const columns[][2] = {
        {"alloc_objects", "count"},
        {"alloc_space", "bytes"},
    };

    return init_columns(profile, table, columns, ARRAY_LENGTH(columns), columns[0], interval);
}

struct error *profile_init_growth(struct profile *profile, struct stack_table *table,
                                  uint64_t interval)
{
    static const char *const columns[][2] = {
        {"faults", "count"},
        {"growth_space", "bytes"},
    };

    return init_columns(profile, table, columns, ARRAY_LENGTH(columns), columns[0], interval);
}

struct error *heap_label_set(const struct profile *profile, uint32_t label_set, uint64_t size_bytes,
                             uint64_t rate_bytes, uint32_t *label_set_ret)
{
    struct stack_table *table = profile->table;
    struct label_set set = table->label_sets[label_set];
    struct label labels[MAX_LABELS + 2];
    uint32_t size_key, rate_key, bytes_unit;
    size_t num_labels = 0;

    RETURN_IF_ERROR(string_table_add(&table->strings, HEAP_LABEL_SIZE, &size_key));
    RETURN_IF_ERROR(string_table_add(&table->strings, HEAP_LABEL_RATE, &rate_key));
    RETURN_IF_ERROR(string_table_add(&table->strings, "bytes", &bytes_unit));
    for (uint32_t i = 0; i < set.num_labels && num_labels < MAX_LABELS; i++) {
        const struct label *label = &table->labels[set.first + i];

        if (label->key != size_key && label->key != rate_key)
            labels[num_labels++] = *label;
    }
    labels[num_labels++] =
        (struct label){.key = size_key, .num = clamp_value(size_bytes), .unit = bytes_unit};
    if (clamp_value(rate_bytes) != profile->period)
        labels[num_labels++] =
            (struct label){.key = rate_key, .num = clamp_value(rate_bytes), .unit = bytes_unit};
    return stack_table_add_label_set(table, labels, num_labels, label_set_ret);
}

struct error *heap_add(struct profile *profile, struct live_set *live,
                       const struct live_row *allocation)
{
    struct live_row row = *allocation;
    int64_t values[HEAP_NUM_COLUMNS] = {0};

    heap_estimate(row.size_bytes, row.rate_bytes, &live->random, &row.objects, &row.bytes);
    RETURN_IF_ERROR(heap_label_set(profile, allocation->label_set, row.size_bytes, row.rate_bytes,
                                   &row.label_set));
    values[HEAP_ALLOC_OBJECTS] = row.objects;
    values[HEAP_ALLOC_SPACE] = row.bytes;
    RETURN_IF_ERROR(profile_add(profile, row.stack, row.label_set, values));
    return live_set_put(live, &row);
}

struct error *heap_add_counted(struct profile *profile, uint32_t stack, uint32_t label_set,
                               uint64_t size_bytes, uint64_t count)
{
    uint64_t bytes;
    int64_t values[2];
    uint32_t labels;

    if (__builtin_mul_overflow(size_bytes, count, &bytes))
        bytes = UINT64_MAX;
    RETURN_IF_ERROR(
        heap_label_set(profile, label_set, size_bytes, (uint64_t)profile->period, &labels));
    values[0] = clamp_value(count);
    values[1] = clamp_value(bytes);
    return profile_add(profile, stack, labels, values);
}

static bool sample_is_zero(const struct profile_sample *sample, size_t num_values)
{
    for (size_t i = 0; i < num_values; i++) {
        if (sample->values[i])
            return false;
    }
    return true;
}

/* Rows that held nothing but what was in use last time must go: a row of zeros says nothing. */
static void drop_zero_samples(struct profile *profile)
{
    size_t num_kept = 0;

    for (size_t i = 0; i < profile->num_samples; i++) {
        if (!sample_is_zero(&profile->samples[i], profile->num_value_types))
            profile->samples[num_kept++] = profile->samples[i];
    }
    if (num_kept == profile->num_samples)
        return;
    profile->num_samples = num_kept;
    hash_index_clear(&profile->sample_index);
    for (size_t i = 0; i < num_kept; i++) {
        const struct profile_sample *sample = &profile->samples[i];

        /* The index held more before: nothing can fail. */
        error_destroy(hash_index_insert(&profile->sample_index,
                                        profile_sample_hash(sample->stack, sample->label_set),
                                        (uint32_t)i));
    }
}

static struct error *add_in_use(void *context, const struct live_row *row)
{
    struct profile *profile = context;
    int64_t values[HEAP_NUM_COLUMNS] = {
        [HEAP_INUSE_OBJECTS] = row->objects,
        [HEAP_INUSE_SPACE] = row->bytes,
    };

    return profile_add(profile, row->stack, row->label_set, values);
}

/* A long recording of a busy program may allocate more than a profile can say. */
static void clamp_samples(struct profile *profile)
{
    for (size_t i = 0; i < profile->num_samples; i++) {
        for (size_t j = 0; j < profile->num_value_types; j++) {
            if (profile->samples[i].values[j] > MAX_VALUE)
                profile->samples[i].values[j] = MAX_VALUE;
        }
    }
}

struct error *heap_set_in_use(struct profile *profile, const struct live_set *live,
                              uint64_t before_ns)
{
    for (size_t i = 0; i < profile->num_samples; i++) {
        profile->samples[i].values[HEAP_INUSE_OBJECTS] = 0;
        profile->samples[i].values[HEAP_INUSE_SPACE] = 0;
    }
    RETURN_IF_ERROR(live_set_visit(live, before_ns, add_in_use, profile));
    drop_zero_samples(profile);
    clamp_samples(profile);
    return NULL;
}

static uint64_t subtract_to_zero(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void heap_rest_compute(struct heap_rest *rest)
{
    uint64_t unexplained = subtract_to_zero(subtract_to_zero(rest->now_bytes, rest->in_use_bytes),
                                            rest->inherited_bytes);

    rest->before_bytes = rest->attach_bytes < unexplained ? rest->attach_bytes : unexplained;
    rest->untracked_bytes = unexplained - rest->before_bytes;
}

static int compare_pids(const void *a, const void *b)
{
    uint32_t a_pid = ((const struct heap_rest *)a)->pid;
    uint32_t b_pid = ((const struct heap_rest *)b)->pid;

    return (a_pid > b_pid) - (a_pid < b_pid);
}

struct rest_search {
    struct heap_rest *rests;
    size_t num_rests;
};

static struct error *add_to_rest(void *context, const struct live_row *row)
{
    const struct rest_search *search = context;
    struct heap_rest key = {.pid = row->pid};
    struct heap_rest *rest =
        bsearch(&key, search->rests, search->num_rests, sizeof(key), compare_pids);

    if (rest && row->bytes > 0 &&
        __builtin_add_overflow(rest->in_use_bytes, (uint64_t)row->bytes, &rest->in_use_bytes))
        rest->in_use_bytes = UINT64_MAX;
    return NULL;
}

static struct error *add_reason(struct profile *profile, enum frame_reason reason,
                                uint32_t label_set, uint64_t bytes)
{
    struct frame_key key = {.reason = reason};
    int64_t values[HEAP_NUM_COLUMNS] = {[HEAP_INUSE_SPACE] = clamp_value(bytes)};
    uint32_t location, stack;

    if (bytes == 0)
        return NULL;
    RETURN_IF_ERROR(stack_table_add_location(profile->table, &key, &location));
    RETURN_IF_ERROR(stack_table_intern_locations(profile->table, &location, 1, &stack));
    return profile_add(profile, stack, label_set, values);
}

struct error *heap_add_rest(struct profile *profile, const struct live_set *live,
                            uint64_t before_ns, struct heap_rest *rests, size_t num_rests)
{
    struct rest_search search = {.rests = rests, .num_rests = num_rests};

    if (num_rests == 0)
        return NULL;
    qsort(rests, num_rests, sizeof(*rests), compare_pids);
    for (size_t i = 0; i < num_rests; i++)
        rests[i].in_use_bytes = 0;
    RETURN_IF_ERROR(live_set_visit(live, before_ns, add_to_rest, &search));
    for (size_t i = 0; i < num_rests; i++) {
        heap_rest_compute(&rests[i]);
        RETURN_IF_ERROR(
            add_reason(profile, REASON_BEFORE_ATTACH, rests[i].label_set, rests[i].before_bytes));
        RETURN_IF_ERROR(
            add_reason(profile, REASON_UNTRACKED, rests[i].label_set, rests[i].untracked_bytes));
    }
    clamp_samples(profile);
    return NULL;
}
