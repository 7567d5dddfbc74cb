/* What earlier walks saw of a stack that is deeper than its copy: who called the frame at (process,
 * stack pointer, return address).
 *
 * A copy holds the innermost 32 KB. The frames above were, in other samples, inside the copy, or
 * were read from the live process in time. A walk that runs off its copy and finds the live bytes
 * changed goes on along these frames: same function, same place of the stack, so the same caller,
 * unless the stack was unwound and built anew by another way that fits to the byte. The engine
 * keeps what it finds so only when it leads to a root. Made when the first walk is cut, so programs
 * with small stacks pay nothing. Ownership: the caller owns the memory. Threads: none.
 * Source: docs/adr/0014-remembered-frames.md (how often that is right).
 */
#ifndef UNWIND_FRAME_MEMORY_H
#define UNWIND_FRAME_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define FRAME_MEMORY_BITS 17

/* Where a walk stands: the registers that it steps by. */
struct frame_state {
    uint64_t ip; /* a return address */
    uint64_t sp;
    uint64_t bp;
    bool is_bp_known;
};

struct frame_memory_entry {
    uint64_t ip, sp; /* of the frame; sp 0: the entry is free */
    uint64_t caller_ip, caller_bp;
    uint32_t pid;
    uint32_t is_bp_known : 1;
    uint32_t distance : 31; /* from the frame's sp to its caller's */
};

struct frame_memory {
    struct frame_memory_entry *entries; /* direct-mapped, 1 << FRAME_MEMORY_BITS; NULL: not made */
};

/* Makes an empty memory (5 MB, of which as much is touched as the stacks are deep). Returns: NULL
 * or error_no_memory. */
struct error *frame_memory_init(struct frame_memory *memory) MUST_CHECK;

/* Frees. A zeroed memory is fine. */
void frame_memory_deinit(struct frame_memory *memory);

/* Remembers that `caller` called `frame` of process `pid`; the newest caller replaces the old. */
void frame_memory_put(struct frame_memory *memory, uint32_t pid, const struct frame_state *frame,
                      const struct frame_state *caller);

/* Tells who called `frame`, as seen last. caller_ret: the caller, above the frame.
 * Returns: false when the frame was not seen, or another took its place. */
bool frame_memory_get(const struct frame_memory *memory, uint32_t pid,
                      const struct frame_state *frame, struct frame_state *caller_ret);

/* Tells whether the memory knows the last calls of `path` (num_steps frames, leaf first) as they
 * are: then what it says of their callers most likely is of the same calls, not of earlier ones
 * that left the same frame. */
bool frame_memory_agrees(const struct frame_memory *memory, uint32_t pid,
                         const struct frame_state *path, uint32_t num_steps);

#endif
