/* How good the answer is: the summary that `record` prints, as text for people and as JSON.
 *
 * Every figure is computed from the session; what is weak comes with its one remedy.
 * Threads: none. Source: design.md 1.
 */
#ifndef CMD_SUMMARY_H
#define CMD_SUMMARY_H

#include <stdint.h>
#include <stdio.h>

#include "cmd/session.h"

#define SUMMARY_MAX_FILES 8

/* A profile that was written. */
struct summary_file {
    const char *kind; /* "cpu" */
    const char *path;
    uint64_t num_bytes;
};

/* Prints the summary for people. stream: where to; write errors are ignored (it is stderr).
 * Returns: NULL or error_no_memory. */
struct error *summary_print(const struct session *session, const struct summary_file *files,
                            size_t num_files, FILE *stream) MUST_CHECK;

/* Prints the same figures as one JSON object on one line.
 * stream: as for json_write(), which sees to its errors. Returns: NULL or error_no_memory. */
struct error *summary_print_json(const struct session *session, const struct summary_file *files,
                                 size_t num_files, FILE *stream) MUST_CHECK;

#endif
