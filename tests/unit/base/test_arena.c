/* Arena: aligned, disjoint, honest about what it holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdalign.h>

#include "base/arena.h"

static void gives_aligned_memory_that_does_not_overlap(void **state)
{
    struct arena arena;
    unsigned char *blocks[500];

    (void)state;
    arena_init(&arena);
    for (size_t i = 0; i < 500; i++) {
        blocks[i] = arena_alloc(&arena, i);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % alignof(max_align_t), 0);
        memset(blocks[i], (int)(i & 0xff), i);
    }
    for (size_t i = 0; i < 500; i++) {
        for (size_t j = 0; j < i; j++)
            assert_int_equal(blocks[i][j], i & 0xff);
    }
    assert_true(arena.total_bytes >= 500 * 499 / 2);
    arena_deinit(&arena);
    assert_int_equal(arena.total_bytes, 0);
}

static void copies_get_a_nul_behind_them(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena);
    assert_string_equal(arena_copy(&arena, "abcdef", 3), "abc");
    assert_string_equal(arena_copy(&arena, NULL, 0), "");
    void *aligned = arena_alloc(&arena, 1);
    assert_int_equal((uintptr_t)aligned % alignof(max_align_t), 0);
    arena_deinit(&arena);
}

static void big_objects_do_not_waste_the_block_before(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena);
    char *first = arena_copy(&arena, "x", 1);
    assert_non_null(arena_alloc(&arena, 10 << 20));
    char *second = arena_copy(&arena, "y", 1);
    assert_ptr_equal(second, first + 2);
    arena_deinit(&arena);
}

static void refuses_absurd_sizes(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX / 2));
    assert_null(arena_copy(&arena, "x", SIZE_MAX));
    assert_int_equal(arena.total_bytes, 0);
    arena_deinit(&arena);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_aligned_memory_that_does_not_overlap),
        cmocka_unit_test(copies_get_a_nul_behind_them),
        cmocka_unit_test(big_objects_do_not_waste_the_block_before),
        cmocka_unit_test(refuses_absurd_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
