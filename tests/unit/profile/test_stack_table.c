/* The dictionary: equal things have one id; a known stack needs no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "profile/stack_table.h"
#include "tests/unit/alloc_fault.h"
#include "tests/unit/skip.h"

static struct stack_table table;
static struct callchain chain;

static int table_setup(void **state)
{
    (void)state;
    return stack_table_init(&table) ? -1 : 0;
}

static int table_teardown(void **state)
{
    (void)state;
    stack_table_deinit(&table);
    return 0;
}

static uint32_t intern(const uint64_t *pcs, size_t num_pcs)
{
    uint32_t stack = UINT32_MAX;

    chain.num_frames = 0;
    for (size_t i = 0; i < num_pcs; i++)
        callchain_push(&chain, pcs[i], 1, REASON_NONE);
    assert_null(stack_table_intern(&table, &chain, &stack));
    return stack;
}

static void starts_with_the_empty_label_set(void **state)
{
    uint32_t set = 5;

    (void)state;
    assert_int_equal(table.num_label_sets, 1);
    assert_null(stack_table_add_label_set(&table, NULL, 0, &set));
    assert_int_equal(set, 0);
}

static void equal_chains_are_one_stack(void **state)
{
    static const uint64_t a[] = {1, 2, 3};
    static const uint64_t b[] = {1, 2, 4};

    (void)state;
    assert_int_equal(intern(a, 3), 0);
    assert_int_equal(intern(b, 3), 1);
    assert_int_equal(intern(a, 2), 2);
    assert_int_equal(intern(a, 3), 0);
    assert_int_equal(intern(b, 3), 1);
    assert_int_equal(table.num_stacks, 3);
    assert_int_equal(table.num_locations, 4);
    const struct stack *stack = &table.stacks[1];
    assert_int_equal(stack->num_locations, 3);
    for (size_t i = 0; i < 3; i++) {
        uint32_t location = table.stack_locations[stack->first + i];
        assert_int_equal(table.locations[location].key.pc, b[i]);
    }
}

static void order_mapping_and_reason_matter(void **state)
{
    static const struct frame_key keys[] = {
        {1, 1, REASON_NONE}, {1, 2, REASON_NONE},  {2, 1, REASON_NONE},
        {0, 0, REASON_JIT},  {0, 0, REASON_OTHER}, {0, 1, REASON_NONE},
    };
    uint32_t stack;

    (void)state;
    for (uint32_t i = 0; i < ARRAY_LENGTH(keys); i++) {
        for (uint32_t j = 0; j < ARRAY_LENGTH(keys); j++) {
            chain.num_frames = 2;
            chain.frames[0] = keys[i];
            chain.frames[1] = keys[j];
            assert_null(stack_table_intern(&table, &chain, &stack));
            assert_int_equal(stack, i * ARRAY_LENGTH(keys) + j);
        }
    }
    assert_int_equal(table.num_locations, ARRAY_LENGTH(keys));
}

static void both_ways_of_interning_agree(void **state)
{
    static const uint64_t pcs[] = {10, 20, 10, 30};
    uint32_t ids[4];
    uint32_t stack = 99;

    (void)state;
    uint32_t expected = intern(pcs, 4);
    memcpy(ids, table.stack_locations + table.stacks[expected].first, sizeof(ids));
    assert_null(stack_table_intern_locations(&table, ids, 4, &stack));
    assert_int_equal(stack, expected);
    assert_null(stack_table_intern_locations(&table, ids, 3, &stack));
    assert_int_equal(stack, intern(pcs, 3));
    assert_int_equal(table.num_stacks, 2);
}

static void wrong_input_is_refused(void **state)
{
    uint32_t missing = 7;
    uint32_t stack = 42;
    struct line line = {0};

    (void)state;
    chain.num_frames = 0;
    struct error *errors[] = {
        stack_table_intern(&table, &chain, &stack),
        stack_table_intern_locations(&table, &missing, 1, &stack),
        stack_table_set_lines(&table, 3, &line, 1),
    };
    for (size_t i = 0; i < ARRAY_LENGTH(errors); i++) {
        assert_non_null(errors[i]);
        error_destroy(errors[i]);
    }
    chain.num_frames = CALLCHAIN_MAX_FRAMES + 1;
    error_destroy(stack_table_intern(&table, &chain, &stack));
    assert_int_equal(stack, 42);
    assert_int_equal(table.num_stacks, 0);
}

static void the_deepest_chain_fits(void **state)
{
    uint32_t stack;

    (void)state;
    chain.num_frames = 0;
    for (uint64_t i = 0; i < CALLCHAIN_MAX_FRAMES; i++)
        callchain_push(&chain, i, 1, REASON_NONE);
    assert_null(stack_table_intern(&table, &chain, &stack));
    assert_int_equal(table.stacks[stack].num_locations, CALLCHAIN_MAX_FRAMES);
}

static void known_things_need_no_memory(void **state)
{
    static const uint64_t pcs[] = {1, 2, 3, 4, 5};
    struct label label = {.key = 1, .num = 7};
    uint32_t set;

    (void)state;
    if (!alloc_fault_is_possible())
        SKIP("allocations of this build can't be made to fail");
    intern(pcs, 5);
    assert_null(stack_table_add_label_set(&table, &label, 1, &set));
    alloc_fault_arm(ULONG_MAX);
    intern(pcs, 5);
    assert_null(stack_table_add_label_set(&table, &label, 1, &set));
    unsigned long count = alloc_fault_count();
    alloc_fault_disarm();
    assert_int_equal(count, 0);
}

static void equal_file_segments_are_one_mapping(void **state)
{
    struct mapping first = {.start = 0x1000, .limit = 0x3000, .file_off = 0x1000, .module = 5};
    struct mapping second = first;
    uint32_t id = 0;

    (void)state;
    assert_null(stack_table_add_mapping(&table, &first, &id));
    assert_int_equal(id, 1);
    second.start += 0x70000;
    second.limit += 0x70000;
    second.pid = 77;
    assert_null(stack_table_add_mapping(&table, &second, &id));
    assert_int_equal(id, 1);
    assert_int_equal(stack_table_mapping(&table, 1)->start, 0x1000);
    second.limit += 0x1000;
    assert_null(stack_table_add_mapping(&table, &second, &id));
    assert_int_equal(id, 2);
    second.module = 6;
    assert_null(stack_table_add_mapping(&table, &second, &id));
    assert_int_equal(id, 3);
}

static void anonymous_memory_belongs_to_one_process(void **state)
{
    struct mapping anon = {.start = 0x1000,
                           .limit = 0x3000,
                           .kind = MAPPING_ANON,
                           .pid = 5,
                           .module = MAPPING_NO_MODULE};
    uint32_t id = 0;

    (void)state;
    assert_null(stack_table_add_mapping(&table, &anon, &id));
    assert_null(stack_table_add_mapping(&table, &anon, &id));
    assert_int_equal(id, 1);
    anon.pid = 6;
    assert_null(stack_table_add_mapping(&table, &anon, &id));
    assert_int_equal(id, 2);
    anon.start += 0x1000;
    assert_null(stack_table_add_mapping(&table, &anon, &id));
    assert_int_equal(id, 3);
    assert_null(stack_table_mapping(&table, 0));
    assert_null(stack_table_mapping(&table, 4));
}

static void thousands_of_mappings_stay_distinct(void **state)
{
    uint32_t id;

    (void)state;
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 20000; i++) {
            struct mapping anon = {.start = (uint64_t)i << 12,
                                   .limit = (uint64_t)(i + 1) << 12,
                                   .kind = MAPPING_ANON,
                                   .pid = 5};
            assert_null(stack_table_add_mapping(&table, &anon, &id));
            assert_int_equal(id, i + 1);
        }
    }
}

static void functions_are_interned_by_all_fields(void **state)
{
    struct function function = {1, 2, 3, 4};
    uint32_t id = 9;

    (void)state;
    assert_null(stack_table_add_function(&table, &function, &id));
    assert_null(stack_table_add_function(&table, &function, &id));
    assert_int_equal(id, 0);
    function.name = 9;
    assert_null(stack_table_add_function(&table, &function, &id));
    assert_int_equal(id, 1);
    function.system_name = 9;
    assert_null(stack_table_add_function(&table, &function, &id));
    assert_int_equal(id, 2);
    function.filename = 9;
    assert_null(stack_table_add_function(&table, &function, &id));
    assert_int_equal(id, 3);
    function.start_line = 9;
    assert_null(stack_table_add_function(&table, &function, &id));
    assert_int_equal(id, 4);
}

static void lines_can_be_replaced(void **state)
{
    static const uint64_t pcs[] = {1, 2};
    static const struct line two[] = {{0, 10}, {1, 20}};
    static const struct line one[] = {{2, 30}};

    (void)state;
    intern(pcs, 2);
    assert_null(stack_table_set_lines(&table, 0, one, 1));
    assert_null(stack_table_set_lines(&table, 1, two, 2));
    assert_null(stack_table_set_lines(&table, 0, two, 2));
    const struct location *location = &table.locations[0];
    assert_int_equal(location->num_lines, 2);
    assert_memory_equal(table.lines + location->first_line, two, sizeof(two));
    assert_null(stack_table_set_lines(&table, 0, one, 1));
    assert_int_equal(location->num_lines, 1);
    assert_int_equal(table.lines[location->first_line].line, 30);
    assert_null(stack_table_set_lines(&table, 0, NULL, 0));
    assert_int_equal(location->num_lines, 0);
    assert_int_equal(table.lines[table.locations[1].first_line + 1].line, 20);
}

static void label_sets_are_ordered_and_interned(void **state)
{
    struct label labels[] = {{1, 2, 0, 0}, {3, 0, 1234, 4}};
    struct label swapped[] = {{3, 0, 1234, 4}, {1, 2, 0, 0}};
    uint32_t id;

    (void)state;
    assert_null(stack_table_add_label_set(&table, labels, 2, &id));
    assert_int_equal(id, 1);
    assert_null(stack_table_add_label_set(&table, swapped, 2, &id));
    assert_int_equal(id, 2);
    assert_null(stack_table_add_label_set(&table, labels, 1, &id));
    assert_int_equal(id, 3);
    labels[1].num = -1;
    assert_null(stack_table_add_label_set(&table, labels, 2, &id));
    assert_int_equal(id, 4);
    labels[1].num = 1234;
    assert_null(stack_table_add_label_set(&table, labels, 2, &id));
    assert_int_equal(id, 1);
}

static void compacting_keeps_what_is_marked(void **state)
{
    static const uint64_t a[] = {1, 2, 3};
    static const uint64_t b[] = {4, 2, 5};
    static const uint64_t c[] = {6, 2, 3, 7};
    static const bool keep[] = {false, true, true};
    struct line line = {0, 0};
    uint32_t stack_map[3] = {9, 9, 9};

    (void)state;
    intern(a, 3);
    intern(b, 3);
    intern(c, 4);
    for (uint32_t i = (uint32_t)table.num_locations; i-- > 0;) {
        line.line = (int64_t)table.locations[i].key.pc * 100;
        assert_null(stack_table_set_lines(&table, i, &line, 1));
    }
    assert_null(stack_table_compact(&table, keep, stack_map));
    assert_int_equal(stack_map[1], 0);
    assert_int_equal(stack_map[2], 1);
    assert_int_equal(table.num_stacks, 2);
    assert_int_equal(table.num_locations, 6); /* 1 is gone */
    assert_int_equal(table.num_lines, 6);
    for (size_t i = 0; i < 6; i++) {
        const struct location *location = &table.locations[i];
        assert_int_not_equal(location->key.pc, 1);
        assert_int_equal(table.lines[location->first_line].line, location->key.pc * 100);
    }
    assert_int_equal(intern(b, 3), 0);
    assert_int_equal(intern(c, 4), 1);
    assert_int_equal(intern(a, 3), 2);
    assert_int_equal(table.num_locations, 7);
}

static void memory_is_told(void **state)
{
    size_t before = stack_table_bytes(&table);
    uint64_t pcs[100];

    (void)state;
    for (uint64_t i = 0; i < 10000; i++) {
        for (uint64_t j = 0; j < 100; j++)
            pcs[j] = i + j;
        intern(pcs, 100);
    }
    size_t grown = stack_table_bytes(&table) - before;
    assert_true(grown >= 10000 * 100 * sizeof(uint32_t));
    assert_true(grown <= 4 * 10000 * 100 * sizeof(uint32_t));
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(starts_with_the_empty_label_set, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(equal_chains_are_one_stack, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(order_mapping_and_reason_matter, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(both_ways_of_interning_agree, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(wrong_input_is_refused, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(the_deepest_chain_fits, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(known_things_need_no_memory, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(equal_file_segments_are_one_mapping, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(anonymous_memory_belongs_to_one_process, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(thousands_of_mappings_stay_distinct, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(functions_are_interned_by_all_fields, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(lines_can_be_replaced, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(label_sets_are_ordered_and_interned, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(compacting_keeps_what_is_marked, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(memory_is_told, table_setup, table_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
