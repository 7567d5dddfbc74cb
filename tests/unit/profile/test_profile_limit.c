/* Within the memory limit: totals stay, heavy stacks survive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "profile/profile.h"

#define MB ((size_t)1 << 20)

static struct stack_table table;
static struct profile profile;
static struct callchain chain;

static int profile_setup(void **state)
{
    struct mapping mapping = {.limit = 1 << 20};
    uint32_t id;

    (void)state;
    if (stack_table_init(&table) || profile_init_cpu(&profile, &table, 10101010))
        return -1;
    for (mapping.module = 1; mapping.module <= 2; mapping.module++)
        assert_null(stack_table_add_mapping(&table, &mapping, &id));
    return 0;
}

static int profile_teardown(void **state)
{
    (void)state;
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return 0;
}

static size_t held_bytes(void)
{
    return stack_table_bytes(&table) + hash_index_bytes(&profile.sample_index) +
           profile.num_samples * sizeof(*profile.samples) +
           profile.num_comments * sizeof(*profile.comments);
}

static uint32_t label_set_of(int64_t pid)
{
    struct label label = {.num = pid};
    uint32_t set;

    assert_null(string_table_add(&table.strings, "pid", &label.key));
    assert_null(stack_table_add_label_set(&table, &label, 1, &set));
    return set;
}

/* Adds stack number `number` (40 frames, half of them its own) `count` times. */
static void add(uint64_t number, int64_t count, int64_t pid)
{
    int64_t values[] = {count, count * 10101010};
    uint32_t stack;

    chain.num_frames = 0;
    for (uint64_t i = 0; i < 40; i++)
        callchain_push(&chain, i < 20 ? hash_u64(number * 64 + i) % 50000 : i, 1, REASON_NONE);
    callchain_push(&chain, number, 2, REASON_NONE);
    assert_null(stack_table_intern(&table, &chain, &stack));
    assert_null(profile_add(&profile, stack, label_set_of(pid), values));
}

/* Tells the values that the profile holds for a stack whose root is `number`, or for [other]. */
static int64_t count_of(uint32_t mapping, uint64_t number)
{
    int64_t count = 0;

    for (size_t i = 0; i < profile.num_samples; i++) {
        const struct stack *stack = &table.stacks[profile.samples[i].stack];
        uint32_t root = table.stack_locations[stack->first + stack->num_locations - 1];
        const struct frame_key *key = &table.locations[root].key;
        if (key->mapping == mapping && key->pc == number &&
            key->reason == (mapping ? REASON_NONE : REASON_OTHER))
            count += profile.samples[i].values[0];
    }
    return count;
}

static void nothing_changes_within_the_limit(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 100; i++)
        add(i, 1, 1);
    assert_null(profile_limit_memory(&profile, held_bytes()));
    assert_int_equal(profile.num_samples, 100);
    assert_int_equal(profile.loss.counts[LOSS_MERGED], 0);
    assert_int_equal(table.num_stacks, 100);
}

static void totals_stay_and_heavy_stacks_survive(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 30000; i++)
        add(i, i % 1000 == 7 ? 500 + (int64_t)(i / 1000) : 1, 1 + (int64_t)(i % 3));
    int64_t total = profile_total(&profile, 0);
    int64_t total_ns = profile_total(&profile, 1);
    assert_true(held_bytes() > 8 * MB);

    assert_null(profile_limit_memory(&profile, 8 * MB));
    assert_true(held_bytes() <= 4 * MB);
    assert_true(held_bytes() > 2 * MB); /* and no more was given up than needed */
    assert_int_equal(profile_total(&profile, 0), total);
    assert_int_equal(profile_total(&profile, 1), total_ns);
    for (uint64_t i = 7; i < 30000; i += 1000)
        assert_int_equal(count_of(2, i), 500 + (int64_t)(i / 1000));
    int64_t num_merged = count_of(0, 0);
    assert_true(num_merged > 0);
    assert_int_equal(profile.loss.counts[LOSS_MERGED], num_merged);
    assert_null(profile_check(&profile, false));
}

