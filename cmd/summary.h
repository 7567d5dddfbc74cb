/* How good the answer is: the summary that `record` prints, as text for people and as JSON.
 *
 * Every figure is computed from the session; what is weak comes with its one remedy.
 * Threads: none. Source: design.md 1.
 */
#ifndef CMD_SUMMARY_H
#define CMD_SUMMARY_H

#include <stdio.h>

#include "cmd/profile_file.h"
#include "cmd/session.h"

/* Prints the summary for people. files: of the session's recorders, in their order. stream: where
 * to; write errors are ignored (it is stderr). Returns: NULL or error_no_memory. */
struct error *summary_print(const struct session *session, const struct profile_file *files,
                            FILE *stream) MUST_CHECK;

/* Prints the same figures as one JSON object on one line.
 * files: as above. stream: as for json_write(), which sees to its errors. Returns: NULL or
 * error_no_memory. */
struct error *summary_print_json(const struct session *session, const struct profile_file *files,
                                 FILE *stream) MUST_CHECK;

#endif
