#include "cmd/commands.h"

#include <string.h>
#include <unistd.h>

#include "base/nearest.h"
#include "cmd/options.h"

const struct command *const commands[] = {
    &cmd_record, &cmd_report, &cmd_symbolize, &cmd_help, &cmd_version, NULL,
};

const struct command *command_find(const char *name)
{
    for (const struct command *const *row = commands; *row; row++)
        if (strcmp((*row)->name, name) == 0)
            return *row;
    return NULL;
}

void command_print_first_contact(FILE *stream)
{
    fputs("cprofiler tells where the time of a running program goes.\n\n"
          "  cprofiler record -o cpu.pprof -- ./app args   profile a command from its start to its "
          "end\n"
          "  cprofiler record -p PID                       profile a running process for 30 s\n"
          "  cprofiler report cpu.pprof                    show the top functions\n"
          "  go tool pprof -http=: cpu.pprof               the same, in a browser\n\n"
          "Commands:",
          stream);
    for (const struct command *const *row = commands; *row; row++)
        fprintf(stream, " %s", (*row)->name);
    fputs("\nMore: cprofiler help COMMAND, man cprofiler\n", stream);
}

struct error *command_explain_unknown(int argc, char **argv)
{
    const char *word = argv[0];
    const char *names[ARRAY_LENGTH(commands)] = {NULL};
    const char *nearest;
    char hint[256];

    if (word[0] == '-') {
        const char *value = argc > 1 ? argv[1] : "PID";

        if (strncmp(word, "-p", 2) == 0)
            snprintf(hint, sizeof(hint), "type: cprofiler record -p %.100s",
                     word[2] ? word + 2 : value);
        else
            snprintf(hint, sizeof(hint),
                     "options follow a command: cprofiler record %.100s ... -- ./app", word);
        return error_create(ERROR_USAGE, hint, "no command before '%s'", word);
    }
    for (size_t i = 0; commands[i]; i++)
        names[i] = commands[i]->name;
    nearest = nearest_name(word, names);
    if (strchr(word, '/') || (!nearest && access(word, X_OK) == 0) || (!nearest && argc > 1))
        snprintf(hint, sizeof(hint), "to profile it, type: cprofiler record -- %.100s%s", word,
                 argc > 1 ? " ..." : "");
    else if (nearest)
        snprintf(hint, sizeof(hint), "did you mean: cprofiler %s", nearest);
    else
        snprintf(hint, sizeof(hint), "to profile a program, type: cprofiler record -- %.100s",
                 word);
    return error_create(ERROR_USAGE, hint, "'%s' is no cprofiler command", word);
}
