/* The events of a recording: from -e, -F and -c to what the sampler is told, to the columns of the
 * profile, and to words for people.
 *
 * One event is a column of the profile: the first is the one that summaries are about. Not opening
 * (sampler/). Threads: none. Source: pprof.md (sample types), perf-record(1) (-e, -F, -c).
 */
#ifndef CMD_EVENTS_H
#define CMD_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "cmd/options.h"
#include "profile/profile.h"
#include "sampler/sampler.h"

#define EVENTS_TEXT_BYTES 256

struct event_list {
    struct sampler_event events[SAMPLER_MAX_EVENTS];
    size_t num_events;
};

/* What was taken of one event. */
struct event_tally {
    uint64_t num_samples;
    uint64_t num_kernel_samples;
    uint64_t weight;  /* sum, in the unit of the event */
    uint64_t sampled; /* the same as the samples told it, before it was scaled */
};

/* Chooses the events. words: what stood behind -e, each one event or several with commas between;
 * none: cpu-clock. hz: samples per second, 0: what suits each event. period: one sample every so
 * many, 0: by hz. kernel: kernel code is wanted, too. Tracepoints are looked up.
 * Returns: NULL; ERROR_USAGE, ERROR_NOT_FOUND, ERROR_PERMISSION with a hint. */
struct error *events_choose(const struct option_list *words, uint32_t hz, uint64_t period,
                            bool kernel, struct event_list *list_ret) MUST_CHECK;

/* Tells whether the user asks what there is: "list" or "help" behind -e. */
bool events_is_question(const struct option_list *words);

/* Prints all events, those that this machine can't count marked so, and all tracepoints.
 * Returns: NULL or an error when `stream` can't be written. */
struct error *events_print(FILE *stream) MUST_CHECK;

/* Makes an empty profile over `table`: samples/count, then one column for each event; the first
 * event gives the period and, among several, the default column. Returns: NULL or error_no_memory.
 */
struct error *events_init_profile(const struct event_list *list, struct stack_table *table,
                                  struct profile *profile) MUST_CHECK;

/* Completes what was recorded. Events that are counted one by one and were sampled by frequency:
 * the kernel follows a rate that changes only roughly, so that the periods it tells do not add up;
 * their values are scaled to its own count, where info has it. And the profile's period becomes
 * what one sample of the first event stood for in the mean. tallies: by event; updated. */
void events_settle(const struct event_list *list, const struct sampler_info *info,
                   struct event_tally *tallies, struct profile *profile);

/* Tells whether these events are better sampled task by task than CPU-wide: some are counted one by
 * one, which only events of a task do for the target alone. */
bool events_want_per_task(const struct event_list *list);

/* Fills a row of values for one sample. event: which it is. weight: what the sample stands for.
 * values: room for PROFILE_MAX_VALUES. */
void events_set_values(const struct event_list *list, size_t event, uint64_t weight,
                       int64_t *values);

/* Puts the events of `more` behind those of `list`, for one sampler to sample by. Of two that are
 * the same each has samples of its own. Returns: NULL; ERROR_USAGE when these can't be sampled
 * together. */
struct error *events_join(struct event_list *list, const struct event_list *more) MUST_CHECK;

/* Finds the first event that is a clock. Returns: its index, or num_events. */
size_t events_find_clock(const struct event_list *list);

/* Tells how often in words: "99 Hz", "page-faults at up to 1000 Hz", "1 in 10 page-faults"; several
 * with commas. clock_hz: how often the first event was sampled really, when it is a clock.
 * text: room for EVENTS_TEXT_BYTES. */
void events_describe(const struct event_list *list, uint32_t clock_hz, char *text);

/* Tells how many samples a second the rings must have room for. */
uint32_t events_ring_hz(const struct event_list *list);

#endif
