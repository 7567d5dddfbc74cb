/* Several profiles and a live set over one table, within one limit: sums stay, the heavy of each
 * survive, rows in use keep stacks and labels that exist. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "profile/heap.h"
#include "profile/profile_group.h"

#define MB ((size_t)1 << 20)
#define RATE (512 << 10)

static struct stack_table table;
static struct profile cpu, heap;
static struct live_set live;
static struct callchain chain;
static struct profile_group group;

static int group_setup(void **state)
{
    (void)state;
    assert_null(stack_table_init(&table));
    assert_null(profile_init_cpu(&cpu, &table, 10));
    assert_null(profile_init_heap(&heap, &table, RATE));
    live_set_init(&live);
    live.random = 7;
    group = (struct profile_group){
        .profiles = {&cpu, &heap}, .num_profiles = 2, .heap = &heap, .live = &live};
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    live_set_deinit(&live);
    profile_deinit(&heap);
    profile_deinit(&cpu);
    stack_table_deinit(&table);
    return 0;
}

/* Stack number `number`: 20 frames, half of them its own; its number is the root. */
static uint32_t stack_of(uint64_t number)
{
    uint32_t stack;

    chain.num_frames = 0;
    for (uint64_t i = 0; i < 20; i++)
        callchain_push(&chain, i < 10 ? hash_u64(number * 64 + i) % 50000 : i, 0, REASON_NONE);
    callchain_push(&chain, 1000000 + number, 0, REASON_NONE);
    assert_null(stack_table_intern(&table, &chain, &stack));
    return stack;
}

static uint32_t thread_of(int64_t tid)
{
    struct label label = {.key = 1, .num = tid};
    uint32_t set;

    assert_null(stack_table_add_label_set(&table, &label, 1, &set));
    return set;
}

static void add_cpu(uint64_t number, int64_t count, int64_t tid)
{
    int64_t values[] = {count, count * 10};

    assert_null(profile_add(&cpu, stack_of(number), thread_of(tid), values));
}

static void add_heap(uint64_t id, uint64_t number, uint64_t size, int64_t tid)
{
    struct live_row row = {.id = id,
                           .size_bytes = size,
                           .rate_bytes = RATE,
                           .stack = stack_of(number),
                           .label_set = thread_of(tid),
                           .pid = 1};

    assert_null(heap_add(&heap, &live, &row));
}

static int64_t value_of(const struct profile *profile, uint64_t number, size_t column)
{
    int64_t sum = 0;

    for (size_t i = 0; i < profile->num_samples; i++) {
        const struct stack *stack = &table.stacks[profile->samples[i].stack];
        uint32_t root = table.stack_locations[stack->first + stack->num_locations - 1];

        if (table.locations[root].key.pc == 1000000 + number)
            sum += profile->samples[i].values[column];
    }
    return sum;
}

static void assert_right(void)
{
    for (size_t i = 0; i < live.num_rows; i++) {
        assert_true(live.rows[i].stack < table.num_stacks);
        assert_true(live.rows[i].label_set < table.num_label_sets);
    }
    assert_null(profile_check(&cpu, false));
    assert_null(heap_set_in_use(&heap, &live, UINT64_MAX));
    assert_null(profile_check(&heap, false));
}

static void the_heavy_of_each_profile_survive(void **state)
{
    enum { NUM = 20000, HEAVY = 1000 };
    CLEANUP(free) uint64_t *ids = calloc(NUM, sizeof(*ids));
    size_t num_ids = 0;

    (void)state;
    assert_non_null(ids);
    for (uint64_t i = 0; i < NUM; i++) {
        add_cpu(i, i % HEAVY == 7 ? 1000 : 1, 1);
        add_heap(i, NUM + i, i % HEAVY == 8 ? 64 * MB : 1000, 1);
        if (i % 100 == 9) /* few are in use: of those the samples are worth keeping */
            ids[num_ids++] = i;
    }
    live_set_retain(&live, ids, num_ids, UINT64_MAX);
    int64_t cpu_total = profile_total(&cpu, 1);
    int64_t alloc_total = profile_total(&heap, HEAP_ALLOC_SPACE);
    assert_null(heap_set_in_use(&heap, &live, UINT64_MAX));
    int64_t in_use_total = profile_total(&heap, HEAP_INUSE_SPACE);
    assert_true(profile_group_bytes(&group) > 4 * MB);

    assert_null(profile_group_limit_memory(&group, 4 * MB));
    assert_true(profile_group_bytes(&group) <= 2 * MB);
    assert_true(profile_group_bytes(&group) > MB);
    assert_int_equal(profile_total(&cpu, 1), cpu_total);
    assert_int_equal(profile_total(&heap, HEAP_ALLOC_SPACE), alloc_total);
    assert_true(cpu.loss.counts[LOSS_MERGED] > 0 && heap.loss.counts[LOSS_MERGED] > 0);
    assert_right();
    assert_int_equal(profile_total(&heap, HEAP_INUSE_SPACE), in_use_total);
    for (uint64_t i = 0; i < NUM; i += HEAVY) {
        assert_int_equal(value_of(&cpu, i + 7, 0), 1000);
        assert_true(value_of(&heap, NUM + i + 8, HEAP_ALLOC_SPACE) >= (int64_t)(64 * MB));
        assert_true(value_of(&heap, NUM + i + 9, HEAP_INUSE_SPACE) > 0);
    }
    add_cpu(3, 1, 1); /* it goes on */
    add_heap(NUM, 3, 1000, 1);
    assert_right();
}

