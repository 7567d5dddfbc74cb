/* Reading the stack: the copied bytes first, then, where allowed, the live process behind them.
 *
 * The target is not stopped, so live bytes may be newer than the sample. The engine keeps what it
 * finds with them only when it leads to a real root (97-100 % right when read at once, unwinding.md
 * 2). Ownership: borrows the copy and the window's memory. Threads: none. Source:
 * process_vm_readv(2); perf_event_open(2) PERF_SAMPLE_STACK_USER (the copy stops early at a page
 * that isn't present, so a short copy may go on in the live process, too).
 */
#ifndef UNWIND_LIVE_TAIL_H
#define UNWIND_LIVE_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LIVE_WINDOW_BYTES (256 << 10)
#define LIVE_MAX_BYTES (16 << 20)        /* read for one stack in all */
#define LIVE_MAX_DISTANCE (256ULL << 20) /* above the copy: farther is no stack */

struct stack_reader {
    const uint8_t *copy;
    uint64_t copy_start; /* address of its first byte */
    size_t copy_bytes;

    bool may_read_live;
    bool may_read_anywhere; /* behind a signal frame: the interrupted stack may lie elsewhere */
    bool has_read_live;     /* live bytes were handed out */
    uint32_t pid;
    uint8_t *window; /* room for LIVE_WINDOW_BYTES */
    uint64_t window_start;
    size_t window_bytes;
    size_t live_bytes_read; /* so far */
};

/* Reads from the live process; see stack_read(). */
bool stack_read_live(struct stack_reader *reader, uint64_t stack_addr, size_t num_bytes,
                     uint64_t *value_ret);

/* Reads `num_bytes` (1..8) at address `stack_addr` of the target, zero-extended.
 * Returns: false when they are neither in the copy nor to be had from the live process. */
static inline bool stack_read(struct stack_reader *reader, uint64_t stack_addr, size_t num_bytes,
                              uint64_t *value_ret)
{
    uint64_t offset = stack_addr - reader->copy_start;

    if (__builtin_expect(offset >= reader->copy_bytes || reader->copy_bytes - offset < num_bytes,
                         0))
        return stack_read_live(reader, stack_addr, num_bytes, value_ret);
    *value_ret = 0;
    if (num_bytes == sizeof(*value_ret)) /* of constant size: one load */
        memcpy(value_ret, reader->copy + offset, sizeof(*value_ret));
    else
        memcpy(value_ret, reader->copy + offset, num_bytes);
    return true;
}

#endif
