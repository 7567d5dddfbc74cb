#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/commands.h"
#include "cmd/debug_options.h"
#include "cmd/heap_options.h"
#include "cmd/json.h"
#include "cmd/options.h"
#include "cmd/profile_file.h"
#include "cmd/session.h"
#include "cmd/signals.h"
#include "cmd/snapshots.h"
#include "cmd/summary.h"
#include "symbolize/debug_server.h"

#define DEFAULT_ATTACH_SECONDS 30.0
#define DEFAULT_SYMBOL_SECONDS 60.0
#define DEFAULT_MAX_MEMORY (64ULL << 20)
#define MIN_MAX_MEMORY (1ULL << 20)

struct record_options {
    struct option_list pids;
    struct option_list tids;
    const char *cgroup;
    const char *cpus;
    struct option_list events;
    const char *output;
    struct heap_options_given heap;
    const char *engine;
    const char *debug_dir;
    const char *json;    /* NULL: no; "": stderr; else a file */
    unsigned long hz;    /* 0: what suits the event */
    unsigned long count; /* 0: by hz */
    double seconds;      /* 0: the default */
    double symbol_seconds;
    unsigned long long max_memory;
    int children; /* 1, 0; -1: not said */
    bool all;
    bool kernel;
    bool inlines;
    bool symbolize;
    bool debuginfod;
    bool quiet;
    bool verbose;
    bool help;
};

#define FIELD(name) offsetof(struct record_options, name)

static const struct option_row record_rows[] = {
    {'o', "output", OPTION_STRING, FIELD(output), "FILE",
     "CPU profile to write (default cprofiler.NAME-PID.cpu.pprof)", .max = 0},
    {0, "heap", OPTION_STRING, FIELD(heap.path), "FILE",
     "heap profile to write; no CPU profile is taken then, unless -o asks for it", .max = 0},
    {0, "heap-mode", OPTION_STRING, FIELD(heap.mode), "MODE",
     "probes: what is allocated and in use (default); growth: stacks of page faults", .max = 0},
    {0, "heap-rate", OPTION_BYTES, FIELD(heap.rate), "BYTES",
     "mean distance of two heap samples (default 512K; growth: 64K)", .max = 0},
    {0, "heap-budget", OPTION_STRING, FIELD(heap.budget), "PERCENT",
     "most slowdown that probes may cause, or none for no limit (default 5)", .max = 0},
    {0, "heap-snapshot", OPTION_SECONDS, FIELD(heap.snapshot_seconds), "SECONDS",
     "write a numbered heap profile each so often", .max = 0},
    {0, "heap-keep-allocator", OPTION_FLAG, FIELD(heap.keeps_allocator), NULL,
     "leave frames of the allocator in heap stacks", .max = 0},
    {'p', "pid", OPTION_LIST, FIELD(pids), "PID",
     "attach to running processes: PID[,PID...] or a process name", .max = 0},
    {'t', "tid", OPTION_LIST, FIELD(tids), "TID",
     "these threads alone: TID[,TID...]; with --children, what they start too", .max = 0},
    {'a', "all", OPTION_FLAG, FIELD(all), NULL,
     "the whole system: while the command runs, or until Ctrl-C", .max = 0},
    {0, "cgroup", OPTION_STRING, FIELD(cgroup), "PATH",
     "all processes of a cgroup and of those below it, now and later", .max = 0},
    {'C', "cpu", OPTION_STRING, FIELD(cpus), "LIST", "only what runs on these CPUs: 0,2-3",
     .max = 0},
    {'F', "frequency", OPTION_UINT, FIELD(hz), "HZ",
     "samples per second of CPU time, 1 to 10000 (default 99; counted events: 4000)", .min = 1,
     .max = SAMPLER_MAX_HZ,
     .range_reason = "above 10 kHz taking samples would cost the target more than it tells; 99 to "
                     "999 is usual"},
    {'e', "event", OPTION_LIST, FIELD(events), "EVENT",
     "sample by EVENT[,EVENT...], not by CPU time; 'list' shows all", .max = 0},
    {'c', "count", OPTION_UINT, FIELD(count), "COUNT",
     "one sample every COUNT events (ns of a clock), instead of -F", .min = 1, .max = LONG_MAX},
    {'d', "duration", OPTION_SECONDS, FIELD(seconds), "SECONDS",
     "stop after this long (default 30 with -p and -t, else when the command ends)", .max = 0},
    {0, "children", OPTION_SWITCH, FIELD(children), NULL,
     "follow child processes (default); threads are always followed", .can_negate = true},
    {0, "kernel", OPTION_FLAG, FIELD(kernel), NULL,
     "sample kernel code too, where allowed (default)", .can_negate = true},
    {0, "inlines", OPTION_FLAG, FIELD(inlines), NULL,
     "expand inlined functions and source lines (default)", .can_negate = true},
    {0, "symbolize", OPTION_FLAG, FIELD(symbolize), NULL,
     "name functions (default), or leave it to 'cprofiler symbolize'", .can_negate = true},
    {0, "debug-dir", OPTION_STRING, FIELD(debug_dir), "DIR[:DIR...]",
     "look for separate debug files here, before /usr/lib/debug", .max = 0},
    {0, "debuginfod", OPTION_FLAG, FIELD(debuginfod), NULL,
     "fetch missing debug files from the servers in DEBUGINFOD_URLS", .max = 0},
    {0, "engine", OPTION_STRING, FIELD(engine), "NAME",
     "force a way of sampling: cpu-wide, per-task or ptrace", .max = 0},
    {0, "symbol-timeout", OPTION_SECONDS, FIELD(symbol_seconds), "SECONDS",
     "stop naming functions after this long; the rest gets module+offset (default 60)", .max = 0},
    {0, "max-memory", OPTION_BYTES, FIELD(max_memory), "BYTES",
     "bound for collected stacks; rare ones merge into [other] (default 64M)", .max = 0},
    {0, "json", OPTION_OPTIONAL, FIELD(json), "FILE",
     "print the summary as one JSON object to stderr, or to FILE", .max = 0},
    {'q', "quiet", OPTION_FLAG, FIELD(quiet), NULL, "print nothing but errors", .max = 0},
    {'v', "verbose", OPTION_FLAG, FIELD(verbose), NULL, "tell what is being done", .max = 0},
    {'h', "help", OPTION_FLAG, FIELD(help), NULL, "show this help", .max = 0},
    {.long_name = NULL},
};

