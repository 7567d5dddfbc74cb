/* Option tables: parsing, --help and the check against the man page all follow from one table.
 *
 * Long options take `--name VALUE` and `--name=VALUE`; short ones `-F 99`, `-F99`, and flags may be
 * joined. A flag `--name` with can_negate has `--no-name`. Unknown or misspelt options name the
 * nearest. Parsing stops at "--", and at the first word that is no option when the command takes a
 * command line. Ownership: strings are borrowed from argv. Threads: none. Manner of git's
 * parse-options.h.
 */
#ifndef CMD_OPTIONS_H
#define CMD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"
#include "cmd/command.h"

enum option_kind {
    OPTION_FLAG,     /* bool */
    OPTION_SWITCH,   /* int: 1 on, 0 off (--no-NAME); what the caller preset when not given */
    OPTION_STRING,   /* const char * */
    OPTION_UINT,     /* unsigned long, within [min, max] */
    OPTION_SECONDS,  /* double > 0: "30", "0.5", "2m", "1h" */
    OPTION_BYTES,    /* unsigned long long: "64M", "1G", "4096" */
    OPTION_LIST,     /* struct option_list: may be given several times */
    OPTION_OPTIONAL, /* const char *: `--name` alone gives "", a value only as `--name=VALUE` */
};

#define OPTION_LIST_MAX 64

/* Values of an option that may be repeated, in the order given. */
struct option_list {
    const char *values[OPTION_LIST_MAX];
    size_t num_values;
};

struct option_row {
    char short_name;       /* 0: none */
    const char *long_name; /* NULL in the last row */
    enum option_kind kind;
    size_t offset;            /* of the field in the command's options struct */
    const char *value_name;   /* "HZ"; NULL for flags */
    const char *help;         /* one line */
    bool can_negate;          /* flags: --no-NAME sets false */
    unsigned long min, max;   /* OPTION_UINT: allowed values */
    const char *range_reason; /* why values outside are refused; may be NULL */
};

/* Parses argv[1..] into `options` (a struct with fields at the rows' offsets, defaults set by the
 * caller). stop_at_word: the first non-option word ends the options (a command line follows).
 * first_word_ret: index in argv of the first word that is no option (argc when none).
 * Returns: NULL, or ERROR_USAGE naming the option, with a hint what to type. */
struct error *options_parse(const struct command *command, int argc, char **argv, bool stop_at_word,
                            void *options, int *first_word_ret) MUST_CHECK;

/* Prints usage, options and examples of a command. */
void options_print_help(const struct command *command, FILE *stream);

#endif
