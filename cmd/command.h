/* What a subcommand is. One command = one file cmd/NAME.c with its `const struct command cmd_NAME`,
 * its own options struct and table, one row in cmd/commands.c, one man page cprofiler-NAME(1).
 *
 * Threads: none.
 */
#ifndef CMD_COMMAND_H
#define CMD_COMMAND_H

#include "base/error.h"

struct option_row;

struct command {
    const char *name;
    const char *summary;         /* one line for the list of commands */
    const char *const *synopsis; /* NULL-terminated usage lines without "cprofiler" */
    const struct option_row
        *options;                /* table, ended by a row without names; help follows from it */
    const char *const *examples; /* NULL-terminated lines for --help */
    /* Runs it. argv[0] is the command's name. status_ret: exit status of the program on success;
     * with an error: the status to use instead of the one of its kind, or untouched (0).
     * Returns: NULL, or the error that main() prints. */
    struct error *(*run)(int argc, char **argv, int *status_ret);
};

/* All commands, ended by NULL (cmd/commands.c). */
extern const struct command *const commands[];

#endif
