/* Decoding one record of a perf ring into a struct event.
 *
 * The bytes are hostile: every length is checked, nothing outside the record is read, nothing is
 * copied (events borrow from the record). Known layouts only: those that perf_event_attr_*() ask
 * for. Threads: pure functions. Source: perf_event_open(2) ("Overflow handling", record layouts),
 * linux/perf_event.h, arch/x86 asm/perf_regs.h (order of registers).
 */
#ifndef SAMPLER_PERF_RECORD_H
#define SAMPLER_PERF_RECORD_H

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "profile/sample.h"

/* What every sampling event asks for, but for PERIOD, which those with a fixed period go without;
 * REGS_USER, STACK_USER and CALLCHAIN may come on top. */
#define PERF_RECORD_SAMPLE_TYPE                                                               \
    (PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ID | PERF_SAMPLE_CPU | \
     PERF_SAMPLE_PERIOD)
/* What the events of the heap's BPF program ask for; REGS_USER and STACK_USER come on top. */
#define PERF_RECORD_BPF_SAMPLE_TYPE                                                           \
    (PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ID | PERF_SAMPLE_CPU | \
     PERF_SAMPLE_RAW)
/* What every sideband event asks for. */
#define PERF_RECORD_SIDEBAND_SAMPLE_TYPE (PERF_SAMPLE_TID | PERF_SAMPLE_TIME)
/* The 17 user registers: ax bx cx dx si di bp sp ip (bits 0-8), r8..r15 (bits 16-23). */
#define PERF_RECORD_USER_REGS 0xff01ffULL

/* How the records of one ring look. */
struct perf_record_format {
    uint64_t sample_type; /* PERF_SAMPLE_* of the events that write into it */
    uint32_t stack_bytes; /* user stack that was asked for */
    bool is_sideband;     /* what it loses is sideband, not samples */
};

enum perf_record_result {
    PERF_RECORD_EVENT,   /* an event came out */
    PERF_RECORD_NOTHING, /* a good record that tells us nothing */
    PERF_RECORD_BAD,     /* no such record can come from the kernel */
};

/* A decoded record. */
struct perf_record {
    struct event event; /* event.sample points to `sample` */
    struct sample sample;
    struct heap_sample heap; /* sample.heap points here where there is PERF_SAMPLE_RAW */
    uint64_t source_id; /* samples: PERF_SAMPLE_ID, the event as opened (not its inherited child) */
};

/* Tells where the time of a record is: its byte offset, a multiple of 8, by its header alone.
 * Returns: 0 when a record of this size holds no time. */
size_t perf_record_time_offset(const struct perf_event_header *header,
                               const struct perf_record_format *format);

/* Decodes one record.
 * bytes: 8-byte aligned, `num_bytes` of them, as in its header. record_ret: borrows from `bytes`;
 * of no meaning unless PERF_RECORD_EVENT is returned. */
enum perf_record_result perf_record_decode(const void *bytes, size_t num_bytes,
                                           const struct perf_record_format *format,
                                           struct perf_record *record_ret);

#endif
