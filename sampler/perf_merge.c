#include "sampler/perf_merge.h"

#include <stdlib.h>

#include "base/array.h"
#include "base/cleanup.h"

struct error *perf_merge_init(struct perf_merge *merge)
{
    *merge = (struct perf_merge){.scratch = malloc(PERF_RING_MAX_RECORD_BYTES)};
    return merge->scratch ? NULL : &error_no_memory;
}

void perf_merge_deinit(struct perf_merge *merge)
{
    free(merge->streams);
    free(merge->heap);
    free(merge->scratch);
    *merge = (struct perf_merge){0};
}

struct error *perf_merge_add(struct perf_merge *merge, struct perf_ring *ring,
                             const struct perf_record_format *format)
{
    size_t *heap;

    RETURN_IF_ERROR(array_reserve(&merge->streams, &merge->capacity, merge->num_streams + 1,
                                  sizeof(*merge->streams)));
    heap = realloc(merge->heap, (merge->num_streams + 1) * sizeof(*heap));
    if (!heap)
        return &error_no_memory;
    merge->heap = heap;
    merge->streams[merge->num_streams++] = (struct perf_stream){.ring = ring, .format = format};
    return NULL;
}

struct error *perf_merge_add_rings(struct perf_merge *merge, struct perf_rings *rings,
                                   const struct perf_record_format *data_format,
                                   const struct perf_record_format *sideband_format)
{
    for (size_t i = 0; i < rings->num_cpus; i++) {
        if (rings->cpus[i].sideband.fd >= 0)
            RETURN_IF_ERROR(perf_merge_add(merge, &rings->cpus[i].sideband, sideband_format));
    }
    for (size_t i = 0; i < rings->num_cpus; i++) {
        if (rings->cpus[i].data.fd >= 0)
            RETURN_IF_ERROR(perf_merge_add(merge, &rings->cpus[i].data, data_format));
    }
    return NULL;
}

/* The order of the heap: by time, sideband first, then by ring, so that equal input gives equal
 * output. */
static bool is_before(const struct perf_merge *merge, size_t left, size_t right)
{
    const struct perf_stream *a = &merge->streams[left];
    const struct perf_stream *b = &merge->streams[right];

    if (a->key_ns != b->key_ns)
        return a->key_ns < b->key_ns;
    if (a->format->is_sideband != b->format->is_sideband)
        return a->format->is_sideband;
    return left < right;
}

/* Restores the heap from `position` downward after its stream's key grew. */
static void sift_down(struct perf_merge *merge, size_t position)
{
    size_t stream = merge->heap[position];

    for (;;) {
        size_t child = 2 * position + 1;

        if (child >= merge->heap_length)
            break;
        if (child + 1 < merge->heap_length &&
            is_before(merge, merge->heap[child + 1], merge->heap[child]))
            child++;
        if (!is_before(merge, merge->heap[child], stream))
            break;
        merge->heap[position] = merge->heap[child];
        position = child;
    }
    merge->heap[position] = stream;
}

static void deliver(struct perf_merge *merge, const struct event *event,
                    const struct perf_merge_sink *sink)
{
    merge->last_ns = event->time_ns;
    if (event->type == EVENT_LOSS && event->loss.kind < LOSS_NUM_KINDS)
        merge->loss.counts[event->loss.kind] += event->loss.count;
    sink->handler(sink->handler_context, event);
}

void perf_merge_deliver_loss(struct perf_merge *merge, enum loss_kind kind, uint64_t count,
                             const struct perf_merge_sink *sink)
{
    struct event event = {
        .type = EVENT_LOSS,
        .time_ns = merge->last_ns,
        .loss = {.kind = kind, .count = count},
    };

    deliver(merge, &event, sink);
}

void perf_merge_deliver_rest(struct perf_merge *merge, enum loss_kind kind, uint64_t total,
                             const struct perf_merge_sink *sink)
{
    if (total > merge->loss.counts[kind])
        perf_merge_deliver_loss(merge, kind, total - merge->loss.counts[kind], sink);
}

/* Looks at the first record of a stream. Returns: false when there is none up to the limit. */
static bool look_at_front(struct perf_merge *merge, struct perf_stream *stream,
                          const struct perf_merge_sink *sink)
{
    int state = perf_ring_front(stream->ring, &stream->header);
    uint64_t time_ns;
    size_t offset;

    if (state < 0)
        perf_merge_deliver_loss(merge, LOSS_MALFORMED, 1, sink);
    if (state <= 0)
        return false;
    offset = perf_record_time_offset(&stream->header, stream->format);
    time_ns = offset ? perf_ring_front_word(stream->ring, offset) : 0;
    if (time_ns > stream->key_ns)
        stream->key_ns = time_ns;
    return true;
}

/* Fixes how far all rings are read, and builds the heap of those that hold something. Sideband
 * rings were added first and are fixed first: a mapping made before a sample that we see is seen,
 * too. */
static void begin_round(struct perf_merge *merge, const struct perf_merge_sink *sink)
{
    merge->heap_length = 0;
    for (size_t i = 0; i < merge->num_streams; i++) {
        if (!perf_ring_snapshot(merge->streams[i].ring))
            perf_merge_deliver_loss(merge, LOSS_MALFORMED, 1, sink);
    }
    for (size_t i = 0; i < merge->num_streams; i++) {
        if (look_at_front(merge, &merge->streams[i], sink))
            merge->heap[merge->heap_length++] = i;
    }
    for (size_t position = merge->heap_length / 2; position-- > 0;)
        sift_down(merge, position);
}

/* Delivers the first record of `stream`. Returns: true when it was a sample. */
static bool deliver_front(struct perf_merge *merge, struct perf_stream *stream,
                          const struct perf_merge_sink *sink)
{
    size_t num_bytes = stream->header.size;
    const void *bytes = perf_ring_front_bytes(stream->ring, num_bytes, merge->scratch);
    struct perf_record record;
    enum perf_record_result result = perf_record_decode(bytes, num_bytes, stream->format, &record);

    if (result == PERF_RECORD_BAD)
        perf_merge_deliver_loss(merge, LOSS_MALFORMED, 1, sink);
    if (result != PERF_RECORD_EVENT)
        return false;
    if (sink->accept && !sink->accept(sink->accept_context, &record))
        return false;
    if (record.event.time_ns < merge->last_ns)
        record.event.time_ns = merge->last_ns; /* a tiny inversion; the sample keeps its own time */
    deliver(merge, &record.event, sink);
    return record.event.type == EVENT_SAMPLE;
}

size_t perf_merge_drain(struct perf_merge *merge, uint64_t limit_ns,
                        const struct perf_merge_sink *sink)
{
    size_t num_samples = 0;

    begin_round(merge, sink);
    while (merge->heap_length > 0) {
        struct perf_stream *stream = &merge->streams[merge->heap[0]];

        if (stream->key_ns > limit_ns)
            break;
        num_samples += deliver_front(merge, stream, sink);
        perf_ring_pop(stream->ring, stream->header.size);
        if (!look_at_front(merge, stream, sink))
            merge->heap[0] = merge->heap[--merge->heap_length];
        if (merge->heap_length > 0)
            sift_down(merge, 0);
    }
    return num_samples;
}
