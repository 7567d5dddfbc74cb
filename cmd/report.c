#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/commands.h"
#include "cmd/options.h"
#include "output/heap_error.h"
#include "output/pprof_reader.h"
#include "output/profile_diff.h"
#include "output/top.h"
#include "output/units.h"
#include "symbolize/symbolize.h"

#define MAX_ROWS 1000000000

struct report_options {
    const char *base;
    const char *type;
    unsigned long rows;
    bool cum;
    bool help;
};

#define FIELD(name) offsetof(struct report_options, name)

static const struct option_row report_rows[] = {
    {0, "base", OPTION_STRING, FIELD(base), "FILE",
     "show what grew since FILE: its values are subtracted", .max = 0},
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
    "report [--cum] [-n ROWS] [--type NAME] [--base FILE] FILE",
    NULL,
};

static const char *const report_examples[] = {
    "cprofiler report cpu.pprof              functions by their own time",
    "cprofiler report --cum -n 20 cpu.pprof  the 20 with most time below them",
    "cprofiler report --type samples cpu.pprof",
    "cprofiler report --base heap.0001.pprof heap.pprof  what leaks: growth since a snapshot",
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

/* All was freed: says where to see who allocated it. */
static void hint_at_allocations(const struct profile *profile, size_t column)
{
    size_t allocated;

    if (profile_total(profile, column) == 0 && profile->num_samples > 0 &&
        top_find_column(profile, "alloc_space", &allocated) && allocated != column)
        fprintf(stderr, "cprofiler: nothing is in use: --type alloc_space shows who allocates\n");
}

/* Reads a profile and makes its names readable. */
static struct error *read_input(const char *path, struct report_input *input)
{
    RETURN_IF_ERROR(pprof_read_file(path, &input->table, &input->profile));
    return demangle_functions(&input->table);
}

/* The column that is shown, which the profile at `path` must have. */
static struct error *choose_column(const struct profile *profile, const char *path,
                                   const char *type, size_t *column_ret)
{
    *column_ret = top_default_column(profile);
    if (type && !top_find_column(profile, type, column_ret))
        return explain_unknown_type(profile, path, type);
    return NULL;
}

/* Leaves out memory that has no stack, and says how much it was: between two snapshots it moves by
 * what the sampling errs, and by what nobody can tell. */
static void leave_out_rest(struct profile *last, size_t column, struct profile *base,
                           size_t base_column)
{
    const char *unit = string_table_get(&last->table->strings, last->value_types[column].unit);
    int64_t values[2];
    char texts[2][UNIT_VALUE_BYTES];

    profile_remove_rest(base, base_column, &values[0]);
    profile_remove_rest(last, column, &values[1]);
    if (values[0] == 0 && values[1] == 0)
        return;
    for (size_t i = 0; i < ARRAY_LENGTH(values); i++)
        top_format_value(values[i], unit, texts[i], sizeof(texts[i]));
    printf("Left out: %s and %s, %s then, %s now\n", frame_reason_name(REASON_BEFORE_ATTACH),
           frame_reason_name(REASON_UNTRACKED), texts[0], texts[1]);
}

/* Turns a profile into its difference to the one at options->base, of which it says what it is. */
static struct error *subtract_base(struct report_input *input, const char *path, size_t column,
                                   const struct report_options *options, struct top_options *top)
{
    CLEANUP(report_input_deinit) struct report_input base = {0};
    CLEANUP(free) char *clean = NULL;
    const char *type =
        string_table_get(&input->table.strings, input->profile.value_types[column].type);
    size_t base_column;

    RETURN_IF_ERROR(read_input(options->base, &base));
    if (!profile_find_like(&input->profile, column, &base.profile, &base_column))
        return error_create(ERROR_USAGE, "compare profiles of one kind",
                            "%s has no values of the type '%s' as %s has", options->base, type,
                            path);
    RETURN_IF_ERROR(utf8_sanitize(options->base, &clean));
    printf("Base: %s\n", clean);
    leave_out_rest(&input->profile, column, &base.profile, base_column);
    top->is_difference = true;
    top->first_base = input->profile.num_samples;
    top->order = options->cum ? TOP_BY_CUM_GROWTH : TOP_BY_GROWTH;
    return profile_subtract(&input->profile, &base.profile);
}

/* Errors of a heap profile's values, or of their differences. */
static struct error *compute_errors(const struct profile *profile, size_t column,
                                    const struct top_options *top, struct heap_error **errors_ret)
{
    RETURN_IF_ERROR(heap_error_compute(profile, column, errors_ret));
    return top->is_difference ? heap_error_cancel(profile, top->first_base, *errors_ret) : NULL;
}

static struct error *show(const char *path, const struct report_options *options)
{
    CLEANUP(report_input_deinit) struct report_input input = {0};
    CLEANUP(free) struct heap_error *errors = NULL;
    struct top_options top = {.order = options->cum ? TOP_BY_CUM : TOP_BY_FLAT,
                              .max_rows = options->rows};
    size_t column;

    RETURN_IF_ERROR(read_input(path, &input));
    RETURN_IF_ERROR(choose_column(&input.profile, path, options->type, &column));
    if (options->base)
        RETURN_IF_ERROR(subtract_base(&input, path, column, options, &top));
    if (heap_error_is_known(&input.profile, column))
        RETURN_IF_ERROR(compute_errors(&input.profile, column, &top, &errors));
    top.errors = errors;
    RETURN_IF_ERROR(top_print(&input.profile, column, &top, stdout));
    fflush(stdout);
    if (!options->base)
        hint_at_allocations(&input.profile, column);
    hint_at_symbolize(&input.table, path);
    return NULL;
}

static struct error *run_report(int argc, char **argv, int *status_ret)
{
    struct report_options options = {0};
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
    RETURN_IF_ERROR(show(argv[first_word], &options));
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
