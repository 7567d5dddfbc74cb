#include "profile/callchain.h"

static const struct {
    const char *name;
    enum loss_kind loss;
} reasons[REASON_NUM] = {
    [REASON_NONE] = {"", LOSS_NUM_KINDS},
    [REASON_TRUNCATED] = {"[truncated]", LOSS_TRUNCATED},
    [REASON_NO_UNWIND_INFO] = {"[no unwind info]", LOSS_NO_UNWIND_INFO},
    [REASON_JIT] = {"[jit]", LOSS_JIT},
    [REASON_NO_MAPPING] = {"[unknown mapping]", LOSS_NO_MAPPING},
    [REASON_BAD_CFA] = {"[broken unwind info]", LOSS_BAD_CFA},
    [REASON_TOO_DEEP] = {"[too deep]", LOSS_TOO_DEEP},
    [REASON_32BIT] = {"[32-bit task]", LOSS_32BIT},
    [REASON_NO_REGISTERS] = {"[no user registers]", LOSS_NO_REGISTERS},
    /* Not losses of a chain: the user part is whole; merged samples are counted where they merge.
     */
    [REASON_KERNEL] = {"[kernel]", LOSS_NUM_KINDS},
    [REASON_OTHER] = {"[other]", LOSS_NUM_KINDS},
    [REASON_BEFORE_ATTACH] = {"[allocated before attach]", LOSS_NUM_KINDS},
    [REASON_UNTRACKED] = {"[untracked]", LOSS_NUM_KINDS},
    [REASON_TRIMMED] = {"[allocator]", LOSS_NUM_KINDS}, /* never shown: it has lines */
};

const char *frame_reason_name(enum frame_reason reason)
{
    return (unsigned)reason < REASON_NUM ? reasons[reason].name : "";
}

enum loss_kind frame_reason_loss(enum frame_reason reason)
{
    return (unsigned)reason < REASON_NUM ? reasons[reason].loss : LOSS_NUM_KINDS;
}
