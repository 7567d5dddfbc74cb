/* Records: each known layout comes out field by field; whatever is cut short is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "profile/loss.h"
#include "ring_memory.h"
#include "sampler/bpf/heap.h"

static const struct perf_record_format clock_format = {
    .sample_type = PERF_RECORD_SAMPLE_TYPE | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER |
                   PERF_SAMPLE_STACK_USER,
    .stack_bytes = 64,
};
static const struct perf_record_format heap_format = {
    .sample_type = PERF_RECORD_BPF_SAMPLE_TYPE | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER,
    .stack_bytes = 64,
};
static const struct perf_record_format sideband_format = {
    .sample_type = PERF_RECORD_SIDEBAND_SAMPLE_TYPE,
    .is_sideband = true,
};

static struct record_bytes bytes;
static struct perf_record record;

static enum perf_record_result decode(const struct perf_record_format *format)
{
    size_t num_bytes = record_end(&bytes);

    return perf_record_decode(bytes.words, num_bytes, format, &record);
}

/* Every shorter form of the record must be refused, and none may be read past its end (ASan). */
static void assert_no_prefix_decodes(const struct perf_record_format *format)
{
    size_t num_words = bytes.num_words;

    while (--num_words >= 1) {
        uint64_t *copy = malloc(num_words * 8);

        bytes.num_words = num_words;
        record_end(&bytes);
        memcpy(copy, bytes.words, num_words * 8);
        assert_int_not_equal(perf_record_decode(copy, num_words * 8, format, &record),
                             PERF_RECORD_EVENT);
        free(copy);
    }
}

static void begin_sample(uint16_t misc)
{
    record_begin(&bytes, PERF_RECORD_SAMPLE, misc);
    record_u64(&bytes, 0x401234);  /* ip */
    record_u32s(&bytes, 10, 11);   /* pid, tid */
    record_u64(&bytes, 123456789); /* time */
    record_u64(&bytes, 77);        /* id */
    record_u32s(&bytes, 3, 0);     /* cpu */
    record_u64(&bytes, 10101010);  /* period */
}

static void add_regs(uint64_t abi)
{
    /* ax bx cx dx si di bp sp ip r8..r15, each 100 + its DWARF number */
    static const uint8_t dwarf[] = {0, 3, 2, 1, 4, 5, 6, 7, 16, 8, 9, 10, 11, 12, 13, 14, 15};

    record_u64(&bytes, abi);
    for (size_t i = 0; i < 17; i++)
        record_u64(&bytes, 100 + dwarf[i]);
}

static void add_stack(uint64_t num_bytes, uint64_t num_copied)
{
    record_u64(&bytes, num_bytes);
    for (size_t i = 0; i < num_bytes / 8; i++)
        record_u64(&bytes, 0xabc0 + i);
    record_u64(&bytes, num_copied);
}

static void reads_a_sample_in_user_mode(void **state)
{
    (void)state;
    begin_sample(PERF_RECORD_MISC_USER);
    record_u64(&bytes, 0); /* no kernel callchain */
    add_regs(PERF_SAMPLE_REGS_ABI_64);
    add_stack(64, 40);
    assert_int_equal(decode(&clock_format), PERF_RECORD_EVENT);
    assert_int_equal(record.event.type, EVENT_SAMPLE);
    assert_ptr_equal(record.event.sample, &record.sample);
    assert_int_equal(record.event.pid, 10);
    assert_int_equal(record.event.tid, 11);
    assert_int_equal(record.event.time_ns, 123456789);
    assert_int_equal(record.source_id, 77);
    assert_int_equal(record.sample.pc, 0x401234);
    assert_int_equal(record.sample.cpu, 3);
    assert_int_equal(record.sample.weight, 10101010);
    assert_false(record.sample.in_kernel);
    assert_true(record.sample.has_user_regs);
    assert_false(record.sample.is_32bit);
    for (uint64_t i = 0; i < SAMPLE_NUM_REGS; i++)
        assert_int_equal(record.sample.regs[i], 100 + i);
    assert_int_equal(record.sample.stack_bytes, 40);
    assert_int_equal(record.sample.stack_asked_bytes, 64);
    assert_int_equal(((const uint64_t *)record.sample.stack)[1], 0xabc1);
    assert_null(record.sample.kernel_pcs);
    assert_no_prefix_decodes(&clock_format);
}

