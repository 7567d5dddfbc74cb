/* The rows of the command table, one for each file of cmd/ with a command in it.
 *
 * To add a command: write cmd/NAME.c with `const struct command cmd_NAME`, declare it here, add its
 * row to commands.c, write man/cprofiler-NAME.1. Threads: none.
 */
#ifndef CMD_COMMANDS_H
#define CMD_COMMANDS_H

#include <stdio.h>

#include "cmd/command.h"

extern const struct command cmd_record;
extern const struct command cmd_report;
extern const struct command cmd_symbolize;
extern const struct command cmd_help;
extern const struct command cmd_version;

/* Finds a command by name. Returns: the row, or NULL. */
const struct command *command_find(const char *name);

/* Prints what cprofiler is and what to type: at most 15 lines. */
void command_print_first_contact(FILE *stream);

/* Explains a first word that is no command: a misspelling, a program, a PID.
 * argc, argv: from that word on. Returns: ERROR_USAGE, never NULL. */
struct error *command_explain_unknown(int argc, char **argv) MUST_CHECK;

#endif
