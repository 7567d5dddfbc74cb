#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/commands.h"
#include "cmd/completion.h"
#include "cmd/debug_options.h"
#include "cmd/options.h"
#include "output/pprof_patch.h"
#include "output/pprof_reader.h"
#include "symbolize/debug_server.h"
#include "symbolize/mapping_files.h"
#include "symbolize/symbolize.h"

#define DEFAULT_SYMBOL_SECONDS 60.0

#define FIELD(name) offsetof(struct symbolize_command, name)

static const struct option_row symbolize_rows[] = {
    {'o', "output", OPTION_STRING, FIELD(output), "FILE",
     "write the result here (default: in place of the profile)", .max = 0},
    {0, "debug-dir", OPTION_STRING, FIELD(debug_dir), "DIR[:DIR...]",
     "where executables and debug files are: by build-id, by path or as plain files", .max = 0},
    {0, "debuginfod", OPTION_FLAG, FIELD(debuginfod), NULL,
     "fetch missing files from the servers in DEBUGINFOD_URLS", .max = 0},
    {0, "force", OPTION_FLAG, FIELD(force), NULL, "look up places again that have names", .max = 0},
    {0, "unverified", OPTION_FLAG, FIELD(unverified), NULL,
     "trust the file at the path where the profile tells no build-id", .max = 0},
    {0, "inlines", OPTION_FLAG, FIELD(inlines), NULL,
     "expand inlined functions and source lines (default)", .can_negate = true},
    {0, "symbol-timeout", OPTION_SECONDS, FIELD(symbol_seconds), "SECONDS",
     "stop naming functions after this long (default 60)", .max = 0},
    {0, "json", OPTION_OPTIONAL, FIELD(json), "FILE",
     "print the summary as one JSON object to stderr, or to FILE", .max = 0},
    {'q', "quiet", OPTION_FLAG, FIELD(quiet), NULL, "print nothing but errors", .max = 0},
    {'v', "verbose", OPTION_FLAG, FIELD(verbose), NULL, "tell what is being done", .max = 0},
    {'h', "help", OPTION_FLAG, FIELD(help), NULL, "show this help", .max = 0},
    {.long_name = NULL},
};

static const char *const symbolize_synopsis[] = {
    "symbolize [OPTIONS] FILE",
    NULL,
};

static const char *const symbolize_examples[] = {
    "cprofiler record --no-symbolize -o cpu.pprof -- ./app    record, name later",
    "cprofiler symbolize cpu.pprof                            name what is installed here",
    "cprofiler symbolize --debug-dir ./build cpu.pprof        with binaries from elsewhere",
    NULL,
};

static inline void cleanup_completion_deinit(struct completion *completion)
{
    target_destroy(completion->target);
    pprof_patch_destroy(completion->patch);
    free(completion->statuses);
    free(completion->content);
}

static size_t count_open(const struct completion *completion)
{
    size_t num_open = 0;

    for (size_t i = 0; i < completion->table->num_locations; i++)
        num_open += location_needs_name(completion->table, &completion->table->locations[i]);
    return num_open;
}

static struct error *read_profile(struct completion *completion)
{
    size_t num_bytes;

    RETURN_IF_ERROR(
        error_with_hint(file_read_all(AT_FDCWD, completion->path, PPROF_READER_MAX_BYTES,
                                      &completion->content, &num_bytes),
                        "record one: cprofiler record --no-symbolize -o cpu.pprof -- COMMAND"));
    RETURN_IF_ERROR(
        pprof_patch_open(completion->content, num_bytes, completion->path, &completion->patch));
    completion->table = pprof_patch_table(completion->patch);
    completion->num_open_before = count_open(completion);
    completion->num_open = completion->num_open_before;
    return NULL;
}

/* Finds the files, asking servers if wanted. */
static struct error *find_files(struct completion *completion, uint64_t deadline_ns,
                                struct fetch_progress *progress)
{
    const struct symbolize_command *options = completion->options;
    CLEANUP(debug_server_close) struct debug_server *server = NULL;
    struct mapping_files_options file_options = {
        .debug_dir = options->debug_dir,
        .unverified = options->unverified,
        .again = options->force,
        .deadline_ns = deadline_ns,
    };

    if (options->debuginfod)
        RETURN_IF_ERROR(debug_server_open(fetch_progress_show, progress, deadline_ns, &server));
    file_options.server = server;
    RETURN_IF_ERROR(mapping_files_find(completion->table, completion->target, &file_options,
                                       &completion->statuses));
    if (server)
        debug_server_counts(server, &completion->fetches);
    return NULL;
}

static struct error *find_names(struct completion *completion)
{
    const struct symbolize_command *options = completion->options;
    uint64_t timeout_ns = (uint64_t)(options->symbol_seconds * 1e9);
    uint64_t start_ns = clock_monotonic_ns();
    struct fetch_progress progress = {.is_shown = !options->quiet && !options->json &&
                                                  isatty(STDERR_FILENO)};
    struct symbolize_options symbol_options = {
        .scope = SYMBOLIZE_FILES,
        .again = options->force,
        .inlines = options->inlines,
        .debug_dir = options->debug_dir,
        .debuginfod = options->debuginfod,
        .fetch = fetch_progress_show,
        .fetch_context = &progress,
        .location_weights = pprof_patch_weights(completion->patch),
    };
    uint64_t used_ns;

