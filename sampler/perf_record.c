#include "sampler/perf_record.h"

#include <string.h>

#include "profile/loss.h"
#include "sampler/bpf/heap.h"

/* Since Linux 5.12 and 3.x; spelt out because older headers lack one or the other. */
#define MISC_CPUMODE_MASK 7u
#define MISC_CPUMODE_KERNEL 1u
#define MISC_COMM_EXEC (1u << 13)
#define MISC_MMAP_BUILD_ID (1u << 14)

/* What is left to read of a record. */
struct cursor {
    const uint8_t *position;
    size_t num_left;
};

/* Reads one word. Returns: false when the record is too short. */
static bool read_u64(struct cursor *cursor, uint64_t *value_ret)
{
    if (cursor->num_left < sizeof(*value_ret))
        return false;
    memcpy(value_ret, cursor->position, sizeof(*value_ret));
    cursor->position += sizeof(*value_ret);
    cursor->num_left -= sizeof(*value_ret);
    return true;
}

/* Reads two 32-bit values that share a word. */
static bool read_u32_pair(struct cursor *cursor, uint32_t *first_ret, uint32_t *second_ret)
{
    uint64_t word;

    if (!read_u64(cursor, &word))
        return false;
    *first_ret = (uint32_t)word;
    *second_ret = (uint32_t)(word >> 32);
    return true;
}

/* Steps over `num_bytes` bytes. bytes_ret: where they are. */
static bool read_bytes(struct cursor *cursor, uint64_t num_bytes, const uint8_t **bytes_ret)
{
    if (num_bytes > cursor->num_left)
        return false;
    *bytes_ret = cursor->position;
    cursor->position += num_bytes;
    cursor->num_left -= num_bytes;
    return true;
}

/* Takes the rest of the record as a NUL-terminated string. Returns: NULL when it has no NUL. */
static const char *read_string(struct cursor *cursor)
{
    const char *string = (const char *)cursor->position;

    return memchr(string, '\0', cursor->num_left) ? string : NULL;
}

/* Bytes of the fields that sample_id_all puts behind every record that is no sample. */
static size_t trailer_bytes(uint64_t sample_type)
{
    const uint64_t fields = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ID |
                            PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU | PERF_SAMPLE_IDENTIFIER;

    return 8 * (size_t)__builtin_popcountll(sample_type & fields);
}

size_t perf_record_time_offset(const struct perf_event_header *header,
                               const struct perf_record_format *format)
{
    size_t trailer = trailer_bytes(format->sample_type);
    size_t offset;

    if (header->type == PERF_RECORD_SAMPLE)
        offset = sizeof(*header) + (format->sample_type & PERF_SAMPLE_IP ? 8 : 0) +
                 (format->sample_type & PERF_SAMPLE_TID ? 8 : 0);
    else if (header->size >= sizeof(*header) + trailer)
        offset = header->size - trailer + (format->sample_type & PERF_SAMPLE_TID ? 8 : 0);
    else
        return 0;
    return offset + 8 <= header->size ? offset : 0;
}

/* From the order of asm/perf_regs.h (ax bx cx dx si di bp sp ip r8..r15) to that of DWARF. */
static void reorder_regs(const uint64_t *perf_regs, uint64_t *regs_ret)
{
    static const uint8_t dwarf_of_perf[SAMPLE_NUM_REGS] = {0, 3, 2,  1,  4,  5,  6,  7, 16,
                                                           8, 9, 10, 11, 12, 13, 14, 15};

    for (size_t i = 0; i < SAMPLE_NUM_REGS; i++)
        regs_ret[dwarf_of_perf[i]] = perf_regs[i];
}

/* Reads a kernel callchain, leaving out the PERF_CONTEXT_* markers. The kernel's part comes first.
 */
static bool read_callchain(struct cursor *cursor, struct sample *sample)
{
    const uint8_t *bytes;
    const uint64_t *pcs;
    uint64_t num_pcs;
    size_t first = 0;
    size_t limit;

    if (!read_u64(cursor, &num_pcs) || num_pcs > cursor->num_left / 8 ||
        !read_bytes(cursor, num_pcs * 8, &bytes))
        return false;
    pcs = (const uint64_t *)bytes; /* records are 8-byte aligned */
    if (num_pcs == 0 || pcs[0] != (uint64_t)PERF_CONTEXT_KERNEL)
        return true;
    first = 1;
    for (limit = first; limit < num_pcs && pcs[limit] < (uint64_t)PERF_CONTEXT_MAX; limit++)
        ;
    if (limit > first) {
        sample->kernel_pcs = pcs + first;
        sample->num_kernel_pcs = limit - first;
    }
    return true;
}

