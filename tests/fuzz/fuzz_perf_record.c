/* Ring bytes: any bytes in two rings must come out as events that stay within their bounds.
 *
 * Byte 0 picks the sample type, byte 1 where in the ring the bytes begin (so that they wrap
 * around), bytes 2-3 how many of the rest go into the sideband ring; the rest is the rings'
 * content. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sampler/perf_merge.h"

#define RING_BYTES 65536

static struct perf_event_mmap_page pages[2];
static uint64_t data[2][RING_BYTES / 8];
static volatile uint64_t sink_value;

static void touch(const void *bytes, size_t num_bytes)
{
    for (size_t i = 0; i < num_bytes; i++)
        sink_value += ((const uint8_t *)bytes)[i];
}

static void touch_event(void *context, const struct event *event)
{
    (void)context;
    if (event->type == EVENT_MMAP) {
        touch(event->mmap.path, strlen(event->mmap.path));
        if (event->mmap.start >= event->mmap.limit)
            abort();
    } else if (event->type == EVENT_COMM) {
        touch(event->comm.comm, strlen(event->comm.comm));
    } else if (event->type == EVENT_LOSS) {
        if (event->loss.kind >= LOSS_NUM_KINDS)
            abort();
    } else if (event->type == EVENT_SAMPLE) {
        const struct sample *sample = event->sample;

        touch(sample->kernel_pcs, sample->num_kernel_pcs * sizeof(*sample->kernel_pcs));
        touch(sample->stack, sample->stack_bytes);
        if (sample->heap)
            touch(sample->heap, sizeof(*sample->heap));
        if (sample->stack_bytes > sample->stack_asked_bytes)
            abort();
    }
}

static void fill_ring(size_t index, uint64_t start, const uint8_t *bytes, size_t num_bytes,
                      struct perf_ring *ring)
{
    memset(&pages[index], 0, sizeof(pages[index]));
    pages[index].data_tail = start;
    pages[index].data_head = start + num_bytes;
    for (size_t i = 0; i < num_bytes; i++)
        ((uint8_t *)data[index])[(start + i) % RING_BYTES] = bytes[i];
    perf_ring_init_memory(&pages[index], data[index], RING_BYTES, ring);
}

static void drain(struct perf_ring rings[2], uint8_t selector)
{
    static const uint64_t extras[] = {
        0, PERF_SAMPLE_REGS_USER, PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER,
        PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER};
    struct perf_record_format formats[2] = {
        {.sample_type = PERF_RECORD_SIDEBAND_SAMPLE_TYPE, .is_sideband = true},
        {.sample_type = PERF_RECORD_SAMPLE_TYPE | extras[selector % 4], .stack_bytes = 32768},
    };
    const uint64_t heap_type = PERF_RECORD_BPF_SAMPLE_TYPE | extras[selector % 4];
    struct perf_merge_sink sink = {.handler = touch_event};
    struct perf_merge merge;
    struct error *err = perf_merge_init(&merge);

    if (selector & 8)
        formats[1].sample_type = heap_type;
    for (size_t i = 0; i < 2 && !err; i++)
        err = perf_merge_add(&merge, &rings[i], &formats[i]);
    if (!err) {
        perf_merge_drain(&merge, selector & 4 ? 1000 : UINT64_MAX, &sink);
        perf_merge_drain(&merge, UINT64_MAX, &sink);
    }
    error_destroy(err);
    perf_merge_deinit(&merge);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    struct perf_ring rings[2];
    uint64_t start;
    size_t num_sideband;

    if (num_bytes < 4 || num_bytes > RING_BYTES)
        return 0;
    start = RING_BYTES - 8 * (uint64_t)bytes[1];
    num_sideband = ((size_t)bytes[2] | (size_t)bytes[3] << 8) % (num_bytes - 3);
    fill_ring(0, start, bytes + 4, num_sideband, &rings[0]);
    fill_ring(1, start, bytes + 4 + num_sideband, num_bytes - 4 - num_sideband, &rings[1]);
    drain(rings, bytes[0]);
    return 0;
}