static void reads_a_kernel_callchain_without_its_markers(void **state)
{
    (void)state;
    begin_sample(PERF_RECORD_MISC_KERNEL);
    record_u64(&bytes, 5);
    record_u64(&bytes, (uint64_t)PERF_CONTEXT_KERNEL);
    record_u64(&bytes, 0xffffffff81000010);
    record_u64(&bytes, 0xffffffff81000020);
    record_u64(&bytes, (uint64_t)PERF_CONTEXT_USER);
    record_u64(&bytes, 0x401234);
    add_regs(PERF_SAMPLE_REGS_ABI_64);
    add_stack(64, 64);
    assert_int_equal(decode(&clock_format), PERF_RECORD_EVENT);
    assert_true(record.sample.in_kernel);
    assert_int_equal(record.sample.num_kernel_pcs, 2);
    assert_int_equal(record.sample.kernel_pcs[0], 0xffffffff81000010);
    assert_int_equal(record.sample.kernel_pcs[1], 0xffffffff81000020);
    assert_no_prefix_decodes(&clock_format);
}

static void reads_samples_without_user_state(void **state)
{
    (void)state;
    begin_sample(PERF_RECORD_MISC_KERNEL);
    record_u64(&bytes, 0);
    record_u64(&bytes, PERF_SAMPLE_REGS_ABI_NONE);
    record_u64(&bytes, 0); /* no stack: no dyn_size either */
    assert_int_equal(decode(&clock_format), PERF_RECORD_EVENT);
    assert_false(record.sample.has_user_regs);
    assert_null(record.sample.stack);
    assert_int_equal(record.sample.stack_bytes, 0);

    begin_sample(PERF_RECORD_MISC_USER);
    record_u64(&bytes, 0);
    add_regs(PERF_SAMPLE_REGS_ABI_32);
    add_stack(64, 0);
    assert_int_equal(decode(&clock_format), PERF_RECORD_EVENT);
    assert_true(record.sample.is_32bit);
    assert_null(record.sample.stack);
}

static void refuses_lengths_that_lie(void **state)
{
    (void)state;
    begin_sample(PERF_RECORD_MISC_USER);
    record_u64(&bytes, UINT64_MAX / 8 + 2); /* callchain: times 8 it would be small again */
    add_regs(PERF_SAMPLE_REGS_ABI_64);
    add_stack(64, 64);
    assert_int_equal(decode(&clock_format), PERF_RECORD_BAD);

    begin_sample(PERF_RECORD_MISC_USER);
    record_u64(&bytes, 0);
    add_regs(PERF_SAMPLE_REGS_ABI_64);
    add_stack(64, 65);
    assert_int_equal(decode(&clock_format), PERF_RECORD_BAD);

    begin_sample(PERF_RECORD_MISC_USER);
    record_u64(&bytes, 0);
    add_regs(PERF_SAMPLE_REGS_ABI_64);
    record_u64(&bytes, UINT64_MAX);
    record_u64(&bytes, 0);
    assert_int_equal(decode(&clock_format), PERF_RECORD_BAD);
}

static void add_sideband_trailer(uint64_t time_ns)
{
    record_u32s(&bytes, 10, 11);
    record_u64(&bytes, time_ns);
}

static void add_mmap2(uint64_t start, uint64_t num_bytes, const char *path)
{
    record_begin(&bytes, PERF_RECORD_MMAP2, PERF_RECORD_MISC_USER);
    record_u32s(&bytes, 10, 11);
    record_u64(&bytes, start);
    record_u64(&bytes, num_bytes);
    record_u64(&bytes, 0x1000);
    record_u32s(&bytes, 8, 1); /* device */
    record_u64(&bytes, 4711);  /* inode */
    record_u64(&bytes, 0);
    record_u32s(&bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE);
    record_string(&bytes, path);
    add_sideband_trailer(99);
}

