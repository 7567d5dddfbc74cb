/* A callchain: frames of one sample, leaf first, kernel part before user part.
 *
 * Not interned (that is a stack, profile/stack_table.h). A frame is a place inside a mapping:
 * `pc` is in the address space of the *profile mapping* (see stack_table.h: mappings of equal files
 * in different processes are one profile mapping), leaf as sampled, callers return address - 1.
 * Reason frames stand at the root end of an incomplete chain and say why it ends; or alone, for
 * what has no stack at all.
 * Ownership: plain storage. Threads: none.
 */
#ifndef PROFILE_CALLCHAIN_H
#define PROFILE_CALLCHAIN_H

#include <stdint.h>

#include "profile/loss.h"

#define CALLCHAIN_MAX_USER_FRAMES 4096
#define CALLCHAIN_MAX_KERNEL_FRAMES 256
#define CALLCHAIN_MAX_FRAMES (CALLCHAIN_MAX_USER_FRAMES + CALLCHAIN_MAX_KERNEL_FRAMES + 1)

/* Why a frame is not a place but a remark. REASON_NONE: it is a place. */
enum frame_reason {
    REASON_NONE,
    REASON_TRUNCATED,      /* [truncated] */
    REASON_NO_UNWIND_INFO, /* [no unwind info] */
    REASON_JIT,            /* [jit] */
    REASON_NO_MAPPING,     /* [unknown mapping] */
    REASON_BAD_CFA,        /* [broken unwind info] */
    REASON_TOO_DEEP,       /* [too deep] */
    REASON_32BIT,          /* [32-bit task] */
    REASON_NO_REGISTERS,   /* [no user registers] */
    REASON_KERNEL,         /* [kernel]: kernel frames exist but their names are restricted */
    REASON_OTHER,          /* [other]: rare stacks merged to stay within the memory limit */
    REASON_BEFORE_ATTACH,  /* [allocated before attach]: memory older than a heap recording */
    REASON_UNTRACKED,      /* [untracked]: memory that no sampled allocation explains */
    REASON_TRIMMED,        /* a place after all, whose innermost lines were an allocator's */
    REASON_NUM
};

struct frame_key {
    uint64_t pc;      /* 0 for reason frames */
    uint32_t mapping; /* id of a profile mapping (1..), 0 for reason frames */
    uint32_t reason;  /* enum frame_reason */
};

struct callchain {
    uint32_t num_frames;
    uint32_t stop; /* enum frame_reason: REASON_NONE = complete to the thread's entry */
    struct frame_key frames[CALLCHAIN_MAX_FRAMES];
};

/* Tells the text of a reason frame, "[truncated]" and so on; "" for REASON_NONE. */
const char *frame_reason_name(enum frame_reason reason);

/* Tells which loss a chain that stopped for `reason` counts as; LOSS_NUM_KINDS for none. */
enum loss_kind frame_reason_loss(enum frame_reason reason);

/* Appends a frame; silently does nothing when the chain is full (callers bound their loops). */
static inline void callchain_push(struct callchain *chain, uint64_t pc, uint32_t mapping,
                                  enum frame_reason reason)
{
    if (chain->num_frames < CALLCHAIN_MAX_FRAMES)
        chain->frames[chain->num_frames++] = (struct frame_key){pc, mapping, reason};
}

#endif
