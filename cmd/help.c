#include <stdio.h>

#include "cmd/commands.h"
#include "cmd/options.h"

static const struct option_row no_options[] = {{.long_name = NULL}};

static struct error *run_help(int argc, char **argv, int *status_ret)
{
    const struct command *command;

    *status_ret = 0;
    if (argc < 2) {
        command_print_first_contact(stdout);
        return NULL;
    }
    command = command_find(argv[1]);
    if (!command)
        return command_explain_unknown(argc - 1, argv + 1);
    options_print_help(command, stdout);
    return NULL;
}

static struct error *run_version(int argc UNUSED, char **argv UNUSED, int *status_ret)
{
    *status_ret = 0;
    puts("cprofiler " CPROFILER_VERSION);
    return NULL;
}

static const char *const help_synopsis[] = {"help [COMMAND]", NULL};
static const char *const help_examples[] = {"cprofiler help record", NULL};
const struct command cmd_help = {
    .name = "help",
    .summary = "show what to type",
    .synopsis = help_synopsis,
    .options = no_options,
    .examples = help_examples,
    .run = run_help,
};

static const char *const version_synopsis[] = {"version", NULL};
const struct command cmd_version = {
    .name = "version",
    .summary = "show the version",
    .synopsis = version_synopsis,
    .options = no_options,
    .run = run_version,
};
