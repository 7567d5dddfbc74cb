/* Losses: what did not make it into the answer, counted by cause. They travel with every profile
 * and are shown in every summary and file; nothing is ever dropped without a count here.
 *
 * Not for errors (base/error.h): the operation goes on. Threads: none.
 */
#ifndef PROFILE_LOSS_H
#define PROFILE_LOSS_H

#include <stdint.h>

enum loss_kind {
    LOSS_LOST,      /* samples the kernel could not put into the ring (PERF_RECORD_LOST*) */
    LOSS_SIDEBAND,  /* mmap/comm/fork/exit records lost the same way */
    LOSS_THROTTLED, /* times the kernel throttled an event (PERF_RECORD_THROTTLE) */
    LOSS_MALFORMED, /* ring records we could not decode */
    LOSS_TRUNCATED, /* stacks that ran off the copied stack bytes (and no live tail was read) */
    LOSS_NO_UNWIND_INFO, /* stacks that ended at a pc without CFI and without frame pointer */
    LOSS_JIT,            /* stacks that ended inside anonymous executable memory */
    LOSS_NO_MAPPING,     /* stacks that ended at a pc outside every mapping */
    LOSS_BAD_CFA,        /* stacks that ended since the CFA did not grow or CFI made no sense */
    LOSS_TOO_DEEP,       /* stacks cut at CALLCHAIN_MAX_USER_FRAMES */
    LOSS_32BIT,          /* samples of 32-bit tasks: only the leaf is kept */
    LOSS_NO_REGISTERS,   /* samples in user tasks for which the kernel gave no user registers */
    LOSS_UNSYMBOLIZED,   /* distinct locations without a function name */
    LOSS_MERGED,         /* samples merged into [other] to stay within the memory limit */
    LOSS_UNLABELED,      /* samples, and names of threads, given up to stay within the limit */
    LOSS_UNREADABLE,     /* modules whose file could not be opened or is not a usable ELF file */
    LOSS_UNSEEN, /* processes that could not be looked at: ended before, or not ours to see */
    LOSS_SYMBOL_TIMEOUT,     /* locations left unnamed since the time limit was reached */
    LOSS_DEBUG_INFO_TIMEOUT, /* locations whose debug info took too long, or is too large: no file,
                              * line and inlined functions; a name, if a symbol table has one */
    LOSS_NUM_KINDS
};

struct loss {
    uint64_t counts[LOSS_NUM_KINDS];
};

/* Tells the short name of a loss as shown in summaries ("lost", "truncated", ...); never NULL. */
const char *loss_name(enum loss_kind kind);

/* Tells the same as a snake_case key for JSON ("no_unwind_info"); never NULL. */
const char *loss_key(enum loss_kind kind);

/* Adds all counts of `more` to `loss`. */
void loss_add(struct loss *loss, const struct loss *more);

#endif
