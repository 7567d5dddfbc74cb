/* The growth mode of heap profiles: which code makes memory resident, by the stacks of page faults.
 * Nothing of the target is touched, and every language and binary is seen alike; it is an estimate
 * of how resident memory grew, not of what was allocated: memory that malloc hands out again faults
 * no second time, pages of files fault too, and a huge page counts as one fault.
 *
 * Not sampling (the engines of sampler/sampler.h do). Ownership: the caller owns the settings; a
 * recorder borrows them. Threads: none. Source: PERF_COUNT_SW_PAGE_FAULTS, perf_event_open(2).
 */
#ifndef CMD_GROWTH_H
#define CMD_GROWTH_H

#include <stdint.h>

#include "base/error.h"
#include "cmd/events.h"
#include "cmd/recorder.h"
#include "profile/stack_table.h"

#define GROWTH_DEFAULT_RATE_BYTES (64ULL << 10)

struct growth_settings {
    struct event_list events; /* page-faults alone */
};

/* Chooses how often faults are sampled. interval: one fault in so many; 0: by rate_bytes.
 * rate_bytes: mean bytes of growth between samples; 0: the default.
 * Returns: NULL or an error. */
struct error *growth_choose(uint64_t interval, uint64_t rate_bytes,
                            struct growth_settings *settings_ret) MUST_CHECK;

/* Makes a recorder of page faults with its empty profile: faults/count, growth_space/bytes.
 * settings: borrowed. Returns: NULL or error_no_memory. */
struct error *growth_init_recorder(const struct growth_settings *settings,
                                   struct stack_table *table, struct recorder *recorder) MUST_CHECK;

#endif
