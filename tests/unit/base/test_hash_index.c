/* The hash index: finds all it was given and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/hash_index.h"

static size_t index_count(const struct hash_index *index, uint64_t hash, uint32_t *last_ret)
{
    struct hash_index_cursor cursor = hash_index_first(index, hash);
    size_t count = 0;

    while (hash_index_next(index, &cursor, last_ret))
        count++;
    return count;
}

static void empty_index_has_nothing(void **state)
{
    struct hash_index index;
    uint32_t item;

    (void)state;
    hash_index_init(&index);
    assert_int_equal(index_count(&index, 0, &item), 0);
    assert_int_equal(hash_index_bytes(&index), 0);
    hash_index_clear(&index);
    hash_index_deinit(&index);
}

static void finds_every_item_after_growth(void **state)
{
    struct hash_index index;
    uint32_t item;

    (void)state;
    hash_index_init(&index);
    for (uint32_t i = 0; i < 100000; i++)
        assert_null(hash_index_insert(&index, hash_u64(i), i));
    for (uint32_t i = 0; i < 100000; i++) {
        assert_int_equal(index_count(&index, hash_u64(i), &item), 1);
        assert_int_equal(item, i);
    }
    for (uint32_t i = 100000; i < 101000; i++)
        assert_int_equal(index_count(&index, hash_u64(i), &item), 0);
    assert_true(index.num_used * 3 <= index.num_slots * 2);
    hash_index_deinit(&index);
}

static void equal_hashes_are_all_found(void **state)
{
    struct hash_index index;
    uint32_t item;

    (void)state;
    hash_index_init(&index);
    for (uint32_t i = 0; i < 50; i++)
        assert_null(hash_index_insert(&index, 7, i));
    /* Same slot, other upper half: not an equal hash. */
    assert_null(hash_index_insert(&index, 7 | (uint64_t)1 << 40, 99));
    assert_int_equal(index_count(&index, 7, &item), 50);
    assert_int_equal(index_count(&index, 7 | (uint64_t)1 << 40, &item), 1);
    assert_int_equal(item, 99);
    hash_index_deinit(&index);
}

static void wraps_around_the_end(void **state)
{
    struct hash_index index;
    uint32_t item;

    (void)state;
    hash_index_init(&index);
    for (uint32_t i = 0; i < 8; i++)
        assert_null(hash_index_insert(&index, UINT64_MAX - i % 2, i));
    assert_int_equal(index_count(&index, UINT64_MAX, &item), 4);
    assert_int_equal(index_count(&index, UINT64_MAX - 1, &item), 4);
    hash_index_deinit(&index);
}

static void clear_keeps_the_memory(void **state)
{
    struct hash_index index;
    uint32_t item;

    (void)state;
    hash_index_init(&index);
    for (uint32_t i = 0; i < 100; i++)
        assert_null(hash_index_insert(&index, i, i));
    size_t num_bytes = hash_index_bytes(&index);
    hash_index_clear(&index);
    assert_int_equal(hash_index_bytes(&index), num_bytes);
    assert_int_equal(index_count(&index, 5, &item), 0);
    hash_index_deinit(&index);
}

static void reserved_room_is_enough(void **state)
{
    struct hash_index index;

    (void)state;
    hash_index_init(&index);
    assert_null(hash_index_insert(&index, 1, 1));
    assert_null(hash_index_reserve(&index, 1000));
    const void *slots = index.slots;
    for (uint32_t i = 1; i < 1000; i++)
        assert_null(hash_index_insert(&index, hash_u64(i), i));
    assert_ptr_equal(index.slots, slots);
    assert_ptr_equal(hash_index_reserve(&index, SIZE_MAX), &error_no_memory);
    hash_index_deinit(&index);
}

static void last_item_number_is_refused(void **state)
{
    struct hash_index index;

    (void)state;
    hash_index_init(&index);
    assert_ptr_equal(hash_index_insert(&index, 1, UINT32_MAX), &error_no_memory);
    hash_index_deinit(&index);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_index_has_nothing),
        cmocka_unit_test(finds_every_item_after_growth),
        cmocka_unit_test(equal_hashes_are_all_found),
        cmocka_unit_test(wraps_around_the_end),
        cmocka_unit_test(clear_keeps_the_memory),
        cmocka_unit_test(reserved_room_is_enough),
        cmocka_unit_test(last_item_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
