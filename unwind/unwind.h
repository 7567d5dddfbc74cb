/* How we got there: registers + stack bytes -> callchain.
 *
 * An unwinder never stops, signals or writes to the target; at most it reads memory of a live
 * process (process_vm_readv) for the part of a stack beyond the copied bytes. Everything it reads
 * is hostile: time and frames are bounded. Not here: names (symbolize/), where samples come from
 * (sampler/). Ownership: the caller owns the unwinder. Threads: one at a time. Source: DWARF 5
 * section 6.4, LSB .eh_frame, System V ABI AMD64; unwinding.md 3, 7, 8.
 */
#ifndef UNWIND_UNWIND_H
#define UNWIND_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "profile/callchain.h"
#include "profile/sample.h"
#include "target/target.h"

struct unwinder; /* each engine has its own */

struct unwind_options {
    bool live_tail;       /* read what lies beyond the dump from the live process */
    bool remember_frames; /* else complete it by what earlier samples saw there (frame_memory.h) */
};

/* Counters for the summary and benchmarks. */
struct unwind_stats {
    uint64_t num_stacks;
    uint64_t num_frames;
    uint64_t num_cache_hits;
    uint64_t num_cache_misses;
    uint64_t num_live_tails_read;
    uint64_t num_live_tails_kept;
    uint64_t num_tails_recalled; /* stacks completed by remembered frames */
};

struct unwind_ops {
    const char *name;

    /* Makes an unwinder. options: copied. target: borrowed. unwinder_ret: owned by the caller. */
    struct error *(*create)(const struct unwind_options *options, struct target *target,
                            struct unwinder **unwinder_ret);

    /* Unwinds one sample of `process` into `chain_ret`, kernel frames first (kernel pcs go to the
     * mapping `kernel_mapping`, 0: one [kernel] reason frame instead), then user frames, then one
     * reason frame when the chain is not complete (chain_ret->stop tells which). Always yields >= 1
     * frame. */
    void (*unwind)(struct unwinder *unwinder, struct process *process, const struct sample *sample,
                   uint32_t kernel_mapping, struct callchain *chain_ret);

    void (*stats)(const struct unwinder *unwinder, struct unwind_stats *stats_ret);

    /* Frees. NULL is fine. Must be called before the target is destroyed. */
    void (*destroy)(struct unwinder *unwinder);
};

/* The own loop over a per-pc rule cache filled from CFI by libdw; frame pointers for JIT code. */
extern const struct unwind_ops unwind_cfi;

#endif
