/* Heap profiles: what a sample stands for, the columns, snapshots, and the rest of the memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "profile/heap.h"

#define KB UINT64_C(1024)
#define RATE (512 * KB)
#define MAX_VALUE (((int64_t)1 << 53) - 1)

static struct stack_table table;
static struct profile profile;
static struct live_set live;
static struct callchain chain;

static int heap_setup(void **state)
{
    (void)state;
    assert_null(stack_table_init(&table));
    assert_null(profile_init_heap(&profile, &table, RATE));
    live_set_init(&live);
    live.random = 42;
    return 0;
}

static int heap_teardown(void **state)
{
    (void)state;
    live_set_deinit(&live);
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return 0;
}

static uint32_t stack_of(uint64_t pc)
{
    uint32_t stack;

    chain.num_frames = 0;
    callchain_push(&chain, pc, 0, REASON_NONE);
    assert_null(stack_table_intern(&table, &chain, &stack));
    return stack;
}

static void add(uint64_t id, uint64_t pc, uint64_t size, uint64_t rate, uint64_t time_ns)
{
    struct live_row row = {.id = id,
                           .time_ns = time_ns,
                           .size_bytes = size,
                           .rate_bytes = rate,
                           .stack = stack_of(pc),
                           .pid = 7};

    assert_null(heap_add(&profile, &live, &row));
}

static const char *text(uint32_t id)
{
    return string_table_get(&table.strings, id);
}

/* Sums a column over the samples with this leaf: a pc, or a reason. */
static int64_t value_at(uint64_t pc, enum frame_reason reason, size_t column)
{
    int64_t sum = 0;

    for (size_t i = 0; i < profile.num_samples; i++) {
        uint32_t leaf = table.stack_locations[table.stacks[profile.samples[i].stack].first];

        if (table.locations[leaf].key.pc == pc && table.locations[leaf].key.reason == reason)
            sum += profile.samples[i].values[column];
    }
    return sum;
}

static void assert_near(double value, double wanted)
{
    assert_true(fabs(value - wanted) <= 1e-9 * fabs(wanted));
}

static void weights_are_right_to_the_last_digit(void **state)
{
    (void)state;
    assert_near(heap_weight(RATE, RATE), 1 / (1 - exp(-1)));
    assert_near(heap_weight(10 * RATE, RATE), 1 / (1 - exp(-10)));
    assert_near(heap_weight(16, RATE), 32768.5); /* 1/x + 1/2 + x/12 */
    assert_near(heap_weight(1, UINT64_C(1) << 60), 0x1p60);
    assert_near(heap_weight(UINT64_MAX, 1), 1);
    assert_near(heap_weight(0, RATE), heap_weight(1, RATE));
    assert_near(heap_weight(100, 0), 1);
}

static void rounding_is_unbiased_and_bounded(void **state)
{
    enum { NUM = 100000 };
    uint64_t random = 5;
    int64_t objects, bytes;
    double sum = 0;

    (void)state;
    for (int i = 0; i < NUM; i++) {
        heap_estimate(RATE, RATE, &random, &objects, &bytes);
        assert_in_range(objects, 1, 2);
        sum += (double)objects;
    }
    /* 5 sigma: 5 * 0.5 / sqrt(100000) = 0.008 */
    assert_true(fabs(sum / NUM - heap_weight(RATE, RATE)) < 0.008);
    heap_estimate(UINT64_MAX, 1, &random, &objects, &bytes);
    assert_int_equal(objects, 1);
    assert_int_equal(bytes, MAX_VALUE);
    heap_estimate(1, UINT64_MAX, &random, &objects, &bytes);
    assert_int_equal(objects, MAX_VALUE);
}

static void columns_are_those_of_go(void **state)
{
    static const char *const types[][2] = {{"alloc_objects", "count"},
                                           {"alloc_space", "bytes"},
                                           {"inuse_objects", "count"},
                                           {"inuse_space", "bytes"}};

    (void)state;
    assert_int_equal(profile.num_value_types, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(text(profile.value_types[i].type), types[i][0]);
        assert_string_equal(text(profile.value_types[i].unit), types[i][1]);
    }
    assert_string_equal(text(profile.default_type), "inuse_space");
    assert_string_equal(text(profile.period_type.type), "space");
    assert_string_equal(text(profile.period_type.unit), "bytes");
    assert_int_equal(profile.period, RATE);
}

