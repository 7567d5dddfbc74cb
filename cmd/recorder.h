/* One profile while it is recorded: what it samples by, the profile itself, and what was counted on
 * the way. A session has one or two.
 *
 * Not the sampler, not unwinding, not who the target is: those are shared by the recorders of a
 * session (cmd/session.h). Ownership: the caller owns the recorder; it borrows events and engine.
 * Threads: one.
 */
#ifndef CMD_RECORDER_H
#define CMD_RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cmd/engine.h"
#include "cmd/events.h"
#include "profile/callchain.h"
#include "profile/profile.h"
#include "sampler/sampler.h"

/* Fills a row of values for one sample. event: which of the list it is. values: room for
 * PROFILE_MAX_VALUES. */
typedef void recorder_values_fn(const struct event_list *list, size_t event, uint64_t weight,
                                int64_t *values);

struct recorder {
    const char *kind;                /* what it is a profile of: "cpu", "heap" */
    const struct event_list *events; /* what it samples by, borrowed; NULL: allocations */
    recorder_values_fn *set_values;  /* of its samples */
    size_t first_event;              /* number of the first of them in the engine */
    const struct engine *engine;     /* that its samples come from, borrowed */
    struct profile profile;
    uint64_t num_samples;
    uint64_t num_complete;                          /* samples whose stack is complete */
    struct event_tally tallies[SAMPLER_MAX_EVENTS]; /* by event */
};

/* Counts a sample that was unwound: how its stack ended, what it stands for. */
void recorder_count(struct recorder *recorder, const struct sample *sample,
                    const struct callchain *chain);

/* Adds a sample of one of its events to the profile and counts it. Returns: NULL or
 * error_no_memory. */
struct error *recorder_add(struct recorder *recorder, const struct sample *sample,
                           const struct callchain *chain, uint32_t stack,
                           uint32_t label_set) MUST_CHECK;

/* Frees all; a zeroed recorder is fine. */
void recorder_deinit(struct recorder *recorder);

#endif
