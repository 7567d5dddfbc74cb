/* A profile being completed by `cprofiler symbolize`: what the command works on, and what its
 * summary tells.
 *
 * Ownership: the command owns it. Threads: none.
 */
#ifndef CMD_COMPLETION_H
#define CMD_COMPLETION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "output/pprof_patch.h"
#include "profile/stack_table.h"
#include "symbolize/mapping_files.h"
#include "symbolize/symbolize.h"
#include "target/target.h"

/* What the user typed. */
struct symbolize_command {
    const char *output;
    const char *debug_dir;
    const char *json; /* NULL: no; "": stderr; else a file */
    double symbol_seconds;
    bool force;
    bool unverified;
    bool inlines;
    bool debuginfod;
    bool quiet;
    bool verbose;
    bool help;
};

/* A profile being completed. */
struct completion {
    const struct symbolize_command *options;
    const char *path;
    const char *output_path;
    char *content;
    struct pprof_patch *patch;
    struct stack_table *table; /* of the patch */
    struct target *target;     /* no process; holds the modules */
    enum mapping_file_status *statuses;
    size_t num_open_before; /* places without a name */
    size_t num_open;        /* the same, at the end */
    struct symbolize_result result;
    struct symbolize_fetches fetches; /* of files that are not here, before symbolize_table() */
    uint64_t num_bytes;               /* of the file written; 0 = none was */
};

/* Counts the mappings of files that need names, and those of them whose file was found. */
void completion_count_files(const struct completion *completion, size_t *num_wanted_ret,
                            size_t *num_found_ret);

/* Prints the summary for people to stderr. Returns: NULL or error_no_memory. */
struct error *completion_print(const struct completion *completion) MUST_CHECK;

/* Prints only the files that were not there, those that matter most first, to stderr.
 * Returns: NULL or error_no_memory. */
struct error *completion_print_missing(const struct completion *completion) MUST_CHECK;

/* Prints the same as one JSON object on one line, to options->json.
 * Returns: NULL, error_no_memory, or an error when that can't be written. */
struct error *completion_write_json(const struct completion *completion) MUST_CHECK;

#endif
