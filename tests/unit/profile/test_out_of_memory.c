/* Every allocation of profile/ fails once, in turn: the sums stay right, nothing leaks. */
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
#include "profile/heap_trim.h"
#include "profile/profile_group.h"
#include "tests/unit/alloc_fault.h"
#include "tests/unit/skip.h"

static struct callchain chain;

static struct error *add_one(struct profile *profile, uint64_t number)
{
    static const int64_t values[] = {1, 10};
    struct stack_table *table = profile->table;
    struct mapping mapping = {.limit = 1 << 20, .module = (uint32_t)(number % 5)};
    struct function function = {.name = 1, .start_line = (int64_t)(number % 50)};
    struct line line = {.line = 3};
    struct label label = {.key = 1, .num = (int64_t)(number % 20)};
    uint32_t mapping_id;
    uint32_t label_set;
    uint32_t stack;

    RETURN_IF_ERROR(stack_table_add_mapping(table, &mapping, &mapping_id));
    RETURN_IF_ERROR(stack_table_add_function(table, &function, &line.function));
    RETURN_IF_ERROR(stack_table_add_label_set(table, &label, 1, &label_set));
    chain.num_frames = 0;
    for (uint64_t i = 0; i < 10; i++)
        callchain_push(&chain, hash_u64(number + i) % 1000, mapping_id, REASON_NONE);
    RETURN_IF_ERROR(stack_table_intern(table, &chain, &stack));
    RETURN_IF_ERROR(
        stack_table_set_lines(table, table->stack_locations[table->stacks[stack].first], &line, 1));
    return profile_add(profile, stack, label_set, values);
}

/* Adds 400 samples and limits now and then; goes on after the failure. Returns: the failure. */
static struct error *fill(struct profile *profile)
{
    struct error *failure = NULL;
    int64_t num_added = 0;

    for (uint64_t i = 0; i < 400; i++) {
        struct error *err = add_one(profile, i);
        if (!err)
            num_added++;
        if (!err && i % 100 == 99)
            err = profile_limit_memory(profile, 60000);
        if (err)
            failure = err;
        if (profile_total(profile, 0) != num_added)
            return error_create(ERROR_FAILED, NULL, "the total is wrong");
    }
    struct error *err = profile_add_comment(profile, "%s", "done");
    if (err)
        failure = err;
    err = profile_check(profile, false);
    return err ? err : failure;
}

static struct error *work(void)
{
    struct stack_table table;
    struct profile profile;

    RETURN_IF_ERROR(stack_table_init(&table));
    struct error *err = profile_init_cpu(&profile, &table, 10);
    if (!err) {
        err = fill(&profile);
        profile_deinit(&profile);
    }
    stack_table_deinit(&table);
    return err;
}

/* Adds an allocation; every tenth has an allocator's name. */
static struct error *add_allocation(struct profile *heap, struct live_set *live, uint64_t number)
{
    struct stack_table *table = heap->table;
    struct live_row row = {.id = number,
                           .time_ns = number,
                           .size_bytes = number,
                           .rate_bytes = 512 << (10 + number % 2),
                           .pid = (uint32_t)(number % 4)};
    struct function function = {0};
    struct line line = {.line = 3};

    RETURN_IF_ERROR(
        string_table_add(&table->strings, number % 10 ? "f" : "malloc", &function.name));
    RETURN_IF_ERROR(stack_table_add_function(table, &function, &line.function));
    chain.num_frames = 0;
    for (uint64_t i = 0; i < 5; i++)
        callchain_push(&chain, hash_u64(number + i) % 1000, 0, REASON_NONE);
    RETURN_IF_ERROR(stack_table_intern(table, &chain, &row.stack));
    RETURN_IF_ERROR(stack_table_set_lines(
        table, table->stack_locations[table->stacks[row.stack].first], &line, 1));
    return heap_add(heap, live, &row);
}

/* A CPU and a heap profile with what is in use: adds, limits, takes snapshots. */
static struct error *fill_group(const struct profile_group *group)
{
    struct profile *heap = group->heap;
    struct heap_rest rests[] = {{.pid = 2, .attach_bytes = 1000000, .now_bytes = 100000000}};
    struct error *failure = NULL;

    for (uint64_t i = 0; i < 200; i++) {
        struct error *err = add_one(group->profiles[0], i);

        if (!err)
            err = add_allocation(heap, group->live, i);
        if (!err && i % 50 == 49)
            err = profile_group_limit_memory(group, 60000);
        if (!err && i == 120)
            err = live_set_drop(group->live, 1, 100);
        if (err)
            failure = err;
    }
    live_set_retain(group->live, NULL, 0, 150);
    struct error *err = heap_set_in_use(heap, group->live, 190);
    if (!err)
        err = heap_add_rest(heap, group->live, 190, rests, ARRAY_LENGTH(rests));
    if (!err)
        err = heap_trim_allocator(heap);
    if (!err)
        err = profile_check(heap, false);
    return err ? err : failure;
}

static struct error *work_heap(void)
{
    struct stack_table table;
    struct profile cpu = {0};
    struct profile heap = {0};
    struct live_set live;
    struct profile_group group = {
        .profiles = {&cpu, &heap}, .num_profiles = 2, .heap = &heap, .live = &live};

    RETURN_IF_ERROR(stack_table_init(&table));
    live_set_init(&live);
    struct error *err = profile_init_cpu(&cpu, &table, 10);
    if (!err)
        err = profile_init_heap(&heap, &table, 512 << 10);
    if (!err)
        err = fill_group(&group);
    live_set_deinit(&live);
    profile_deinit(&heap);
    profile_deinit(&cpu);
    stack_table_deinit(&table);
    return err;
}

static void fail_each(struct error *(*do_work)(void))
{
    if (!alloc_fault_is_possible())
        SKIP("allocations of this build can't be made to fail");
    for (unsigned long fail_at = 1;; fail_at++) {
        alloc_fault_arm(fail_at);
        struct error *err = do_work();
        bool is_no_memory = err == &error_no_memory;
        char message[200] = "";
        if (err && !is_no_memory)
            memccpy(message, err->message, 0, sizeof(message) - 1);
        error_destroy(err);
        bool has_failed = alloc_fault_disarm();
        assert_string_equal(message, "");
        assert_int_equal(alloc_fault_leaks(), 0);
        if (!has_failed) {
            assert_null(err);
            assert_true(fail_at > 50);
            return;
        }
        /* Giving memory back may fail without harm: then there is no error. */
        assert_true(!err || is_no_memory);
    }
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    fail_each(work);
}

static void every_allocation_of_a_heap_profile_fails_once(void **state)
{
    (void)state;
    fail_each(work_heap);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(every_allocation_of_a_heap_profile_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
