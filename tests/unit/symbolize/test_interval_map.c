#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "symbolize/interval_map.h"

#define NONE UINT32_MAX

static uint32_t owner(const struct interval_map *map, uint64_t addr)
{
    const struct interval_segment *segment = interval_map_find(map, addr);

    return segment ? segment->item : NONE;
}

static void no_intervals_give_an_empty_map(void **state)
{
    struct interval_map map;

    (void)state;
    assert_null(interval_map_build(NULL, 0, &map));
    assert_int_equal(owner(&map, 0), NONE);
    interval_map_deinit(&map);
}

static void nested_intervals_belong_to_the_higher_priority(void **state)
{
    struct interval intervals[] = {{10, 100, 0, 1}, {20, 50, 1, 2}, {30, 40, 2, 3}};
    struct interval_map map;

    (void)state;
    assert_null(interval_map_build(intervals, 3, &map));
    assert_int_equal(owner(&map, 9), NONE);
    assert_int_equal(owner(&map, 10), 1);
    assert_int_equal(owner(&map, 20), 2);
    assert_int_equal(owner(&map, 30), 3);
    assert_int_equal(owner(&map, 39), 3);
    assert_int_equal(owner(&map, 40), 2);
    assert_int_equal(owner(&map, 50), 1);
    assert_int_equal(owner(&map, 99), 1);
    assert_int_equal(owner(&map, 100), NONE);
    interval_map_deinit(&map);
}

static void empty_and_inverted_intervals_are_ignored(void **state)
{
    struct interval intervals[] = {{10, 10, 5, 1}, {20, 15, 5, 2}, {0, UINT64_MAX, 0, 3}};
    struct interval_map map;

    (void)state;
    assert_null(interval_map_build(intervals, 3, &map));
    assert_int_equal(owner(&map, 10), 3);
    assert_int_equal(owner(&map, 17), 3);
    assert_int_equal(owner(&map, UINT64_MAX - 1), 3);
    assert_int_equal(owner(&map, UINT64_MAX), NONE);
    interval_map_deinit(&map);
}

/* Every address of random maps has the owner that a plain search over all intervals finds. */
static void random_maps_equal_a_plain_search(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 300; round++) {
        struct interval intervals[12];
        struct interval copy[12];
        struct interval_map map;
        uint32_t num = (uint32_t)(rand() % 12) + 1;

        for (uint32_t i = 0; i < num; i++) {
            uint64_t start = (uint64_t)(rand() % 60);

            intervals[i] = (struct interval){start, start + (uint64_t)(rand() % 30), i, i};
            copy[i] = intervals[i];
        }
        assert_null(interval_map_build(intervals, num, &map));
        for (uint64_t addr = 0; addr < 100; addr++) {
            uint32_t expected = NONE;

            for (uint32_t i = 0; i < num; i++) {
                if (addr >= copy[i].start && addr < copy[i].limit)
                    expected = i;
            }
            assert_int_equal(owner(&map, addr), expected);
        }
        interval_map_deinit(&map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_intervals_give_an_empty_map),
        cmocka_unit_test(nested_intervals_belong_to_the_higher_priority),
        cmocka_unit_test(empty_and_inverted_intervals_are_ignored),
        cmocka_unit_test(random_maps_equal_a_plain_search),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
