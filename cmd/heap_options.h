/* The --heap options of record: from words to settings, and which of them go together.
 *
 * Not what they do (cmd/heap.h, cmd/growth.h). Ownership: strings are borrowed from argv.
 * Threads: none.
 */
#ifndef CMD_HEAP_OPTIONS_H
#define CMD_HEAP_OPTIONS_H

#include <stdbool.h>

#include "base/error.h"
#include "cmd/growth.h"
#include "cmd/heap.h"

/* What the user typed. */
struct heap_options_given {
    const char *path;        /* --heap FILE; NULL: no heap profile */
    const char *mode;        /* NULL: probes */
    const char *budget;      /* "5", "none"; NULL: the default */
    unsigned long long rate; /* bytes; 0: the default of the mode */
    double snapshot_seconds; /* 0: none */
    bool keeps_allocator;
};

/* What it means. */
struct heap_choice {
    bool has_probes;
    bool has_growth;
    struct heap_settings probes;
    struct growth_settings growth;
};

/* Reads the options. count: of -c, when it is for page faults; 0: none.
 * Returns: NULL or ERROR_USAGE. */
struct error *heap_options_read(const struct heap_options_given *given, unsigned long count,
                                struct heap_choice *choice_ret) MUST_CHECK;

#endif