static void every_label_set_keeps_its_sum(void **state)
{
    int64_t sums[4] = {0};
    uint32_t sets[4];

    (void)state;
    for (int64_t pid = 1; pid <= 3; pid++)
        sets[pid] = label_set_of(pid);
    for (uint64_t i = 0; i < 30000; i++)
        add(i, 1, 1 + (int64_t)(i % 3));
    assert_null(profile_limit_memory(&profile, 4 * MB));
    for (size_t i = 0; i < profile.num_samples; i++) {
        for (int64_t pid = 1; pid <= 3; pid++) {
            if (profile.samples[i].label_set == sets[pid])
                sums[pid] += profile.samples[i].values[0];
        }
    }
    for (int64_t pid = 1; pid <= 3; pid++)
        assert_int_equal(sums[pid], 10000);
}

static void the_rebuilt_table_goes_on_working(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        for (uint64_t i = 0; i < 5000; i++)
            add((uint64_t)round * 5000 + i, 1, 1);
        for (uint64_t heavy = 0; heavy < 10; heavy++)
            add(1000000 + heavy, 5, 1);
        assert_null(profile_limit_memory(&profile, 8 * MB));
        assert_true(held_bytes() <= 8 * MB);
    }
    assert_int_equal(profile_total(&profile, 0), 20 * (5000 + 50));
    for (uint64_t heavy = 0; heavy < 10; heavy++)
        assert_int_equal(count_of(2, 1000000 + heavy), 100);
    assert_int_equal(profile.loss.counts[LOSS_MERGED], count_of(0, 0));
    assert_null(profile_check(&profile, false));
}

/* What a program does to us that starts a thread for each request: each has labels of its own. */
static void add_of_thread(uint64_t stack_number, int64_t tid)
{
    struct label labels[2] = {{.num = 7}, {.num = tid}};
    int64_t values[] = {1, 10101010};
    uint32_t stack, set;

    assert_null(string_table_add(&table.strings, "pid", &labels[0].key));
    assert_null(string_table_add(&table.strings, "thread_id", &labels[1].key));
    chain.num_frames = 0;
    callchain_push(&chain, stack_number, 2, REASON_NONE);
    assert_null(stack_table_intern(&table, &chain, &stack));
    assert_null(stack_table_add_label_set(&table, labels, 2, &set));
    assert_null(profile_add(&profile, stack, set, values));
}

/* Sums the samples of stack `number` that still tell their thread, or that do not. */
static int64_t count_with_labels(uint64_t number, bool has_labels)
{
    int64_t count = 0;

    for (size_t i = 0; i < profile.num_samples; i++) {
        const struct profile_sample *sample = &profile.samples[i];
        const struct stack *stack = &table.stacks[sample->stack];

        if (table.locations[table.stack_locations[stack->first]].key.pc == number &&
            (sample->label_set != 0) == has_labels)
            count += sample->values[0];
    }
    return count;
}

static void threads_without_end_lose_labels_but_no_stack(void **state)
{
    const int64_t num_threads = 300000;
    int64_t num_unlabeled = 0;

    (void)state;
    for (int64_t tid = 1; tid <= num_threads; tid++) {
        add_of_thread((uint64_t)tid % 3, tid);
        for (int i = 0; tid % 100 == 0 && i < 10; i++)
            add_of_thread((uint64_t)i % 3, 0); /* the one that starts them */
        if (tid % 1000 == 0)
            assert_null(profile_limit_memory(&profile, 4 * MB));
        assert_true(held_bytes() <= 5 * MB);
    }
    assert_null(profile_limit_memory(&profile, 4 * MB));
    assert_int_equal(profile_total(&profile, 0), num_threads + num_threads / 10);
    assert_int_equal(profile.loss.counts[LOSS_MERGED], 0);
    for (uint64_t number = 0; number < 3; number++) {
        int64_t heavy = number == 0 ? 4 : 3; /* of ten */

        num_unlabeled += count_with_labels(number, false);
        assert_int_equal(count_with_labels(number, false) + count_with_labels(number, true),
                         num_threads / 3 + num_threads / 100 * heavy);
        assert_true(count_with_labels(number, true) >= num_threads / 100 * heavy);
    }
    assert_int_equal(profile.loss.counts[LOSS_UNLABELED], num_unlabeled);
    assert_true(num_unlabeled > num_threads / 2);
    assert_null(profile_check(&profile, false));
}