    RETURN_IF_ERROR(target_create(completion->table, &completion->target));
    RETURN_IF_ERROR(find_files(completion, start_ns + timeout_ns, &progress));
    used_ns = clock_monotonic_ns() - start_ns;
    symbol_options.timeout_ns = used_ns < timeout_ns ? timeout_ns - used_ns : 1;
    RETURN_IF_ERROR(symbolize_table(completion->table, completion->target, &symbol_options,
                                    &completion->result));
    fetch_progress_end(&progress);
    completion->result.duration_ns += used_ns;
    completion->num_open = count_open(completion);
    return NULL;
}

static struct error *write_profile(struct completion *completion)
{
    struct file_output *output = NULL;
    struct error *err;

    RETURN_IF_ERROR(file_output_open(completion->output_path, &output));
    err = pprof_patch_write(completion->patch, file_output_fd(output), completion->output_path);
    if (err) {
        file_output_destroy(output);
        return err;
    }
    return file_output_commit_take(output, &completion->num_bytes);
}

/* --- the command ---------------------------------------------------------------------------- */

/* Tells what came of it, as the user wants it. text: prints it for people. */
static struct error *tell(const struct completion *completion,
                          struct error *(*text)(const struct completion *completion))
{
    if (completion->options->json)
        return completion_write_json(completion);
    return completion->options->quiet ? NULL : text(completion);
}

/* Why nothing was named. */
static struct error *print_unchanged(const struct completion *completion)
{
    size_t num_wanted, num_found;

    completion_count_files(completion, &num_wanted, &num_found);
    if (completion->num_open == 0)
        fprintf(stderr,
                "cprofiler: every frame has its name already (--force looks them up again)\n");
    else
        fprintf(stderr, "cprofiler: nothing more to name: %zu places have no name in %s\n",
                completion->num_open,
                num_found ? "the files found" : "any file (kernel, JIT code)");
    return num_wanted > num_found ? completion_print_missing(completion) : NULL;
}

/* No place got a name: tells why. The profile stays as it is, an output asked for is a copy.
 * Returns: the error when files were missing and none was found. */
static struct error *finish_unchanged(struct completion *completion)
{
    size_t num_wanted, num_found;

    completion_count_files(completion, &num_wanted, &num_found);
    if (num_wanted > 0 && num_found == 0) {
        RETURN_IF_ERROR(tell(completion, completion_print_missing));
        return error_create(
            ERROR_NOT_FOUND,
            "give the executables and debug files of the recording: --debug-dir DIR",
            "%s: none of its %zu places without a name could be named", completion->path,
            completion->num_open_before);
    }
    if (completion->options->output)
        RETURN_IF_ERROR(write_profile(completion));
    return tell(completion, print_unchanged);
}

static struct error *complete(struct completion *completion)
{
    const struct symbolize_command *options = completion->options;

    RETURN_IF_ERROR(read_profile(completion));
    if (completion->num_open_before == 0 && !options->force)
        return finish_unchanged(completion);
    RETURN_IF_ERROR(find_names(completion));
    if (pprof_patch_num_changed(completion->patch) == 0 ||
        (completion->num_open == completion->num_open_before && !options->force))
        return finish_unchanged(completion);
    RETURN_IF_ERROR(write_profile(completion));
    return tell(completion, completion_print);
}

static struct error *check_writable(const char *path)
{
    struct file_output *output = NULL;

    RETURN_IF_ERROR(file_output_open(path, &output));
    file_output_destroy(output);
    return NULL;
}

/* Checks before all work that the result can be written; in place only what can be renamed over. */
static struct error *check_output(const struct completion *completion)
{
    const char *json = completion->options->json;
    struct stat status;

    if (!completion->options->output && stat(completion->path, &status) == 0 &&
        !S_ISREG(status.st_mode))
        return error_create(ERROR_USAGE, "name a file to write: -o named.pprof",
                            "symbolize: %s is no regular file", completion->path);
    if (!completion->options->output && stat(completion->path, &status) != 0)
        return NULL; /* reading it tells why */
    if (json && *json)
        RETURN_IF_ERROR(check_writable(json));
    return check_writable(completion->output_path);
}

static void log_to_stderr(enum log_level level, const char *line)
{
    fprintf(stderr, "cprofiler: %s%s\n", level == LOG_WARNING ? "warning: " : "", line);
}

static struct error *run_symbolize(int argc, char **argv, int *status_ret)
{
    struct symbolize_command options = {.symbol_seconds = DEFAULT_SYMBOL_SECONDS, .inlines = true};
    CLEANUP(completion_deinit) struct completion completion = {.options = &options};
    int first_word;

    RETURN_IF_ERROR(options_parse(&cmd_symbolize, argc, argv, false, &options, &first_word));
    if (options.help) {
        options_print_help(&cmd_symbolize, stdout);
        *status_ret = 0;
        return NULL;
    }
    if (argc - first_word != 1)
        return error_create(ERROR_USAGE, "type: cprofiler symbolize cpu.pprof", "symbolize: %s",
                            first_word == argc ? "no file given" : "more than one file given");
    if (options.verbose)
        log_set_sink(log_to_stderr, LOG_DEBUG);
    completion.path = argv[first_word];
    completion.output_path = options.output ? options.output : completion.path;
    if (options.debuginfod)
        RETURN_IF_ERROR(debug_server_check());
    RETURN_IF_ERROR(check_debug_dirs(options.debug_dir, "symbolize"));
    RETURN_IF_ERROR(check_output(&completion));
    RETURN_IF_ERROR(complete(&completion));
    *status_ret = 0;
    return NULL;
}

const struct command cmd_symbolize = {
    .name = "symbolize",
    .summary = "name the functions of a profile that was recorded without names",
    .synopsis = symbolize_synopsis,
    .options = symbolize_rows,
    .examples = symbolize_examples,
    .run = run_symbolize,
};
