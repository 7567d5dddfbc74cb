/* Merging: one order over all rings, sideband first, nothing newer than the limit, nothing twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ring_memory.h"
#include "sampler/perf_merge.h"
#include "sampler/perf_rings.h"

#define NUM_CPUS 3
#define MAX_EVENTS 4096

static const struct perf_record_format clock_format = {.sample_type = PERF_RECORD_SAMPLE_TYPE};
static const struct perf_record_format sideband_format = {
    .sample_type = PERF_RECORD_SIDEBAND_SAMPLE_TYPE,
    .is_sideband = true,
};

struct fixture {
    struct ring_memory data[NUM_CPUS];
    struct ring_memory sideband[NUM_CPUS];
    struct perf_merge merge;
    struct event seen[MAX_EVENTS];
    uint64_t weights[MAX_EVENTS]; /* of samples */
    size_t num_seen;
};

static struct fixture *fixture;
static struct record_bytes bytes;

static int set_up(void **state)
{
    (void)state;
    fixture = calloc(1, sizeof(*fixture));
    assert_null(perf_merge_init(&fixture->merge));
    for (size_t i = 0; i < NUM_CPUS; i++) {
        ring_memory_init(&fixture->sideband[i], 8 * i);
        assert_null(perf_merge_add(&fixture->merge, &fixture->sideband[i].ring, &sideband_format));
    }
    for (size_t i = 0; i < NUM_CPUS; i++) {
        ring_memory_init(&fixture->data[i], RING_BYTES - 24 * i);
        assert_null(perf_merge_add(&fixture->merge, &fixture->data[i].ring, &clock_format));
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    perf_merge_deinit(&fixture->merge);
    free(fixture);
    return 0;
}

static void collect(void *context, const struct event *event)
{
    struct fixture *into = context;

    assert_true(into->num_seen < MAX_EVENTS);
    if (event->type == EVENT_SAMPLE)
        into->weights[into->num_seen] = event->sample->weight;
    into->seen[into->num_seen++] = *event;
}

static size_t drain(uint64_t limit_ns)
{
    struct perf_merge_sink sink = {.handler = collect, .handler_context = fixture};

    return perf_merge_drain(&fixture->merge, limit_ns, &sink);
}

static void add_sample(size_t cpu, uint64_t time_ns, uint64_t weight)
{
    record_begin(&bytes, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
    record_u64(&bytes, 0x1000);
    record_u32s(&bytes, 1, 1);
    record_u64(&bytes, time_ns);
    record_u64(&bytes, 1);
    record_u32s(&bytes, (uint32_t)cpu, 0);
    record_u64(&bytes, weight);
    ring_memory_add(&fixture->data[cpu], &bytes);
}

static void add_comm(size_t cpu, uint64_t time_ns)
{
    record_begin(&bytes, PERF_RECORD_COMM, 0);
    record_u32s(&bytes, 1, 1);
    record_string(&bytes, "name");
    record_u32s(&bytes, 1, 1);
    record_u64(&bytes, time_ns);
    ring_memory_add(&fixture->sideband[cpu], &bytes);
}

static void assert_in_order(void)
{
    for (size_t i = 1; i < fixture->num_seen; i++)
        assert_true(fixture->seen[i - 1].time_ns <= fixture->seen[i].time_ns);
}

static void merges_many_rings_by_time(void **state)
{
    uint64_t time_ns[2][NUM_CPUS] = {{0}};
    uint64_t random = 1;

    (void)state;
    for (size_t i = 0; i < 900; i++) {
        size_t cpu = i % NUM_CPUS;

        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        time_ns[i % 2][cpu] += 1 + (random >> 55);
        if (i % 2)
            add_comm(cpu, time_ns[1][cpu]);
        else
            add_sample(cpu, time_ns[0][cpu], i);
    }
    assert_int_equal(drain(UINT64_MAX), 450);
    assert_int_equal(fixture->num_seen, 900);
    assert_in_order();
}

static void puts_sideband_before_samples_of_the_same_time(void **state)
{
    (void)state;
    add_sample(0, 50, 1);
    add_comm(2, 50);
    assert_int_equal(drain(UINT64_MAX), 1);
    assert_int_equal(fixture->seen[0].type, EVENT_COMM);
    assert_int_equal(fixture->seen[1].type, EVENT_SAMPLE);
}

static void leaves_what_is_newer_than_the_limit(void **state)
{
    (void)state;
    add_sample(0, 10, 1);
    add_sample(1, 30, 2);
    add_comm(0, 25);
    assert_int_equal(drain(20), 1);
    assert_int_equal(fixture->num_seen, 1);
    add_comm(1, 22);
    add_sample(0, 26, 3);
    assert_int_equal(drain(40), 2);
    assert_int_equal(fixture->num_seen, 5);
    assert_in_order();
    assert_int_equal(drain(UINT64_MAX), 0);
    assert_int_equal(fixture->num_seen, 5);
}

static void survives_tiny_inversions_within_a_ring(void **state)
{
    (void)state;
    add_comm(0, 100);
    add_comm(0, 98);
    add_sample(1, 99, 1);
    add_sample(1, 101, 2);
    assert_int_equal(drain(UINT64_MAX), 2);
    assert_int_equal(fixture->num_seen, 4);
    assert_in_order();
}

static void counts_malformed_records_and_goes_on(void **state)
{
    (void)state;
    add_sample(0, 10, 1);
    record_begin(&bytes, PERF_RECORD_MMAP2, 0);
    record_u64(&bytes, 1);
    record_u32s(&bytes, 1, 1);
    record_u64(&bytes, 5);
    ring_memory_add(&fixture->sideband[0], &bytes);
    ring_memory_write(&fixture->sideband[1], "\0\0\0\0\0\0\7\0", 8);
    add_sample(0, 20, 2);
    assert_int_equal(drain(UINT64_MAX), 2);
    assert_int_equal(fixture->merge.loss.counts[LOSS_MALFORMED], 2);
    assert_int_equal(fixture->num_seen, 4);
}

static bool accept_even(void *context, struct perf_record *record)
{
    (void)context;
    return record->sample.weight % 2 == 0;
}

static void delivers_only_what_is_accepted(void **state)
{
    struct perf_merge_sink sink = {
        .handler = collect, .handler_context = fixture, .accept = accept_even};

    (void)state;
    for (uint64_t i = 0; i < 10; i++)
        add_sample(0, i + 1, i);
    assert_int_equal(perf_merge_drain(&fixture->merge, UINT64_MAX, &sink), 5);
    assert_int_equal(fixture->weights[4], 8);
}

static void tells_the_rest_of_a_loss_once(void **state)
{
    struct perf_merge_sink sink = {.handler = collect, .handler_context = fixture};

    (void)state;
    record_begin(&bytes, PERF_RECORD_LOST, 0);
    record_u64(&bytes, 1);
    record_u64(&bytes, 7);
    record_u32s(&bytes, 1, 1);
    record_u64(&bytes, 5);
    ring_memory_add(&fixture->sideband[0], &bytes);
    drain(UINT64_MAX);
    perf_merge_deliver_rest(&fixture->merge, LOSS_SIDEBAND, 10, &sink);
    perf_merge_deliver_rest(&fixture->merge, LOSS_SIDEBAND, 10, &sink);
    assert_int_equal(fixture->num_seen, 2);
    assert_int_equal(fixture->seen[0].loss.count, 7);
    assert_int_equal(fixture->seen[1].loss.count, 3);
}

static void sizes_of_rings_stay_within_the_limit(void **state)
{
    static const uint32_t rates[] = {1, 99, 199, 999, 10000};
    static const size_t cpus[] = {1, 2, 8, 64, 256};

    (void)state;
    for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
        for (size_t j = 0; j < sizeof(cpus) / sizeof(*cpus); j++) {
            struct sampler_options options = {.hz = rates[i], .stack_bytes = 32768};
            struct perf_rings_size size = perf_rings_choose_size(&options, cpus[j]);

            assert_true((size.data_bytes + size.sideband_bytes) * cpus[j] <= 64 << 20);
            assert_int_equal(__builtin_popcountll(size.data_bytes), 1);
            assert_int_equal(__builtin_popcountll(size.sideband_bytes), 1);
            assert_true(size.data_bytes >= 65536);
            assert_true(size.sideband_bytes >= 16384);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(merges_many_rings_by_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(puts_sideband_before_samples_of_the_same_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(leaves_what_is_newer_than_the_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(survives_tiny_inversions_within_a_ring, set_up, tear_down),
        cmocka_unit_test_setup_teardown(counts_malformed_records_and_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(delivers_only_what_is_accepted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tells_the_rest_of_a_loss_once, set_up, tear_down),
        cmocka_unit_test(sizes_of_rings_stay_within_the_limit),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
