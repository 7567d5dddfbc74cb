#include "profile/loss.h"

#include "base/compiler.h"

static const struct {
    const char *name;
    const char *key;
} loss_names[LOSS_NUM_KINDS] = {
    [LOSS_LOST] = {"lost", "lost"},
    [LOSS_SIDEBAND] = {"sideband lost", "sideband"},
    [LOSS_THROTTLED] = {"throttled", "throttled"},
    [LOSS_MALFORMED] = {"malformed", "malformed"},
    [LOSS_TRUNCATED] = {"truncated", "truncated"},
    [LOSS_NO_UNWIND_INFO] = {"no unwind info", "no_unwind_info"},
    [LOSS_JIT] = {"jit", "jit"},
    [LOSS_NO_MAPPING] = {"unknown mapping", "no_mapping"},
    [LOSS_BAD_CFA] = {"broken unwind info", "bad_cfa"},
    [LOSS_TOO_DEEP] = {"too deep", "too_deep"},
    [LOSS_32BIT] = {"32-bit", "task_32bit"},
    [LOSS_NO_REGISTERS] = {"no user registers", "no_registers"},
    [LOSS_UNSYMBOLIZED] = {"unsymbolized", "unsymbolized"},
    [LOSS_MERGED] = {"merged", "merged"},
    [LOSS_UNLABELED] = {"without thread labels", "unlabeled"},
    [LOSS_UNREADABLE] = {"unreadable modules", "unreadable"},
    [LOSS_UNSEEN] = {"unseen processes", "unseen"},
    [LOSS_SYMBOL_TIMEOUT] = {"unnamed for lack of time", "symbol_timeout"},
    [LOSS_DEBUG_INFO_TIMEOUT] = {"without lines for lack of time", "debug_info_timeout"},
};

const char *loss_name(enum loss_kind kind)
{
    return (unsigned)kind < LOSS_NUM_KINDS ? loss_names[kind].name : "";
}

const char *loss_key(enum loss_kind kind)
{
    return (unsigned)kind < LOSS_NUM_KINDS ? loss_names[kind].key : "";
}

void loss_add(struct loss *loss, const struct loss *more)
{
    for (int i = 0; i < LOSS_NUM_KINDS; i++) {
        if (__builtin_add_overflow(loss->counts[i], more->counts[i], &loss->counts[i]))
            loss->counts[i] = UINT64_MAX;
    }
}
