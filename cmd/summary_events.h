/* The part of the summary that is about events: how many samples of each, what they stand for.
 *
 * Threads: none. Source: design.md 1.
 */
#ifndef CMD_SUMMARY_EVENTS_H
#define CMD_SUMMARY_EVENTS_H

#include <stdio.h>

#include "cmd/session.h"

/* Prints one line for each event: "  2 871 samples = 29.00 s CPU (97 % of one core), kernel 12 %",
 * "  310 samples = 9 004 page-faults (300 per s), kernel 3 %". */
void summary_print_events(const struct session *session, FILE *stream);

/* Prints the members "event", "unit", "total" of the first event, and "events", all of them. They
 * stand inside an object; a comma comes first. Names need no escaping (event_spec_parse()). */
void summary_print_events_json(const struct session *session, FILE *stream);

/* Writes digits in groups of three: "2 871". text: room for 32 bytes. Returns: text. */
const char *summary_group_digits(uint64_t number, char *text);

#endif
