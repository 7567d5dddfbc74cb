/* Rings: records come out as they went in, around the end too; nonsense is given up, not followed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ring_memory.h"

static uint64_t scratch[PERF_RING_MAX_RECORD_BYTES / 8];

static void add_numbered(struct ring_memory *memory, uint64_t number, size_t num_words)
{
    static struct record_bytes record;

    record_begin(&record, PERF_RECORD_SAMPLE, 0);
    for (size_t i = 0; i < num_words; i++)
        record_u64(&record, number);
    ring_memory_add(memory, &record);
}

static void expect_numbered(struct ring_memory *memory, uint64_t number, size_t num_words)
{
    struct perf_event_header header;
    const uint64_t *words;

    assert_int_equal(perf_ring_front(&memory->ring, &header), 1);
    assert_int_equal(header.size, 8 + 8 * num_words);
    words = perf_ring_front_bytes(&memory->ring, header.size, scratch);
    for (size_t i = 1; i <= num_words; i++) {
        assert_int_equal(words[i], number);
        assert_int_equal(perf_ring_front_word(&memory->ring, 8 * i), number);
    }
    perf_ring_pop(&memory->ring, header.size);
}

static void gives_records_in_place_and_around_the_end(void **state)
{
    static struct ring_memory memory;
    struct perf_event_header header;

    (void)state;
    for (uint64_t start = 0; start < 4096; start += 8) {
        ring_memory_init(&memory, RING_BYTES * 3 - start);
        for (uint64_t number = 1; number <= 4; number++)
            add_numbered(&memory, number, 100 + number);
        assert_true(perf_ring_snapshot(&memory.ring));
        for (uint64_t number = 1; number <= 4; number++)
            expect_numbered(&memory, number, 100 + number);
        assert_int_equal(perf_ring_front(&memory.ring, &header), 0);
        assert_int_equal(memory.page.data_tail, memory.page.data_head);
    }
}

static void reads_no_further_than_the_snapshot(void **state)
{
    static struct ring_memory memory;
    struct perf_event_header header;

    (void)state;
    ring_memory_init(&memory, 0);
    add_numbered(&memory, 1, 3);
    assert_true(perf_ring_snapshot(&memory.ring));
    add_numbered(&memory, 2, 3);
    expect_numbered(&memory, 1, 3);
    assert_int_equal(perf_ring_front(&memory.ring, &header), 0);
    assert_true(perf_ring_snapshot(&memory.ring));
    expect_numbered(&memory, 2, 3);
}

static void gives_room_back_record_by_record(void **state)
{
    static struct ring_memory memory;

    (void)state;
    ring_memory_init(&memory, 0);
    add_numbered(&memory, 1, 3);
    add_numbered(&memory, 2, 3);
    assert_true(perf_ring_snapshot(&memory.ring));
    expect_numbered(&memory, 1, 3);
    assert_int_equal(memory.page.data_tail, 32);
    expect_numbered(&memory, 2, 3);
    assert_int_equal(memory.page.data_tail, 64);
}

/* One record whose header says `size`, though only 16 bytes are there. */
static void assert_given_up(uint16_t size)
{
    static struct ring_memory memory;
    struct perf_event_header header = {.type = PERF_RECORD_SAMPLE, .size = size};
    uint64_t words[2] = {0, 0};

    ring_memory_init(&memory, 64);
    memcpy(words, &header, 8);
    ring_memory_write(&memory, words, sizeof(words));
    assert_true(perf_ring_snapshot(&memory.ring));
    assert_int_equal(perf_ring_front(&memory.ring, &header), -1);
    assert_int_equal(perf_ring_front(&memory.ring, &header), 0);
    assert_int_equal(memory.page.data_tail, memory.page.data_head);
}

static void gives_up_on_sizes_that_make_no_sense(void **state)
{
    (void)state;
    assert_given_up(0);
    assert_given_up(4);
    assert_given_up(9);
    assert_given_up(24);
    assert_given_up(65528);
    assert_given_up(65535);
}

static void gives_up_on_a_head_that_makes_no_sense(void **state)
{
    static const uint64_t heads[] = {RING_BYTES + 8, 3, UINT64_MAX, 1ULL << 63};
    static struct ring_memory memory;
    struct perf_event_header header;

    (void)state;
    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        ring_memory_init(&memory, 0);
        memory.page.data_head = heads[i];
        assert_false(perf_ring_snapshot(&memory.ring));
        assert_int_equal(perf_ring_front(&memory.ring, &header), 0);
        memory.page.data_head &= ~7ULL;
        add_numbered(&memory, 7, 2);
        assert_true(perf_ring_snapshot(&memory.ring));
        expect_numbered(&memory, 7, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_records_in_place_and_around_the_end),
        cmocka_unit_test(reads_no_further_than_the_snapshot),
        cmocka_unit_test(gives_room_back_record_by_record),
        cmocka_unit_test(gives_up_on_sizes_that_make_no_sense),
        cmocka_unit_test(gives_up_on_a_head_that_makes_no_sense),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