static void labels_are_size_and_a_rate_that_is_not_the_period(void **state)
{
    const struct label *labels;
    uint32_t thread_set, set, again;
    struct label thread = {.num = 12};

    (void)state;
    assert_null(string_table_add(&table.strings, "thread_id", &thread.key));
    assert_null(stack_table_add_label_set(&table, &thread, 1, &thread_set));
    assert_null(heap_label_set(&profile, thread_set, 48, RATE, &set));
    assert_int_equal(table.label_sets[set].num_labels, 2);
    labels = table.labels + table.label_sets[set].first;
    assert_int_equal(labels[0].num, 12);
    assert_string_equal(text(labels[1].key), "bytes");
    assert_string_equal(text(labels[1].unit), "bytes");
    assert_int_equal(labels[1].num, 48);

    assert_null(heap_label_set(&profile, set, 48, 2 * RATE, &again)); /* replaces, adds the rate */
    assert_int_equal(table.label_sets[again].num_labels, 3);
    labels = table.labels + table.label_sets[again].first;
    assert_string_equal(text(labels[2].key), "rate");
    assert_int_equal(labels[2].num, 2 * RATE);
    assert_null(heap_label_set(&profile, again, 48, RATE, &again));
    assert_int_equal(again, set);
}

static void a_snapshot_is_what_was_allocated_and_what_is_in_use_now(void **state)
{
    static const uint64_t ids[] = {2};

    (void)state;
    for (uint64_t id = 1; id <= 3; id++)
        add(id, 0x100 * id, 64 * KB, RATE, id);
    int64_t allocated = profile_total(&profile, HEAP_ALLOC_SPACE);
    assert_int_equal(profile_total(&profile, HEAP_INUSE_SPACE), 0);
    assert_null(heap_set_in_use(&profile, &live, UINT64_MAX));
    assert_int_equal(profile_total(&profile, HEAP_INUSE_SPACE), allocated);
    assert_int_equal(profile_total(&profile, HEAP_INUSE_OBJECTS),
                     profile_total(&profile, HEAP_ALLOC_OBJECTS));
    assert_null(heap_set_in_use(&profile, &live, 3)); /* as of 3: the third was not there yet */
    assert_int_equal(value_at(0x300, REASON_NONE, HEAP_INUSE_SPACE), 0);

    live_set_retain(&live, ids, 1, 10);
    assert_null(heap_set_in_use(&profile, &live, 10));
    assert_int_equal(profile_total(&profile, HEAP_ALLOC_SPACE), allocated);
    assert_int_equal(profile_total(&profile, HEAP_INUSE_SPACE),
                     value_at(0x200, REASON_NONE, HEAP_ALLOC_SPACE));
    assert_null(profile_check(&profile, false));
    live_set_retain(&live, NULL, 0, 10);
    assert_null(heap_set_in_use(&profile, &live, 10));
    assert_int_equal(profile_total(&profile, HEAP_INUSE_SPACE), 0); /* all freed leaves nothing */
    assert_null(profile_check(&profile, false));
}

static void huge_sums_stay_within_what_a_profile_can_say(void **state)
{
    (void)state;
    add(1, 0x100, (uint64_t)MAX_VALUE - 1, RATE, 1);
    add(2, 0x100, (uint64_t)MAX_VALUE - 1, RATE, 1);
    assert_null(heap_set_in_use(&profile, &live, UINT64_MAX));
    assert_null(profile_check(&profile, false));
}

static void the_rest_is_older_than_the_recording_or_untracked(void **state)
{
    static const struct {
        uint64_t attach, now, in_use, before, untracked, inherited;
    } rows[] = {
        {0, 0, 0, 0, 0, 0},
        {0, 100, 0, 0, 100, 0},      /* launched: nothing was there before */
        {0, 100, 70, 0, 30, 0},      /* fragments and the like */
        {0, 100, 170, 0, 0, 0},      /* allocated, but never written: no memory yet */
        {100, 100, 0, 100, 0, 0},    /* nothing happened since */
        {100, 150, 40, 100, 10, 0},  /* it grew, by what we saw and something else */
        {100, 60, 20, 40, 0, 0},     /* at least 60 of what was there before are gone */
        {100, 60, 90, 0, 0, 0},      /* all of it is */
        {UINT64_MAX, 5, 1, 4, 0, 0}, /* nonsense does no harm */
        {0, 100, 5, 0, 5, 90},       /* forked: most of it is its parent's */
        {0, 100, 5, 0, 0, 110},      /* and given back since */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct heap_rest rest = {.attach_bytes = rows[i].attach,
                                 .now_bytes = rows[i].now,
                                 .inherited_bytes = rows[i].inherited,
                                 .in_use_bytes = rows[i].in_use};

        heap_rest_compute(&rest);
        assert_int_equal(rest.before_bytes, rows[i].before);
        assert_int_equal(rest.untracked_bytes, rows[i].untracked);
    }
}