static const char *const record_synopsis[] = {
    "record [OPTIONS] [--] COMMAND [ARGS...]",
    "record [OPTIONS] -p PID[,PID...]|NAME",
    "record [OPTIONS] -t TID[,TID...]",
    "record [OPTIONS] -a|--cgroup PATH [[--] COMMAND [ARGS...]]",
    NULL,
};

static const char *const record_examples[] = {
    "cprofiler record -o cpu.pprof -- ./app args    profile a command",
    "cprofiler record -p 1234 -d 10                 attach to a process for 10 s",
    "cprofiler record --heap heap.pprof -p 1234     who holds its memory",
    "cprofiler record -a -d 10                      the whole system for 10 s",
    "cprofiler report cpu.pprof                     show the top functions",
    NULL,
};

/* --- what to record ------------------------------------------------------------------------- */

/* Checks that what was asked for is one thing, and all of it possible together. */
static struct error *check_scope(const struct record_options *options, bool has_command)
{
    const char *const given[] = {
        options->pids.num_values ? "-p" : NULL,
        options->tids.num_values ? "-t" : NULL,
        options->all ? "-a" : NULL,
        options->cgroup ? "--cgroup" : NULL,
    };
    const char *scope = NULL;

    for (size_t i = 0; i < ARRAY_LENGTH(given); i++) {
        if (given[i] && scope)
            return error_create(ERROR_USAGE, "give one of -p, -t, -a, --cgroup and a command",
                                "record: both %s and %s", scope, given[i]);
        scope = given[i] ? given[i] : scope;
    }
    if (!has_command && !scope)
        return error_create(ERROR_USAGE,
                            "type: cprofiler record -o cpu.pprof -- ./app args   or   cprofiler "
                            "record -p PID",
                            "record: nothing to record: no command and no -p PID");
    if (has_command && (options->pids.num_values || options->tids.num_values))
        return error_create(ERROR_USAGE, "give either -p PID or a command",
                            "record: both %s and a command", scope);
    if (!options->all && !options->cgroup)
        return NULL;
    if (options->children >= 0)
        return error_create(ERROR_USAGE, "leave it out",
                            "record: --%schildren has no meaning with %s, where all that runs is "
                            "sampled",
                            options->children ? "" : "no-", scope);
    if (options->engine && strcmp(options->engine, sampler_cpu_wide.name))
        return error_create(ERROR_USAGE, "leave --engine out",
                            "record: %s needs the engine cpu-wide, not %s", scope, options->engine);
    return NULL;
}

