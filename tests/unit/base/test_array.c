/* Growing arrays: content kept, sizes checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/array.h"

static void keeps_content_while_growing(void **state)
{
    uint32_t *items = NULL;
    size_t capacity = 0;

    (void)state;
    for (uint32_t i = 0; i < 10000; i++) {
        assert_null(array_reserve(&items, &capacity, (size_t)i + 1, sizeof(*items)));
        assert_true(capacity > i);
        items[i] = i;
    }
    for (uint32_t i = 0; i < 10000; i++)
        assert_int_equal(items[i], i);
    free(items);
}

static void does_nothing_when_there_is_room(void **state)
{
    char *items = NULL;
    size_t capacity = 0;

    (void)state;
    assert_null(array_reserve(&items, &capacity, 0, 1));
    assert_null(items);
    assert_null(array_reserve(&items, &capacity, 5, 1));
    char *before = items;
    assert_null(array_reserve(&items, &capacity, capacity, 1));
    assert_ptr_equal(items, before);
    free(items);
}

static void refuses_sizes_that_overflow(void **state)
{
    char *items = NULL;
    size_t capacity = 0;

    (void)state;
    assert_ptr_equal(array_reserve(&items, &capacity, SIZE_MAX, 1), &error_no_memory);
    assert_ptr_equal(array_reserve(&items, &capacity, SIZE_MAX / 8, 16), &error_no_memory);
    assert_ptr_equal(array_reserve(&items, &capacity, SIZE_MAX / 2 + 2, 1), &error_no_memory);
    assert_ptr_equal(array_reserve(&items, &capacity, 3, SIZE_MAX / 2), &error_no_memory);
    assert_null(items);
    assert_int_equal(capacity, 0);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_content_while_growing),
        cmocka_unit_test(does_nothing_when_there_is_room),
        cmocka_unit_test(refuses_sizes_that_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
