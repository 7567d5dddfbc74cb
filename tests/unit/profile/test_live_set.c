/* The live set: what is not in the list goes, what is younger than it stays, ends are remembered.
 */
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
#include "profile/live_set.h"

#define NS_PER_S UINT64_C(1000000000)

static struct live_set set;

static int set_setup(void **state)
{
    (void)state;
    live_set_init(&set);
    return 0;
}

static int set_teardown(void **state)
{
    (void)state;
    live_set_deinit(&set);
    return 0;
}

static void put(uint64_t id, uint64_t time_ns, uint32_t pid)
{
    struct live_row row = {.id = id,
                           .time_ns = time_ns,
                           .size_bytes = 100 + id,
                           .rate_bytes = 512 << 10,
                           .stack = (uint32_t)(id % 7),
                           .label_set = (uint32_t)(id % 3),
                           .pid = pid};

    assert_null(live_set_put(&set, &row));
}

struct seen {
    uint64_t ids; /* one bit for each id below 64 */
    size_t num_rows;
};

static struct error *see(void *context, const struct live_row *row)
{
    struct seen *seen = context;

    seen->ids |= row->id < 64 ? UINT64_C(1) << row->id : 0;
    seen->num_rows++;
    return NULL;
}

static uint64_t ids_in_use(uint64_t before_ns)
{
    struct seen seen = {0};

    assert_null(live_set_visit(&set, before_ns, see, &seen));
    return seen.ids;
}

static void rows_stay_while_the_list_has_them(void **state)
{
    static const uint64_t ids[] = {2, 4, 5, 9};

    (void)state;
    for (uint64_t id = 1; id <= 5; id++)
        put(id, 10, 1);
    put(6, 100, 1);
    put(9, 20, 1);
    live_set_retain(&set, ids, ARRAY_LENGTH(ids), 100);
    assert_int_equal(ids_in_use(UINT64_MAX), 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9);
    assert_int_equal(ids_in_use(100), 1 << 2 | 1 << 4 | 1 << 5 | 1 << 9);
    live_set_retain(&set, NULL, 0, 101);
    assert_int_equal(set.num_rows, 0);
    put(2, 200, 1);
    assert_int_equal(ids_in_use(UINT64_MAX), 1 << 2);
}

static void a_known_id_is_replaced(void **state)
{
    (void)state;
    put(3, 10, 1);
    put(3, 20, 2);
    assert_int_equal(set.num_rows, 1);
    assert_int_equal(set.rows[0].pid, 2);
    assert_int_equal(set.rows[0].time_ns, 20);
}

static void the_end_of_a_process_takes_its_rows_late_ones_too(void **state)
{
    static const uint64_t ids[] = {1, 2, 3, 4, 5};

    (void)state;
    put(1, 10, 1);
    put(2, 10, 2);
    assert_null(live_set_drop(&set, 1, 50));
    assert_null(live_set_drop(&set, 1, 40)); /* an older one changes nothing */
    put(3, 45, 1);                           /* late */
    put(4, 50, 1);                           /* the next program of that pid */
    assert_int_equal(ids_in_use(UINT64_MAX), 1 << 2 | 1 << 4);
    live_set_retain(&set, ids, ARRAY_LENGTH(ids), 60);
    assert_int_equal(set.num_rows, 2);
    assert_int_equal(set.num_ended, 2);
    put(5, 49, 1); /* still late: ends are remembered beyond a retain */
    assert_int_equal(ids_in_use(UINT64_MAX), 1 << 2 | 1 << 4);
    assert_int_equal(set.num_ends, 1);
    live_set_retain(&set, ids, ARRAY_LENGTH(ids), 11 * NS_PER_S);
    assert_int_equal(set.num_ends, 0); /* but not for ever */
    assert_int_equal(ids_in_use(UINT64_MAX), 1 << 2 | 1 << 4);
}

static void settling_needs_no_list(void **state)
{
    (void)state;
    put(1, 10, 1);
    put(2, 10, 2);
    assert_null(live_set_drop(&set, 2, 11));
    assert_int_equal(set.num_rows, 2);
    live_set_settle(&set);
    assert_int_equal(set.num_rows, 1);
    assert_int_equal(set.num_ended, 1);
    live_set_settle(&set);
    assert_int_equal(set.num_ended, 1);
}

