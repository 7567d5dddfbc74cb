/* What the summary of `record` says of a heap profile, for people and as JSON.
 *
 * Threads: none. Source: cmd/summary.h.
 */
#ifndef CMD_SUMMARY_HEAP_H
#define CMD_SUMMARY_HEAP_H

#include <stdio.h>

#include "cmd/session.h"

/* Prints the lines of the heap or growth profile, if the session has one. Returns: NULL or
 * error_no_memory. */
struct error *summary_print_heap(const struct session *session, FILE *stream) MUST_CHECK;

/* Prints the member "heap", if the session has such a profile; a comma comes first. Returns: as
 * above. */
struct error *summary_print_heap_json(const struct session *session, FILE *stream) MUST_CHECK;

/* Describes how allocations are sampled, as events_describe() does: "one allocation in 512 KB".
 * text: room for EVENTS_TEXT_BYTES. */
void summary_describe_heap(const struct session *session, char *text);

/* Prints a number of bytes with a unit: "1.5 MB". */
void summary_print_bytes(double num_bytes, FILE *stream);

#endif
