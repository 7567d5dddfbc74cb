#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/commands.h"
#include "cmd/options.h"
#include "output/pprof_reader.h"
#include "output/top.h"
#include "symbolize/symbolize.h"

#define MAX_ROWS 1000000000

struct report_options {
    const char *type;
    unsigned long rows;
    bool cum;
    bool help;
};

#define FIELD(name) offsetof(struct report_options, name)

static const struct option_row report_rows[] = {
    {0, "cum", OPTION_FLAG, FIELD(cum), NULL, "sort by cumulative value: callers above callees",
     .max = 0},
    {'n', "rows", OPTION_UINT, FIELD(rows), "ROWS", "show at most this many functions", .min = 1,
     .max = MAX_ROWS},
    {0, "type", OPTION_STRING, FIELD(type), "NAME",
     "value to show, such as samples, cpu, alloc_space (default: as the file says)", .max = 0},
    {'h', "help", OPTION_FLAG, FIELD(help), NULL, "show this help", .max = 0},
    {.long_name = NULL},
};

static const char *const report_synopsis[] = {
    "report [--cum] [-n ROWS] [--type NAME] FILE",
    NULL,
};

static const char *const report_examples[] = {
    "cprofiler report cpu.pprof              functions by their own time",
    "cprofiler report --cum -n 20 cpu.pprof  the 20 with most time below them",
    "cprofiler report --type samples cpu.pprof",
    NULL,
};

/* A profile as read, with all that it needs. */
struct report_input {
    struct stack_table table;
    struct profile profile;
};

static inline void cleanup_report_input_deinit(struct report_input *input)
{
    profile_deinit(&input->profile);
    stack_table_deinit(&input->table);
}

static inline void cleanup_arena_deinit(struct arena *arena)
{
    arena_deinit(arena);
}

/* Gives readable names to functions that have only the linker's, as some tools write them. */
static struct error *demangle_functions(struct stack_table *table)
{
    CLEANUP(arena_deinit) struct arena arena;

    arena_init(&arena);
    for (size_t i = 0; i < table->num_functions; i++) {
        struct function *function = &table->functions[i];
        const char *symbol = string_table_get(&table->strings, function->system_name);
        const char *name;

        if (function->name != 0 && function->name != function->system_name)
            continue;
        if (strncmp(symbol, "_Z", 2) != 0 && strncmp(symbol, "_R", 2) != 0)
            continue;
        name = symbol_demangle(&arena, symbol);
        if (!name)
            return &error_no_memory;
        RETURN_IF_ERROR(string_table_add(&table->strings, name, &function->name));
    }
    return NULL;
}

/* The error for a type that the profile does not have; the hint lists those that it has. */
static struct error *explain_unknown_type(const struct profile *profile, const char *path,
                                          const char *type)
{
    char hint[256] = "it has:";
    size_t length = strlen(hint);

    for (size_t i = 0; i < profile->num_value_types && length < sizeof(hint); i++)
        length += (size_t)snprintf(
            hint + length, sizeof(hint) - length, " %s",
            string_table_get(&profile->table->strings, profile->value_types[i].type));
    return error_create(ERROR_USAGE, hint, "%s: no sample type '%s'", path, type);
}

/* Places of files that nobody named yet show as their file alone: says how they get names. */
static void hint_at_symbolize(const struct stack_table *table, const char *path)
{
    size_t num_unnamed = 0;

    for (size_t i = 0; i < table->num_locations; i++) {
        const struct location *location = &table->locations[i];
        const struct mapping *mapping =
            location->key.mapping ? &table->mappings[location->key.mapping - 1] : NULL;

        num_unnamed += mapping && mapping->build_id && location->num_lines == 0;
    }
    if (num_unnamed > 0)
        fprintf(stderr, "cprofiler: %zu of %zu places have no name: cprofiler symbolize %s\n",
                num_unnamed, table->num_locations, path);
}

static struct error *run_report(int argc, char **argv, int *status_ret)
{
    CLEANUP(report_input_deinit) struct report_input input = {0};
    struct report_options options = {0};
    const char *path;
    size_t column;
    int first_word;

    RETURN_IF_ERROR(options_parse(&cmd_report, argc, argv, false, &options, &first_word));
    if (options.help) {
        options_print_help(&cmd_report, stdout);
        *status_ret = 0;
        return NULL;
    }
    if (argc - first_word != 1)
        return error_create(ERROR_USAGE, "type: cprofiler report cpu.pprof", "report: %s",
                            first_word == argc ? "no file given" : "more than one file given");
    /* `report | head` ends us quietly, whatever our parent did with the signal. */
    signal(SIGPIPE, SIG_DFL);
    path = argv[first_word];
    RETURN_IF_ERROR(pprof_read_file(path, &input.table, &input.profile));
    RETURN_IF_ERROR(demangle_functions(&input.table));
    column = top_default_column(&input.profile);
    if (options.type && !top_find_column(&input.profile, options.type, &column))
        return explain_unknown_type(&input.profile, path, options.type);
    RETURN_IF_ERROR(top_print(&input.profile, column, options.cum ? TOP_BY_CUM : TOP_BY_FLAT,
                              options.rows, stdout));
    fflush(stdout);
    hint_at_symbolize(&input.table, path);
    *status_ret = 0;
    return NULL;
}

const struct command cmd_report = {
    .name = "report",
    .summary = "show the top functions of a profile",
    .synopsis = report_synopsis,
    .options = report_rows,
    .examples = report_examples,
    .run = run_report,
};