/* Finds out whom the options mean. */
static struct error *resolve_scope(const struct record_options *options, struct scope *scope)
{
    if (options->all)
        scope->kind = SCOPE_SYSTEM;
    for (size_t i = 0; i < options->pids.num_values; i++)
        RETURN_IF_ERROR(scope_add_processes(scope, options->pids.values[i]));
    for (size_t i = 0; i < options->tids.num_values; i++)
        RETURN_IF_ERROR(scope_add_threads(scope, options->tids.values[i]));
    if (options->cgroup)
        RETURN_IF_ERROR(scope_set_cgroup(scope, options->cgroup));
    return options->cpus ? scope_set_cpus(scope, options->cpus) : NULL;
}

static struct error *check_file(const char *path, const char *hint)
{
    char text[64];

    snprintf(text, sizeof(text), "name a file: %s", hint);
    return path && strcmp(path, "-") == 0
               ? error_create(
                     ERROR_USAGE, text,
                     "record: a profile cannot go to standard output, which is the command's")
               : NULL;
}

/* Checks what was asked for beside a heap profile. */
static struct error *check_heap(const struct record_options *options)
{
    bool is_growth = options->heap.mode && strcmp(options->heap.mode, "growth") == 0;
    const char *of_cpu = options->events.num_values      ? "-e"
                         : options->hz                   ? "-F"
                         : !is_growth && options->count  ? "-c"
                         : !is_growth && options->engine ? "--engine"
                                                         : NULL;
    const char *scope = options->all               ? "-a"
                        : options->cgroup          ? "--cgroup"
                        : options->tids.num_values ? "-t"
                        : options->cpus            ? "-C"
                                                   : NULL;

    if (!options->heap.path)
        return NULL;
    if (options->output && strcmp(options->output, options->heap.path) == 0)
        return error_create(ERROR_USAGE, "type: -o cpu.pprof --heap heap.pprof",
                            "record: both profiles to one file");
    if (!options->output && of_cpu)
        return error_create(ERROR_USAGE, "give -o cpu.pprof, too, or leave it out",
                            "record: %s is for a CPU profile, and --heap alone takes none", of_cpu);
    if (scope && !is_growth)
        return error_create(ERROR_USAGE, "name processes: -p PID; or --heap-mode growth",
                            "record: %s with --heap: an allocator is probed for whole processes",
                            scope);
    return NULL;
}

static struct error *check_usage(const struct record_options *options, bool has_command)
{
    if (options->hz && options->count)
        return error_create(ERROR_USAGE, "give either -F HZ or -c COUNT",
                            "record: both a frequency and a count");
    if (options->engine && strcmp(options->engine, sampler_cpu_wide.name) &&
        strcmp(options->engine, sampler_per_task.name) &&
        strcmp(options->engine, sampler_ptrace.name))
        return error_create(ERROR_USAGE, "engines: cpu-wide, per-task, ptrace",
                            "record: no engine '%s'", options->engine);
    RETURN_IF_ERROR(check_scope(options, has_command));
    if (options->debuginfod)
        RETURN_IF_ERROR(debug_server_check());
    RETURN_IF_ERROR(check_debug_dirs(options->debug_dir, "record"));
    if (options->max_memory < MIN_MAX_MEMORY)
        return error_create(ERROR_USAGE, "type: --max-memory 64M",
                            "record: --max-memory below 1M is too little to work with");
    RETURN_IF_ERROR(check_file(options->output, "-o cpu.pprof"));
    RETURN_IF_ERROR(check_file(options->heap.path, "--heap heap.pprof"));
    return check_heap(options);
}

/* --- writing -------------------------------------------------------------------------------- */

/* What is being recorded and where it goes. */
struct recording {
    const struct record_options *options;
    struct session session;
    struct profile_file files[SESSION_MAX_RECORDERS]; /* of the session's recorders */
    struct snapshots snapshots;
};

/* Where the profile of a recorder is to go. Returns: NULL: to the default place. */
static const char *path_of(const struct record_options *options, const char *kind)
{
    return strcmp(kind, "cpu") ? options->heap.path : options->output;
}