static void labels_that_go_go_from_the_live_set_as_well(void **state)
{
    enum { NUM = 5000 };

    (void)state;
    for (int64_t i = 0; i < NUM; i++) {
        add_cpu(1, 1, i);
        add_heap((uint64_t)i, 2, 1000 + (uint64_t)i % 10, i);
    }
    int64_t alloc_total = profile_total(&heap, HEAP_ALLOC_SPACE);
    assert_null(profile_group_limit_labels(&group, (size_t)128 << 10));
    assert_true(table.num_label_sets < NUM / 2);
    assert_true(cpu.loss.counts[LOSS_UNLABELED] > 0 && heap.loss.counts[LOSS_UNLABELED] > 0);
    assert_int_equal(profile_total(&cpu, 0), NUM);
    assert_int_equal(profile_total(&heap, HEAP_ALLOC_SPACE), alloc_total);
    assert_right();
    assert_int_equal(profile_total(&heap, HEAP_INUSE_SPACE), alloc_total);
}

/* So many in use that they do not fit: fewer of them stand for as much. */
static void a_live_set_that_is_too_large_is_thinned(void **state)
{
    enum { NUM = 60000 };

    (void)state;
    for (uint64_t i = 0; i < NUM; i++)
        add_heap(i, i % 50, 1000, 1);
    double total = (double)profile_total(&heap, HEAP_ALLOC_SPACE);
    assert_true(live_set_bytes(&live) > 4 * MB);
    assert_null(profile_group_limit_memory(&group, 4 * MB));
    assert_true(live_set_bytes(&live) <= MB);
    assert_in_range(live.num_rows, 1000, 20000);
    assert_int_equal(live.num_thinned, NUM - live.num_rows);
    assert_right();
    /* Above 5000 rows: 5 sigma are 7 %. */
    double in_use = (double)profile_total(&heap, HEAP_INUSE_SPACE);
    assert_true(live.num_rows > 5000);
    assert_true(in_use > 0.93 * total && in_use < 1.07 * total);
    for (size_t i = 0; i < live.num_rows; i++) { /* and tell the rate they now have */
        const struct label_set *set = &table.label_sets[live.rows[i].label_set];

        assert_int_equal(set->num_labels, 3);
        assert_int_equal(table.labels[set->first + 2].num, live.rows[i].rate_bytes);
        assert_true(live.rows[i].rate_bytes > RATE);
    }
}

static void any_limit_is_survived(void **state)
{
    (void)state;
    assert_null(profile_group_limit_memory(&group, 1)); /* nothing there yet */
    for (uint64_t i = 0; i < 3000; i++) {
        add_cpu(i, 1, (int64_t)i % 40);
        add_heap(i, i % 500, i, (int64_t)i % 30);
        if (i % 300 == 299)
            assert_null(profile_group_limit_memory(&group, (size_t)(i % 7) << (10 + i % 9)));
        if (i % 500 == 499) {
            live_set_retain(&live, &i, 1, 0);
            assert_null(live_set_drop(&live, 1, i % 1000 == 999));
        }
    }
    assert_right();
    assert_int_equal(profile_total(&cpu, 0), 3000);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_heavy_of_each_profile_survive, group_setup,
                                        group_teardown),
        cmocka_unit_test_setup_teardown(labels_that_go_go_from_the_live_set_as_well, group_setup,
                                        group_teardown),
        cmocka_unit_test_setup_teardown(a_live_set_that_is_too_large_is_thinned, group_setup,
                                        group_teardown),
        cmocka_unit_test_setup_teardown(any_limit_is_survived, group_setup, group_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