/* Reads what a BPF program told: only the heap's writes any. */
static bool read_raw(struct cursor *cursor, struct perf_record *record)
{
    const size_t num_bytes = sizeof(uint32_t) + HEAP_BPF_RAW_BYTES;
    struct heap_bpf_record raw;
    const uint8_t *bytes;
    uint32_t size;

    if (!read_bytes(cursor, num_bytes, &bytes))
        return false;
    memcpy(&size, bytes, sizeof(size));
    memcpy(&raw, bytes + sizeof(size), sizeof(raw));
    if (size != HEAP_BPF_RAW_BYTES)
        return false;
    record->heap = (struct heap_sample){
        .id = raw.id,
        .size_bytes = raw.size,
        .rate_bytes = raw.rate,
        .address = raw.address,
        .probe_pc = raw.probe_pc,
    };
    record->sample.heap = &record->heap;
    return true;
}

static bool read_user_regs(struct cursor *cursor, struct sample *sample)
{
    uint64_t perf_regs[SAMPLE_NUM_REGS];
    uint64_t abi;

    if (!read_u64(cursor, &abi))
        return false;
    if (abi == PERF_SAMPLE_REGS_ABI_NONE)
        return true;
    for (size_t i = 0; i < SAMPLE_NUM_REGS; i++) {
        if (!read_u64(cursor, &perf_regs[i]))
            return false;
    }
    sample->has_user_regs = true;
    sample->is_32bit = abi == PERF_SAMPLE_REGS_ABI_32;
    reorder_regs(perf_regs, sample->regs);
    return true;
}

static bool read_user_stack(struct cursor *cursor, struct sample *sample)
{
    const uint8_t *bytes;
    uint64_t num_bytes;
    uint64_t num_copied;

    if (!read_u64(cursor, &num_bytes))
        return false;
    if (num_bytes == 0)
        return true; /* then there is no dyn_size either */
    if (!read_bytes(cursor, num_bytes, &bytes) || !read_u64(cursor, &num_copied) ||
        num_copied > num_bytes)
        return false;
    sample->stack = num_copied ? bytes : NULL;
    sample->stack_bytes = num_copied;
    /* The kernel asks for less where a record would pass 64 KB; then the dump may be cut too. */
    sample->stack_asked_bytes = num_bytes;
    return true;
}

/* Reads the fields of fixed size in front of callchain, registers and stack. */
static bool read_sample_head(struct cursor *cursor, uint64_t sample_type,
                             struct perf_record *record)
{
    struct sample *sample = &record->sample;
    uint32_t reserved;

    return (!(sample_type & PERF_SAMPLE_IP) || read_u64(cursor, &sample->pc)) &&
           (!(sample_type & PERF_SAMPLE_TID) ||
            read_u32_pair(cursor, &sample->pid, &sample->tid)) &&
           (!(sample_type & PERF_SAMPLE_TIME) || read_u64(cursor, &sample->time_ns)) &&
           (!(sample_type & PERF_SAMPLE_ID) || read_u64(cursor, &record->source_id)) &&
           (!(sample_type & PERF_SAMPLE_CPU) || read_u32_pair(cursor, &sample->cpu, &reserved)) &&
           (!(sample_type & PERF_SAMPLE_PERIOD) || read_u64(cursor, &sample->weight));
}

static bool decode_sample(struct cursor *cursor, const struct perf_event_header *header,
                          const struct perf_record_format *format, struct perf_record *record)
{
    struct sample *sample = &record->sample;

    sample->in_kernel = (header->misc & MISC_CPUMODE_MASK) == MISC_CPUMODE_KERNEL;
    if (!read_sample_head(cursor, format->sample_type, record))
        return false;
    if (format->sample_type & PERF_SAMPLE_CALLCHAIN && !read_callchain(cursor, sample))
        return false;
    if (format->sample_type & PERF_SAMPLE_RAW && !read_raw(cursor, record))
        return false;
    if (format->sample_type & PERF_SAMPLE_REGS_USER && !read_user_regs(cursor, sample))
        return false;
    if (format->sample_type & PERF_SAMPLE_STACK_USER && !read_user_stack(cursor, sample))
        return false;
    record->event.type = EVENT_SAMPLE;
    record->event.pid = sample->pid;
    record->event.tid = sample->tid;
    return true;
}

/* PERF_RECORD_MMAP2. Addresses that wrap around are no mapping. */
static bool decode_mmap2(struct cursor *cursor, const struct perf_event_header *header,
                         struct event *event)
{
    struct mmap_event *mmap = &event->mmap;
    uint64_t num_bytes;
    uint64_t generation;
    uint32_t flags;

    event->type = EVENT_MMAP;
    if (!read_u32_pair(cursor, &event->pid, &event->tid) || !read_u64(cursor, &mmap->start) ||
        !read_u64(cursor, &num_bytes) || !read_u64(cursor, &mmap->file_off) ||
        !read_u32_pair(cursor, &mmap->dev_major, &mmap->dev_minor) ||
        !read_u64(cursor, &mmap->inode) || !read_u64(cursor, &generation) ||
        !read_u32_pair(cursor, &mmap->prot, &flags))
        return false;
    if (header->misc & MISC_MMAP_BUILD_ID) { /* a build-id lies where device and inode would */
        mmap->dev_major = 0;
        mmap->dev_minor = 0;
        mmap->inode = 0;
    }
    mmap->path = read_string(cursor);
    return mmap->path && !__builtin_add_overflow(mmap->start, num_bytes, &mmap->limit) &&
           num_bytes > 0;
}