/* Opens the files that the user named, before anything else starts. */
static struct error *open_named_files(struct recording *recording,
                                      const struct session_options *options)
{
    const char *const kinds[] = {
        options->events ? "cpu" : NULL,
        options->growth ? "growth" : NULL,
        options->heap ? "heap" : NULL,
    };
    size_t num_files = 0;

    for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++) {
        const char *path = kinds[i] ? path_of(recording->options, kinds[i]) : NULL;
        struct profile_file *file = &recording->files[num_files];

        if (path)
            RETURN_IF_ERROR(profile_file_open(file, kinds[i], path, NULL));
        num_files += kinds[i] != NULL;
    }
    return NULL;
}

/* Opens those that are named after the target. */
static struct error *open_other_files(struct recording *recording)
{
    const struct session *session = &recording->session;
    char name[SESSION_NAME_BYTES];

    session_target_name(session, name);
    for (size_t i = 0; i < session->num_recorders; i++)
        RETURN_IF_ERROR(
            profile_file_open(&recording->files[i], session->recorders[i].kind, NULL, name));
    return NULL;
}

/* Writes all profiles; one that can't be written does not keep the next from it. */
static struct error *write_files(struct recording *recording)
{
    const struct session *session = &recording->session;
    CLEANUP(error_destroy) struct error *first = NULL;
    char name[SESSION_NAME_BYTES];

    session_target_name(session, name);
    for (size_t i = 0; i < session->num_recorders; i++) {
        struct error *err =
            profile_file_keep(&recording->files[i], &session->recorders[i].profile, name);

        if (first)
            error_destroy(err);
        else
            first = err;
    }
    return take_ptr(first);
}

static struct error *print_json(const void *context, FILE *stream)
{
    const struct recording *recording = context;

    return summary_print_json(&recording->session, recording->files, stream);
}

static struct error *print_summary(struct recording *recording)
{
    if (recording->options->json)
        return json_write(recording->options->json, print_json, recording);
    if (recording->options->quiet)
        return NULL;
    return summary_print(&recording->session, recording->files, stderr);
}

/* --- while recording ------------------------------------------------------------------------ */

static void print_progress(void *context, const struct session *session)
{
    char name[SESSION_NAME_BYTES];

    (void)context;
    session_target_name(session, name);
    fprintf(stderr, "\rcprofiler: recording %s, %.0f s, %llu samples (Ctrl-C ends it) ", name,
            (double)session->duration_ns / 1e9, (unsigned long long)session_num_samples(session));
}

/* A status line only where somebody reads it, and not into a command's own terminal output. */
static bool shows_progress(const struct recording *recording)
{
    return !recording->options->quiet && !recording->options->json &&
           !recording->session.options.argv && isatty(STDERR_FILENO);
}

static struct error *record(struct recording *recording, const struct session_options *options)
{
    struct session *session = &recording->session;
    CLEANUP(error_destroy) struct error *trouble = NULL;
    struct error *err;

    RETURN_IF_ERROR(open_named_files(recording, options));
    RETURN_IF_ERROR(session_open(session, options));
    RETURN_IF_ERROR(open_other_files(recording));
    session->options.snapshot = snapshots_take;
    session->options.snapshot_context = &recording->snapshots;
    trouble = session_record(session, shows_progress(recording) ? print_progress : NULL, NULL);
    if (shows_progress(recording))
        fputs("\r\033[K", stderr);
    if (trouble && session_num_samples(session) == 0)
        return take_ptr(trouble);
    snapshots_finish(&recording->snapshots);
    session->heap.num_snapshots = recording->snapshots.num_written;
    session->heap.num_skipped_snapshots = recording->snapshots.num_skipped;
    if (recording->snapshots.has_failed)
        session->heap.snapshots_failure = recording->snapshots.failure;
    RETURN_IF_ERROR(session_finish(session));
    fetch_progress_end(options->fetch_context);
    err = write_files(recording);
    if (recording->files[0].is_written || recording->files[1].is_written) {
        struct error *summary_error = print_summary(recording);

        if (err)
            error_destroy(summary_error);
        else
            err = summary_error;
    }
    return err ? err : take_ptr(trouble);
}

static void log_to_stderr(enum log_level level, const char *line)
{
    fprintf(stderr, "cprofiler: %s%s\n", level == LOG_WARNING ? "warning: " : "", line);
}