static void the_rest_has_rows_of_its_own_in_one_column(void **state)
{
    struct heap_rest rests[] = {
        {.pid = 9, .attach_bytes = 50, .now_bytes = 60},
        {.pid = 7, .attach_bytes = 1000 * KB, .now_bytes = 10000 * KB},
    };

    (void)state;
    add(1, 0x100, 1000 * KB, RATE, 1);
    for (int i = 0; i < 2; i++) { /* the second snapshot starts anew */
        assert_null(heap_set_in_use(&profile, &live, UINT64_MAX));
        assert_null(heap_add_rest(&profile, &live, UINT64_MAX, rests, ARRAY_LENGTH(rests)));
        assert_int_equal(rests[0].pid, 7);
        assert_int_equal(rests[0].in_use_bytes, value_at(0x100, REASON_NONE, HEAP_INUSE_SPACE));
        assert_int_equal(value_at(0, REASON_BEFORE_ATTACH, HEAP_INUSE_SPACE), 1000 * KB + 50);
        assert_int_equal(value_at(0, REASON_UNTRACKED, HEAP_INUSE_SPACE),
                         9000 * KB - rests[0].in_use_bytes + 10);
        assert_int_equal(value_at(0, REASON_UNTRACKED, HEAP_ALLOC_SPACE), 0);
        assert_int_equal(profile_total(&profile, HEAP_INUSE_SPACE), 10000 * KB + 60);
        assert_null(profile_check(&profile, false));
    }
    assert_null(heap_set_in_use(&profile, &live, UINT64_MAX));
    assert_int_equal(profile.num_samples, 1); /* rows of zeros are gone */
    assert_null(profile_check(&profile, false));
}

static void samples_by_count_have_two_columns(void **state)
{
    struct profile counted;
    struct profile growth;

    (void)state;
    assert_null(profile_init_heap_by_count(&counted, &table, 1000));
    assert_null(heap_add_counted(&counted, stack_of(1), 0, 100, 1000));
    assert_null(heap_add_counted(&counted, stack_of(1), 0, UINT64_MAX, UINT64_MAX));
    assert_int_equal(counted.samples[0].values[0], 1000);
    assert_int_equal(counted.samples[0].values[1], 100000);
    assert_int_equal(counted.samples[1].values[1], MAX_VALUE);
    assert_null(profile_check(&counted, false));
    assert_string_equal(text(counted.default_type), "alloc_space");
    assert_string_equal(text(counted.period_type.type), "alloc_objects");
    profile_deinit(&counted);
    assert_null(profile_init_growth(&growth, &table, 8));
    assert_string_equal(text(growth.value_types[1].type), "growth_space");
    assert_string_equal(text(growth.default_type), "growth_space");
    assert_int_equal(growth.period, 8);
    profile_deinit(&growth);
}

/* The whole estimator: a known allocation history, sampled as the kernel does it, twenty times. */
static void what_is_in_use_is_estimated_without_bias(void **state)
{
    enum { NUM_RUNS = 20, NUM_OBJECTS = 40000 };
    static const uint64_t sizes[] = {24, 200, 3000, 70000, 900000};
    uint64_t random = 3;
    double sum = 0, truth = 0;

    (void)state;
    for (int run = 0; run < NUM_RUNS; run++) {
        double left = -log(1 - heap_random(&random)) * (double)RATE;

        live_set_retain(&live, NULL, 0, UINT64_MAX);
        truth = 0;
        for (uint64_t i = 0; i < NUM_OBJECTS; i++) {
            uint64_t size = sizes[i % 50 == 0 ? 4 : i % 4];

            truth += (double)size;
            left -= (double)size;
            if (left > 0)
                continue;
            left = -log(1 - heap_random(&random)) * (double)RATE;
            add(i, 0x100 + size, size, RATE, 1);
        }
        assert_null(heap_set_in_use(&profile, &live, UINT64_MAX));
        sum += (double)profile_total(&profile, HEAP_INUSE_SPACE);
    }
    /* About 2400 samples a run: 2 % each, 0.5 % for the mean of 20; 5 sigma. */
    assert_true(fabs(sum / NUM_RUNS / truth - 1) < 0.025);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(weights_are_right_to_the_last_digit, heap_setup,
                                        heap_teardown),
        cmocka_unit_test_setup_teardown(rounding_is_unbiased_and_bounded, heap_setup,
                                        heap_teardown),
        cmocka_unit_test_setup_teardown(columns_are_those_of_go, heap_setup, heap_teardown),
        cmocka_unit_test_setup_teardown(labels_are_size_and_a_rate_that_is_not_the_period,
                                        heap_setup, heap_teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_is_what_was_allocated_and_what_is_in_use_now,
                                        heap_setup, heap_teardown),
        cmocka_unit_test_setup_teardown(huge_sums_stay_within_what_a_profile_can_say, heap_setup,
                                        heap_teardown),
        cmocka_unit_test_setup_teardown(the_rest_is_older_than_the_recording_or_untracked,
                                        heap_setup, heap_teardown),
        cmocka_unit_test_setup_teardown(the_rest_has_rows_of_its_own_in_one_column, heap_setup,
                                        heap_teardown),
        cmocka_unit_test_setup_teardown(samples_by_count_have_two_columns, heap_setup,
                                        heap_teardown),
        cmocka_unit_test_setup_teardown(what_is_in_use_is_estimated_without_bias, heap_setup,
                                        heap_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
