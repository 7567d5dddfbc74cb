#include "unwind/live_tail.h"

#include <sys/types.h>
#include <sys/uio.h>

enum {
    FIRST_READ_BYTES = 16 << 10, /* most tails end soon; then a window at a time */
    BACK_BYTES = 512,            /* saved registers lie a little below the return address */
};

/* Fills the window from `start` on. Returns: false when nothing could be read there. */
static bool fill_window(struct stack_reader *reader, uint64_t start)
{
    size_t num_bytes = reader->live_bytes_read ? LIVE_WINDOW_BYTES : FIRST_READ_BYTES;
    struct iovec local = {reader->window, num_bytes};
    struct iovec remote = {(void *)(uintptr_t)start,
                           num_bytes}; /* NOLINT(performance-no-int-to-ptr) */
    ssize_t num_read;

    reader->window_bytes = 0;
    if (num_bytes > UINT64_MAX - start)
        return false;
    reader->live_bytes_read += num_bytes;
    num_read = process_vm_readv((pid_t)reader->pid, &local, 1, &remote, 1, 0);
    if (num_read <= 0)
        return false;
    reader->window_start = start;
    reader->window_bytes = (size_t)num_read;
    return true;
}

static bool window_holds(const struct stack_reader *reader, uint64_t stack_addr, size_t num_bytes)
{
    uint64_t offset = stack_addr - reader->window_start;

    return offset < reader->window_bytes && reader->window_bytes - offset >= num_bytes;
}

bool stack_read_live(struct stack_reader *reader, uint64_t stack_addr, size_t num_bytes,
                     uint64_t *value_ret)
{
    uint64_t distance = stack_addr - (reader->copy_start + reader->copy_bytes);

    /* An address that straddles the copy's end counts as behind it. Below the copy is no stack. */
    if (!reader->may_read_live || !reader->window ||
        (!reader->may_read_anywhere && distance + 7 > LIVE_MAX_DISTANCE))
        return false;
    if (!window_holds(reader, stack_addr, num_bytes)) {
        if (reader->live_bytes_read >= LIVE_MAX_BYTES)
            return false;
        if (!(stack_addr > BACK_BYTES && fill_window(reader, stack_addr - BACK_BYTES) &&
              window_holds(reader, stack_addr, num_bytes)) &&
            !(fill_window(reader, stack_addr) && window_holds(reader, stack_addr, num_bytes)))
            return false;
    }
    reader->has_read_live = true;
    *value_ret = 0;
    memcpy(value_ret, reader->window + (stack_addr - reader->window_start), num_bytes);
    return true;
}
