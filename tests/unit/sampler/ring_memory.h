/* Rings made by hand: bytes as the kernel would write them, for tests. */
#ifndef TESTS_RING_MEMORY_H
#define TESTS_RING_MEMORY_H

#include <linux/perf_event.h>
#include <stdint.h>
#include <string.h>

#include "sampler/perf_record.h"
#include "sampler/perf_ring.h"

#define RING_BYTES 65536

struct ring_memory {
    struct perf_event_mmap_page page;
    uint64_t data[RING_BYTES / 8];
    struct perf_ring ring;
};

/* A record under construction. */
struct record_bytes {
    uint64_t words[8192];
    size_t num_words; /* header included */
};

static inline void record_begin(struct record_bytes *record, uint32_t type, uint16_t misc)
{
    struct perf_event_header header = {.type = type, .misc = misc};

    memset(record, 0, sizeof(*record));
    memcpy(record->words, &header, 8);
    record->num_words = 1;
}

static inline void record_u64(struct record_bytes *record, uint64_t value)
{
    record->words[record->num_words++] = value;
}

static inline void record_u32s(struct record_bytes *record, uint32_t first, uint32_t second)
{
    record_u64(record, first | (uint64_t)second << 32);
}

static inline void record_string(struct record_bytes *record, const char *string)
{
    size_t num_bytes = strlen(string) + 1;

    memcpy(&record->words[record->num_words], string, num_bytes);
    record->num_words += (num_bytes + 7) / 8;
}

/* Sets the size in the header. Returns: the size. */
static inline size_t record_end(struct record_bytes *record)
{
    struct perf_event_header header;

    memcpy(&header, record->words, 8);
    header.size = (uint16_t)(record->num_words * 8);
    memcpy(record->words, &header, 8);
    return header.size;
}

static inline void ring_memory_init(struct ring_memory *memory, uint64_t start)
{
    memset(memory, 0, sizeof(*memory));
    memory->page.data_head = start;
    memory->page.data_tail = start;
    perf_ring_init_memory(&memory->page, memory->data, RING_BYTES, &memory->ring);
}

/* Writes bytes as the kernel does, around the end if need be. */
static inline void ring_memory_write(struct ring_memory *memory, const void *bytes,
                                     size_t num_bytes)
{
    for (size_t i = 0; i < num_bytes; i++)
        ((uint8_t *)memory->data)[(memory->page.data_head + i) % RING_BYTES] =
            ((const uint8_t *)bytes)[i];
    memory->page.data_head += num_bytes;
}

static inline void ring_memory_add(struct ring_memory *memory, struct record_bytes *record)
{
    size_t num_bytes = record_end(record);

    ring_memory_write(memory, record->words, num_bytes);
}

#endif
