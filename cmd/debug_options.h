/* What the commands that name functions have in common: --debug-dir, and the progress of
 * --debuginfod.
 *
 * Threads: none.
 */
#ifndef CMD_DEBUG_OPTIONS_H
#define CMD_DEBUG_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Checks the argument of --debug-dir: directories that are there, separated by ':'.
 * list: NULL is fine. command: for the message. Returns: NULL or ERROR_NOT_FOUND. */
struct error *check_debug_dirs(const char *list, const char *command) MUST_CHECK;

/* The progress line of fetches, in the caller's storage, zeroed. */
struct fetch_progress {
    bool is_shown; /* to a terminal */
    bool has_line; /* there is one to be wiped */
};

/* Shows how far a fetch is: a symbolize_fetch_fn. Returns: false once a signal came. */
bool fetch_progress_show(void *context, const char *name, uint64_t num_bytes, uint64_t total_bytes);

/* Wipes the line. */
void fetch_progress_end(struct fetch_progress *progress);

#endif
