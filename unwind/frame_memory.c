#include "unwind/frame_memory.h"

#include <stdlib.h>

enum { MIN_AGREEING = 3 }; /* calls */

struct error *frame_memory_init(struct frame_memory *memory)
{
    memory->entries = calloc((size_t)1 << FRAME_MEMORY_BITS, sizeof(*memory->entries));
    return memory->entries ? NULL : &error_no_memory;
}

void frame_memory_deinit(struct frame_memory *memory)
{
    free(memory->entries);
    memory->entries = NULL;
}

/* Frames of one stack lie side by side, so that little memory is touched; two different places in
 * the code often have frames at the same address. */
static struct frame_memory_entry *slot_of(const struct frame_memory *memory, uint32_t pid,
                                          const struct frame_state *frame)
{
    uint64_t way = (frame->ip * 0x9e3779b97f4a7c15ULL) >> 63;
    uint64_t index = ((frame->sp >> 4) + pid * 0x9e37ULL) * 2 + way;

    return &memory->entries[index & ((1U << FRAME_MEMORY_BITS) - 1)];
}

void frame_memory_put(struct frame_memory *memory, uint32_t pid, const struct frame_state *frame,
                      const struct frame_state *caller)
{
    uint64_t distance = caller->sp - frame->sp;

    if (frame->sp == 0 || distance == 0 || distance >= 1U << 31)
        return;
    *slot_of(memory, pid, frame) = (struct frame_memory_entry){.ip = frame->ip,
                                                               .sp = frame->sp,
                                                               .caller_ip = caller->ip,
                                                               .caller_bp = caller->bp,
                                                               .pid = pid,
                                                               .is_bp_known = caller->is_bp_known,
                                                               .distance = (uint32_t)distance};
}

bool frame_memory_get(const struct frame_memory *memory, uint32_t pid,
                      const struct frame_state *frame, struct frame_state *caller_ret)
{
    const struct frame_memory_entry *entry = slot_of(memory, pid, frame);

    if (frame->sp == 0 || entry->sp != frame->sp || entry->ip != frame->ip || entry->pid != pid)
        return false;
    *caller_ret = (struct frame_state){entry->caller_ip, entry->sp + entry->distance,
                                       entry->caller_bp, entry->is_bp_known};
    return true;
}

bool frame_memory_agrees(const struct frame_memory *memory, uint32_t pid,
                         const struct frame_state *path, uint32_t num_steps)
{
    uint32_t last = num_steps - 1;

    for (uint32_t i = last; i > 0 && last - i < MIN_AGREEING; i--) {
        struct frame_state caller;

        if (path[i - 1].sp == 0)
            break; /* interrupted code: the memory knows nothing of it */
        if (!frame_memory_get(memory, pid, &path[i - 1], &caller) || caller.ip != path[i].ip ||
            caller.sp != path[i].sp)
            return false;
    }
    return true;
}
