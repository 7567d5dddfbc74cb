/* The entry: picks the command, prints the error, chooses the exit status. Nobody else does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sigbus.h"
#include "cmd/commands.h"
#include "cmd/options.h"
#include "target/launch.h"

/* Messages quote names that came from elsewhere: no control characters to the terminal. */
static void print_line(const char *prefix, const char *text)
{
    fputs(prefix, stderr);
    for (; *text; text++)
        fputc((unsigned char)*text < ' ' || *text == 127 ? '?' : *text, stderr);
    fputc('\n', stderr);
}

static int report_error(const struct error *err)
{
    print_line("cprofiler: ", err->message ? err->message : "out of memory");
    if (err->hint)
        print_line("  hint: ", err->hint);
    return err->kind == ERROR_USAGE ? 2 : 1;
}

/* Output that could not be written is a failure, whatever the command thought of itself. */
static int close_stdout(int status)
{
    if (fflush(stdout) || ferror(stdout)) {
        if (status == 0) {
            fprintf(stderr, "cprofiler: cannot write standard output: %m\n"
                            "  hint: check that the disk or pipe it goes to takes data\n");
            status = 1;
        }
    }
    return status;
}

static bool wants_help(const char *word)
{
    return strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0;
}

static struct error *run(int argc, char **argv, int *status_ret)
{
    const struct command *command;

    if (argc < 2) {
        command_print_first_contact(stderr);
        *status_ret = 2;
        return NULL;
    }
    if (wants_help(argv[1])) {
        command_print_first_contact(stdout);
        *status_ret = 0;
        return NULL;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return cmd_version.run(1, argv + 1, status_ret);
    command = command_find(argv[1]);
    if (!command)
        return command_explain_unknown(argc - 1, argv + 1);
    if (argc > 2 && wants_help(argv[2])) {
        options_print_help(command, stdout);
        *status_ret = 0;
        return NULL;
    }
    return command->run(argc - 1, argv + 1, status_ret);
}

int main(int argc, char **argv)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    int status = 0;

    launch_remember();
    sigbus_guard_install();
    err = run(argc, argv, &status);
    if (err) {
        int kind_status = report_error(err);

        status = status ? status : kind_status;
    }
    return close_stdout(status);
}