static bool decode_comm(struct cursor *cursor, const struct perf_event_header *header,
                        struct event *event)
{
    event->type = EVENT_COMM;
    if (!read_u32_pair(cursor, &event->pid, &event->tid))
        return false;
    event->comm.comm = read_string(cursor);
    event->comm.is_exec = header->misc & MISC_COMM_EXEC;
    return event->comm.comm;
}

/* PERF_RECORD_FORK and PERF_RECORD_EXIT: the same fields. */
static bool decode_task(struct cursor *cursor, enum event_type type, struct event *event)
{
    struct fork_event parent;

    event->type = type;
    if (!read_u32_pair(cursor, &event->pid, &parent.parent_pid) ||
        !read_u32_pair(cursor, &event->tid, &parent.parent_tid))
        return false;
    if (type == EVENT_FORK)
        event->fork = parent;
    return true;
}

/* PERF_RECORD_LOST (an id comes first) and PERF_RECORD_LOST_SAMPLES. */
static bool decode_lost(struct cursor *cursor, bool has_id, bool is_sideband, struct event *event)
{
    uint64_t id;

    event->type = EVENT_LOSS;
    event->loss.kind = is_sideband ? LOSS_SIDEBAND : LOSS_LOST;
    return (!has_id || read_u64(cursor, &id)) && read_u64(cursor, &event->loss.count);
}

static bool decode_throttle(struct cursor *cursor, struct event *event)
{
    uint64_t time_ns;

    event->type = EVENT_LOSS;
    event->loss.kind = LOSS_THROTTLED;
    event->loss.count = 1;
    return read_u64(cursor, &time_ns);
}

/* Takes pid, tid and time of a record that is no sample from its end, and cuts that end off. */
static bool decode_trailer(struct cursor *cursor, const struct perf_event_header *header,
                           const struct perf_record_format *format, struct event *event)
{
    size_t trailer = trailer_bytes(format->sample_type);
    size_t time_offset = perf_record_time_offset(header, format);
    struct cursor end;

    if (!time_offset || trailer > cursor->num_left)
        return false;
    cursor->num_left -= trailer;
    end = (struct cursor){.position = cursor->position + cursor->num_left, .num_left = trailer};
    if (format->sample_type & PERF_SAMPLE_TID && !read_u32_pair(&end, &event->pid, &event->tid))
        return false;
    return read_u64(&end, &event->time_ns);
}

/* Decodes a record that is no sample. */
static enum perf_record_result decode_other(struct cursor *cursor,
                                            const struct perf_event_header *header,
                                            const struct perf_record_format *format,
                                            struct event *event)
{
    bool is_good;

    if (!decode_trailer(cursor, header, format, event))
        return PERF_RECORD_BAD;
    switch (header->type) {
    case PERF_RECORD_MMAP2:
        is_good = decode_mmap2(cursor, header, event);
        break;
    case PERF_RECORD_COMM:
        is_good = decode_comm(cursor, header, event);
        break;
    case PERF_RECORD_FORK:
        is_good = decode_task(cursor, EVENT_FORK, event);
        break;
    case PERF_RECORD_EXIT:
        is_good = decode_task(cursor, EVENT_EXIT, event);
        break;
    case PERF_RECORD_LOST:
    case PERF_RECORD_LOST_SAMPLES:
        is_good = decode_lost(cursor, header->type == PERF_RECORD_LOST, format->is_sideband, event);
        break;
    case PERF_RECORD_THROTTLE:
        is_good = decode_throttle(cursor, event);
        break;
    default: /* UNTHROTTLE and what newer kernels may add */
        return PERF_RECORD_NOTHING;
    }
    return is_good ? PERF_RECORD_EVENT : PERF_RECORD_BAD;
}

enum perf_record_result perf_record_decode(const void *bytes, size_t num_bytes,
                                           const struct perf_record_format *format,
                                           struct perf_record *record_ret)
{
    struct cursor cursor = {.position = bytes, .num_left = num_bytes};
    struct perf_event_header header;
    uint64_t word;

    if (!read_u64(&cursor, &word))
        return PERF_RECORD_BAD;
    memcpy(&header, &word, sizeof(header));
    if (header.size != num_bytes)
        return PERF_RECORD_BAD;
    memset(record_ret, 0, sizeof(*record_ret));
    if (header.type == PERF_RECORD_SAMPLE) {
        if (!decode_sample(&cursor, &header, format, record_ret))
            return PERF_RECORD_BAD;
        record_ret->event.time_ns = record_ret->sample.time_ns;
        record_ret->event.sample = &record_ret->sample;
        return PERF_RECORD_EVENT;
    }
    return decode_other(&cursor, &header, format, &record_ret->event);
}