static void labels_that_stay_are_found_again(void **state)
{
    uint32_t num_sets;

    (void)state;
    for (int64_t tid = 1; tid <= 1000; tid++) {
        for (int64_t i = 0; i < tid; i++)
            add_of_thread(1, tid);
    }
    assert_null(profile_limit_labels(&profile, (size_t)64 << 10));
    num_sets = (uint32_t)table.num_label_sets;
    assert_in_range(num_sets, 100, 900);
    for (uint32_t i = 1; i < num_sets; i++) {
        const struct label_set *set = &table.label_sets[i];
        struct label labels[2];
        uint32_t found;

        assert_int_equal(set->num_labels, 2);
        memcpy(labels, table.labels + set->first, sizeof(labels));
        assert_true(labels[1].num > 400); /* the lighter ones went first */
        assert_null(stack_table_add_label_set(&table, labels, 2, &found));
        assert_int_equal(found, i);
        for (size_t j = 0; j < profile.num_samples; j++) {
            if (profile.samples[j].label_set == i)
                assert_int_equal(profile.samples[j].values[0], labels[1].num);
        }
    }
    assert_int_equal(table.num_label_sets, num_sets);
    add_of_thread(1, 1);
    assert_int_equal(table.num_label_sets, num_sets + 1);
    assert_null(profile_check(&profile, false));
}

static void lines_stay_with_their_locations(void **state)
{
    struct function function = {0};
    struct line lines[2] = {{0, 0}, {0, 0}};
    uint32_t id;

    (void)state;
    assert_null(string_table_add(&table.strings, "f", &function.name));
    assert_null(stack_table_add_function(&table, &function, &id));
    for (uint64_t i = 0; i < 30000; i++)
        add(i, 1, 1);
    for (uint32_t i = 0; i < table.num_locations; i++) {
        lines[0].line = (int64_t)table.locations[i].key.pc;
        lines[1].line = -lines[0].line;
        assert_null(stack_table_set_lines(&table, i, lines, 2));
    }
    assert_null(profile_limit_memory(&profile, 4 * MB));
    assert_true(held_bytes() <= 2 * MB);
    for (uint32_t i = 0; i < table.num_locations; i++) {
        const struct location *location = &table.locations[i];
        if (location->key.reason == REASON_OTHER)
            continue;
        assert_int_equal(location->num_lines, 2);
        assert_true(table.lines[location->first_line].line == (int64_t)location->key.pc);
        assert_true(table.lines[location->first_line + 1].line == -(int64_t)location->key.pc);
    }
}

static void a_limit_below_what_must_stay_keeps_totals(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 1000; i++)
        add(i, 1, 1);
    for (int i = 0; i < 3; i++)
        assert_null(profile_limit_memory(&profile, 1));
    assert_int_equal(profile.num_samples, 1);
    assert_int_equal(table.num_stacks, 1);
    assert_int_equal(profile_total(&profile, 0), 1000);
    assert_int_equal(profile.loss.counts[LOSS_MERGED], 1000);
}

static void time_grows_in_step_with_size(void **state)
{
    uint64_t passed_ns[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        uint64_t num_stacks = i ? 40000 : 10000;
        profile_teardown(state);
        assert_int_equal(profile_setup(state), 0);
        for (uint64_t j = 0; j < num_stacks; j++)
            add(j, 1 + (int64_t)(hash_u64(j) % 1000), 1);
        uint64_t begin_ns = clock_self_cpu_ns();
        assert_null(profile_limit_memory(&profile, held_bytes() - 1));
        passed_ns[i] = clock_self_cpu_ns() - begin_ns;
    }
    /* Four times the stacks: four times the time, were it not for caches and noise. */
    assert_true(passed_ns[1] < passed_ns[0] * 16 + 20000000);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_changes_within_the_limit, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(totals_stay_and_heavy_stacks_survive, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(every_label_set_keeps_its_sum, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(the_rebuilt_table_goes_on_working, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(threads_without_end_lose_labels_but_no_stack, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(labels_that_stay_are_found_again, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(lines_stay_with_their_locations, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(a_limit_below_what_must_stay_keeps_totals, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(time_grows_in_step_with_size, profile_setup,
                                        profile_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