static void millions_come_and_go_and_give_their_memory_back(void **state)
{
    enum { NUM = 1000000, STEP = 1000 };
    CLEANUP(free) uint64_t *ids = calloc(NUM / STEP, sizeof(*ids));

    (void)state;
    assert_non_null(ids);
    for (uint64_t i = 0; i < NUM; i++)
        put((i % 4) << 56 | i, i, 1); /* as four processors number them */
    assert_int_equal(set.num_rows, NUM);
    assert_true(live_set_has_grown(&set));
    size_t full_bytes = live_set_bytes(&set);
    for (uint64_t i = 0; i < NUM / STEP; i++)
        ids[i] = i * STEP; /* STEP is a multiple of 4: all on processor 0, ascending */
    live_set_retain(&set, ids, NUM / STEP, NUM);
    assert_int_equal(set.num_rows, NUM / STEP);
    assert_false(live_set_has_grown(&set));
    assert_true(live_set_bytes(&set) < full_bytes / 100);
    for (uint64_t i = 0; i < NUM / STEP; i++)
        put(i * STEP, NUM, 2); /* all of them are still found */
    assert_int_equal(set.num_rows, NUM / STEP);
}

static void rows_follow_when_stacks_and_label_sets_are_renumbered(void **state)
{
    static const uint32_t stack_map[] = {0, 7, 6, 5, 4, 3, 2};
    static const uint32_t label_set_map[] = {0, 0, 1};
    bool keep[7] = {false};

    (void)state;
    put(1, 1, 1);
    put(2, 1, 1);
    live_set_mark_stacks(&set, keep);
    assert_true(keep[1] && keep[2] && !keep[0] && !keep[3]);
    live_set_renumber(&set, stack_map, label_set_map);
    assert_int_equal(set.rows[0].stack, 7);
    assert_int_equal(set.rows[1].stack, 6);
    assert_int_equal(set.rows[0].label_set, 0);
    assert_int_equal(set.rows[1].label_set, 1);
    live_set_renumber(&set, NULL, NULL);
    assert_int_equal(set.rows[0].stack, 7);
}

/* Thinning keeps the estimate: of rows taken at rate R, the mean of what is left is the same. */
static void thinning_is_unbiased_and_leaves_half_of_the_small(void **state)
{
    enum { NUM = 40000, RATE = 64 << 10 };
    static const uint64_t sizes[] = {16, 4096, RATE, 10 * RATE};
    double bytes = 0, thinned_bytes = 0;
    size_t num_small = 0;

    (void)state;
    set.random = 1;
    for (uint64_t i = 0; i < NUM; i++) {
        struct live_row row = {.id = i, .size_bytes = sizes[i % 4], .rate_bytes = RATE, .pid = 1};

        heap_estimate(row.size_bytes, RATE, &set.random, &row.objects, &row.bytes);
        bytes += (double)row.bytes;
        assert_null(live_set_put(&set, &row));
    }
    live_set_thin(&set);
    for (size_t i = 0; i < set.num_rows; i++) {
        thinned_bytes += (double)set.rows[i].bytes;
        assert_int_equal(set.rows[i].rate_bytes, 2 * RATE);
        num_small += set.rows[i].size_bytes == 16;
    }
    /* Ten thousand coins: 5 sigma are 5 %. */
    assert_in_range(num_small, NUM / 8 - 250, NUM / 8 + 250);
    assert_true(thinned_bytes > 0.97 * bytes && thinned_bytes < 1.03 * bytes);
    put(3, 0, 1); /* large ones are all still there, and found */
    assert_int_equal(set.rows[0].rate_bytes, 2 * RATE);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_stay_while_the_list_has_them, set_setup, set_teardown),
        cmocka_unit_test_setup_teardown(a_known_id_is_replaced, set_setup, set_teardown),
        cmocka_unit_test_setup_teardown(the_end_of_a_process_takes_its_rows_late_ones_too,
                                        set_setup, set_teardown),
        cmocka_unit_test_setup_teardown(settling_needs_no_list, set_setup, set_teardown),
        cmocka_unit_test_setup_teardown(millions_come_and_go_and_give_their_memory_back, set_setup,
                                        set_teardown),
        cmocka_unit_test_setup_teardown(rows_follow_when_stacks_and_label_sets_are_renumbered,
                                        set_setup, set_teardown),
        cmocka_unit_test_setup_teardown(thinning_is_unbiased_and_leaves_half_of_the_small,
                                        set_setup, set_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