static void reads_mmap2(void **state)
{
    (void)state;
    add_mmap2(0x400000, 0x2000, "/usr/bin/with a blank");
    assert_int_equal(decode(&sideband_format), PERF_RECORD_EVENT);
    assert_int_equal(record.event.type, EVENT_MMAP);
    assert_int_equal(record.event.pid, 10);
    assert_int_equal(record.event.time_ns, 99);
    assert_int_equal(record.event.mmap.start, 0x400000);
    assert_int_equal(record.event.mmap.limit, 0x402000);
    assert_int_equal(record.event.mmap.file_off, 0x1000);
    assert_int_equal(record.event.mmap.dev_major, 8);
    assert_int_equal(record.event.mmap.dev_minor, 1);
    assert_int_equal(record.event.mmap.inode, 4711);
    assert_int_equal(record.event.mmap.prot, PROT_READ | PROT_EXEC);
    assert_string_equal(record.event.mmap.path, "/usr/bin/with a blank");
}

static void refuses_mappings_that_make_no_sense(void **state)
{
    (void)state;
    add_mmap2(UINT64_MAX - 100, 200, "/x");
    assert_int_equal(decode(&sideband_format), PERF_RECORD_BAD);
    add_mmap2(0x400000, 0, "/x");
    assert_int_equal(decode(&sideband_format), PERF_RECORD_BAD);
    add_mmap2(0x400000, 4096, "12345678");
    bytes.words[bytes.num_words - 3] = 0x4141414141414141; /* the NUL is gone */
    assert_int_equal(decode(&sideband_format), PERF_RECORD_BAD);
}

static void reads_names_forks_and_ends(void **state)
{
    (void)state;
    record_begin(&bytes, PERF_RECORD_COMM, PERF_RECORD_MISC_COMM_EXEC);
    record_u32s(&bytes, 20, 21);
    record_string(&bytes, "na\xffme");
    add_sideband_trailer(5);
    assert_int_equal(decode(&sideband_format), PERF_RECORD_EVENT);
    assert_int_equal(record.event.type, EVENT_COMM);
    assert_string_equal(record.event.comm.comm, "na\xffme");
    assert_true(record.event.comm.is_exec);
    assert_int_equal(record.event.tid, 21);

    for (int is_fork = 0; is_fork < 2; is_fork++) {
        record_begin(&bytes, is_fork ? PERF_RECORD_FORK : PERF_RECORD_EXIT, 0);
        record_u32s(&bytes, 30, 20);
        record_u32s(&bytes, 31, 21);
        record_u64(&bytes, 6);
        add_sideband_trailer(6);
        assert_int_equal(decode(&sideband_format), PERF_RECORD_EVENT);
        assert_int_equal(record.event.type, is_fork ? EVENT_FORK : EVENT_EXIT);
        assert_int_equal(record.event.pid, 30);
        assert_int_equal(record.event.tid, 31);
        assert_int_equal(record.event.time_ns, 6);
        if (is_fork) {
            assert_int_equal(record.event.fork.parent_pid, 20);
            assert_int_equal(record.event.fork.parent_tid, 21);
        }
    }
}

static void add_clock_trailer(void)
{
    record_u32s(&bytes, 10, 11);
    record_u64(&bytes, 4242); /* time */
    record_u64(&bytes, 77);   /* id */
    record_u32s(&bytes, 3, 0);
}

static void counts_losses_by_kind(void **state)
{
    (void)state;
    record_begin(&bytes, PERF_RECORD_LOST, 0);
    record_u64(&bytes, 77);
    record_u64(&bytes, 12);
    add_clock_trailer();
    assert_int_equal(decode(&clock_format), PERF_RECORD_EVENT);
    assert_int_equal(record.event.type, EVENT_LOSS);
    assert_int_equal(record.event.loss.kind, LOSS_LOST);
    assert_int_equal(record.event.loss.count, 12);
    assert_int_equal(record.event.time_ns, 4242);

    record_begin(&bytes, PERF_RECORD_LOST, 0);
    record_u64(&bytes, 77);
    record_u64(&bytes, 3);
    add_sideband_trailer(1);
    assert_int_equal(decode(&sideband_format), PERF_RECORD_EVENT);
    assert_int_equal(record.event.loss.kind, LOSS_SIDEBAND);

    record_begin(&bytes, PERF_RECORD_LOST_SAMPLES, 0);
    record_u64(&bytes, 9);
    add_clock_trailer();
    assert_int_equal(decode(&clock_format), PERF_RECORD_EVENT);
    assert_int_equal(record.event.loss.count, 9);

    record_begin(&bytes, PERF_RECORD_THROTTLE, 0);
    for (int i = 0; i < 3; i++)
        record_u64(&bytes, 1);
    add_clock_trailer();
    assert_int_equal(decode(&clock_format), PERF_RECORD_EVENT);
    assert_int_equal(record.event.loss.kind, LOSS_THROTTLED);
    assert_int_equal(record.event.loss.count, 1);
}