static struct error *run_recording(const struct record_options *options,
                                   const struct session_options *session_options, int *status_ret)
{
    struct recording recording = {.options = options, .snapshots = {.path = options->heap.path}};
    CLEANUP(error_destroy) struct error *err = record(&recording, session_options);
    struct session *session = &recording.session;

    *status_ret = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(recording.files); i++)
        profile_file_deinit(&recording.files[i]);
    if (!err && session->launch) {
        int command_status;

        session_detach(session);
        if (!session->command_has_ended && !options->quiet && !options->json)
            fprintf(stderr, "cprofiler: recording is done; waiting for %s (pid %d) to end\n",
                    session_options->argv[0], /* NOLINT(clang-analyzer-core.NullDereference) */
                    (int)launch_pid(session->launch));
        command_status = session_wait_command(session);
        session_deinit(session);
        *status_ret = signals_end_as(command_status);
        return NULL;
    }
    /* As the shell, env(1) and nohup(1) end when they can't start a command. */
    if (err && session->command_is_missing)
        *status_ret = err->kind == ERROR_NOT_FOUND ? 127 : 126;
    session_deinit(session);
    return take_ptr(err);
}

/* Which profiles are taken, and by what they sample. */
struct profiles_choice {
    bool takes_cpu;
    struct event_list events;
    struct heap_choice heap;
};

static struct error *choose_profiles(const struct record_options *options,
                                     struct profiles_choice *choice)
{
    choice->takes_cpu = !options->heap.path || options->output;
    RETURN_IF_ERROR(
        heap_options_read(&options->heap, choice->takes_cpu ? 0 : options->count, &choice->heap));
    return events_choose(&options->events, (uint32_t)options->hz,
                         choice->takes_cpu ? options->count : 0, options->kernel, &choice->events);
}

/* What the session gets of all options. The caller adds where it goes. */
static struct session_options make_session_options(const struct record_options *options,
                                                   const struct profiles_choice *choice)
{
    return (struct session_options){
        .events = choice->takes_cpu ? &choice->events : NULL,
        .growth = choice->heap.has_growth ? &choice->heap.growth : NULL,
        .heap = choice->heap.has_probes ? &choice->heap.probes : NULL,
        .kernel = options->kernel,
        .follow_children = options->children < 0 ? !options->tids.num_values : options->children,
        .engine = options->engine,
        .duration_ns = (uint64_t)(options->seconds * 1e9),
        .max_memory_bytes = options->max_memory,
        .symbol_timeout_ns = (uint64_t)(options->symbol_seconds * 1e9),
        .inlines = options->inlines,
        .symbolize = options->symbolize,
        .debug_dir = options->debug_dir,
        .debuginfod = options->debuginfod,
        .fetch = fetch_progress_show,
    };
}

static struct error *run_record(int argc, char **argv, int *status_ret)
{
    struct record_options options = {
        .symbol_seconds = DEFAULT_SYMBOL_SECONDS,
        .max_memory = DEFAULT_MAX_MEMORY,
        .children = -1,
        .kernel = true,
        .inlines = true,
        .symbolize = true,
    };
    struct fetch_progress fetch_progress = {0};
    struct session_options session_options;
    struct scope scope = scope_command();
    CLEANUP(scope_deinit) UNUSED struct scope *guard = &scope;
    struct profiles_choice choice;
    bool attaches, has_command;
    int first_word;

    RETURN_IF_ERROR(options_parse(&cmd_record, argc, argv, true, &options, &first_word));
    if (options.help) {
        options_print_help(&cmd_record, stdout);
        *status_ret = 0;
        return NULL;
    }
    if (events_is_question(&options.events)) {
        *status_ret = 0;
        return events_print(stdout);
    }
    has_command = first_word < argc;
    attaches = options.pids.num_values || options.tids.num_values;
    RETURN_IF_ERROR(check_usage(&options, has_command));
    if (options.verbose)
        log_set_sink(log_to_stderr, LOG_DEBUG);
    RETURN_IF_ERROR(choose_profiles(&options, &choice));
    RETURN_IF_ERROR(resolve_scope(&options, &scope));
    RETURN_IF_ERROR(signals_install());
    if (attaches && options.seconds == 0)
        options.seconds = DEFAULT_ATTACH_SECONDS;
    fetch_progress.is_shown = !options.quiet && !options.json && isatty(STDERR_FILENO);
    session_options = make_session_options(&options, &choice);
    session_options.argv = has_command ? argv + first_word : NULL;
    session_options.scope = &scope;
    session_options.fetch_context = &fetch_progress;
    return run_recording(&options, &session_options, status_ret);
}

const struct command cmd_record = {
    .name = "record",
    .summary = "profile a command, or running processes",
    .synopsis = record_synopsis,
    .options = record_rows,
    .examples = record_examples,
    .run = run_record,
};
