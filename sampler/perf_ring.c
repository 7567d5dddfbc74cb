#include "sampler/perf_ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"

struct error *perf_ring_init(int fd, size_t data_bytes, struct perf_ring *ring_ret)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t mapping_bytes = page_bytes + data_bytes;
    void *mapping = mmap(NULL, mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (mapping == MAP_FAILED)
        return error_from_errno(errno, "raise the limit of locked memory: ulimit -l unlimited",
                                "can't map a perf ring of %zu KB", data_bytes / 1024);
    perf_ring_init_memory(mapping, (uint8_t *)mapping + page_bytes, data_bytes, ring_ret);
    ring_ret->fd = fd;
    ring_ret->mapping = mapping;
    ring_ret->mapping_bytes = mapping_bytes;
    return NULL;
}

void perf_ring_init_memory(struct perf_event_mmap_page *page, void *data, size_t data_bytes,
                           struct perf_ring *ring_ret)
{
    *ring_ret = (struct perf_ring){
        .fd = -1,
        .page = page,
        .data = data,
        .data_bytes = data_bytes,
        .tail = page->data_tail,
        .limit = page->data_tail,
    };
}

void perf_ring_deinit(struct perf_ring *ring)
{
    if (ring->mapping)
        munmap(ring->mapping, ring->mapping_bytes);
    if (ring->fd >= 0)
        close(ring->fd);
    *ring = (struct perf_ring){.fd = -1};
}

/* Publishes the tail: what lies before it may be overwritten from now on. */
static void publish_tail(struct perf_ring *ring)
{
    /* Release: our reads of the record come before the kernel may overwrite it
     * (linux/perf_event.h, comment at data_tail). */
    __atomic_store_n(&ring->page->data_tail, ring->tail, __ATOMIC_RELEASE);
}

bool perf_ring_snapshot(struct perf_ring *ring)
{
    /* Acquire: pairs with the kernel's barrier before it publishes data_head. */
    uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);

    if (head - ring->tail <= ring->data_bytes && head % 8 == 0 && ring->tail % 8 == 0) {
        ring->limit = head;
        return true;
    }
    ring->tail = head & ~7ULL;
    ring->limit = ring->tail;
    publish_tail(ring);
    return false;
}

uint64_t perf_ring_front_word(const struct perf_ring *ring, size_t offset)
{
    uint64_t word;

    /* Words are aligned and the ring is a power of two: a word never wraps around. */
    memcpy(&word, ring->data + ((ring->tail + offset) & (ring->data_bytes - 1)), sizeof(word));
    return word;
}

int perf_ring_front(struct perf_ring *ring, struct perf_event_header *header_ret)
{
    uint64_t available = ring->limit - ring->tail;
    struct perf_event_header header;
    uint64_t word;

    if (available == 0)
        return 0;
    word = perf_ring_front_word(ring, 0);
    memcpy(&header, &word, sizeof(header));
    if (header.size < sizeof(header) || header.size % 8 != 0 || header.size > available) {
        perf_ring_pop(ring, available);
        return -1;
    }
    *header_ret = header;
    return 1;
}

const void *perf_ring_front_bytes(const struct perf_ring *ring, size_t num_bytes, void *scratch)
{
    uint64_t start = ring->tail & (ring->data_bytes - 1);
    uint64_t before_end = ring->data_bytes - start;

    if (num_bytes <= before_end)
        return ring->data + start;
    memcpy(scratch, ring->data + start, before_end);
    memcpy((uint8_t *)scratch + before_end, ring->data, num_bytes - before_end);
    return scratch;
}

void perf_ring_pop(struct perf_ring *ring, size_t num_bytes)
{
    ring->tail += num_bytes;
    publish_tail(ring);
}