static void passes_over_records_it_does_not_know(void **state)
{
    (void)state;
    record_begin(&bytes, PERF_RECORD_UNTHROTTLE, 0);
    for (int i = 0; i < 3; i++)
        record_u64(&bytes, 1);
    add_clock_trailer();
    assert_int_equal(decode(&clock_format), PERF_RECORD_NOTHING);
    record_begin(&bytes, 9999, 0);
    add_clock_trailer();
    assert_int_equal(decode(&clock_format), PERF_RECORD_NOTHING);
    record_begin(&bytes, 9999, 0);
    assert_int_equal(decode(&clock_format), PERF_RECORD_BAD);
}

/* As the kernel pads it: the size shares a word with the first half of the first number. */
static void add_raw(uint32_t size)
{
    const struct heap_bpf_record raw = {.id = 0x1122334455667788,
                                        .size = 4096,
                                        .rate = 524288,
                                        .address = 0x7f00,
                                        .probe_pc = 0x98};
    uint32_t halves[1 + HEAP_BPF_RAW_BYTES / 4] = {size};

    memcpy(&halves[1], &raw, sizeof(raw));
    for (size_t i = 0; i < sizeof(halves) / sizeof(halves[0]); i += 2)
        record_u32s(&bytes, halves[i], halves[i + 1]);
}

static void begin_heap_sample(uint32_t raw_size)
{
    record_begin(&bytes, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
    record_u64(&bytes, 0x401234);  /* ip */
    record_u32s(&bytes, 10, 11);   /* pid, tid */
    record_u64(&bytes, 123456789); /* time */
    record_u64(&bytes, 77);        /* id */
    record_u32s(&bytes, 3, 0);     /* cpu */
    add_raw(raw_size);
}

static void reads_a_sampled_allocation(void **state)
{
    (void)state;
    begin_heap_sample(HEAP_BPF_RAW_BYTES);
    add_regs(2);
    add_stack(64, 64);
    assert_int_equal(decode(&heap_format), PERF_RECORD_EVENT);
    assert_ptr_equal(record.sample.heap, &record.heap);
    assert_int_equal(record.heap.id, 0x1122334455667788);
    assert_int_equal(record.heap.size_bytes, 4096);
    assert_int_equal(record.heap.rate_bytes, 524288);
    assert_int_equal(record.heap.address, 0x7f00);
    assert_int_equal(record.heap.probe_pc, 0x98);
    assert_int_equal(record.sample.regs[SAMPLE_REG_IP], 100 + SAMPLE_REG_IP);
    assert_int_equal(record.sample.stack_bytes, 64);
    assert_int_equal(record.event.time_ns, 123456789);
    assert_no_prefix_decodes(&heap_format);
}

static void refuses_raw_data_of_another_size(void **state)
{
    (void)state;
    for (uint32_t size = 0; size < 100; size++) {
        begin_heap_sample(size);
        add_regs(2);
        add_stack(64, 64);
        assert_int_equal(decode(&heap_format),
                         size == HEAP_BPF_RAW_BYTES ? PERF_RECORD_EVENT : PERF_RECORD_BAD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_sample_in_user_mode),
        cmocka_unit_test(reads_a_kernel_callchain_without_its_markers),
        cmocka_unit_test(reads_samples_without_user_state),
        cmocka_unit_test(refuses_lengths_that_lie),
        cmocka_unit_test(reads_mmap2),
        cmocka_unit_test(refuses_mappings_that_make_no_sense),
        cmocka_unit_test(reads_names_forks_and_ends),
        cmocka_unit_test(counts_losses_by_kind),
        cmocka_unit_test(passes_over_records_it_does_not_know),
        cmocka_unit_test(reads_a_sampled_allocation),
        cmocka_unit_test(refuses_raw_data_of_another_size),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
