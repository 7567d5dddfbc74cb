#include "cmd/summary.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/procfs.h"
#include "cmd/json.h"
#include "cmd/package_owner.h"
#include "cmd/summary_events.h"
#include "cmd/summary_heap.h"
#include "output/top.h"
#include "symbolize/jit_map.h"

#define NUM_TOP 5

/* The figures that both forms show. Shares are fractions, NAN-free: 0 samples give 0 or 1. */
struct figures {
    double seconds;
    double kernel_share;
    double complete_share;
    double named_share;
    double due_share; /* samples taken / due; valid when the session has_due */
    double own_cpu_seconds;
    uint64_t own_rss_bytes;
    size_t num_processes;
    size_t num_threads;
    const char *worst_path; /* basename; NULL when everything is named */
    char worst_remedy[256]; /* what would name it */
    int64_t total;
    struct top_row *rows;
    size_t num_rows;
};

/* The column that the summary is about. */
static size_t main_column(const struct session *session)
{
    return session->primary->events ? 1 : HEAP_INUSE_SPACE;
}

static double share(uint64_t part, uint64_t whole, double of_nothing)
{
    return whole ? (double)part / (double)whole : of_nothing;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

/* What gives names to the code of a file: its package's debug symbols, where it has one. */
static struct error *file_remedy(const struct session *session, const struct mapping *mapping,
                                 struct figures *figures)
{
    const struct module *module = module_table_at(target_modules(session->target), mapping->module);
    const char *path = string_table_get(&session->table.strings, mapping->path);
    const char *server = session->options.debuginfod ? "" : ", or --debuginfod";
    CLEANUP(free) char *package = NULL;

    if (module && !module->root[0] && !module->is_deleted)
        RETURN_IF_ERROR(package_owner_find(PACKAGE_LISTS_DIR, path, &package));
    if (package && strcmp(package, "libc6") == 0)
        snprintf(figures->worst_remedy, sizeof(figures->worst_remedy),
                 "apt-get install libc6-dbg%s", server);
    else if (package)
        snprintf(figures->worst_remedy, sizeof(figures->worst_remedy),
                 "apt-get install %.128s-dbgsym%s", package, server);
    else
        snprintf(figures->worst_remedy, sizeof(figures->worst_remedy),
                 "build it with -g and do not strip it, or --debug-dir%s", server);
    return NULL;
}

/* What gives names to the code of the worst mapping. */
static struct error *describe_remedy(const struct session *session, const struct mapping *mapping,
                                     struct figures *figures)
{
    const struct process *process = target_find(session->target, mapping->pid);

    switch (mapping->kind) {
    case MAPPING_ANON:
        if (process && jit_map_is_refused(process))
            snprintf(figures->worst_remedy, sizeof(figures->worst_remedy),
                     "/tmp/perf-%u.map is of another user or process and not trusted",
                     process->ns_pid ? process->ns_pid : process->pid);
        else
            snprintf(figures->worst_remedy, sizeof(figures->worst_remedy),
                     "JIT code; have it write a perf map (node --perf-basic-prof)");
        return NULL;
    case MAPPING_KERNEL:
        snprintf(figures->worst_remedy, sizeof(figures->worst_remedy),
                 "run as root, or sysctl kernel.kptr_restrict=0");
        return NULL;
    default:
        return file_remedy(session, mapping, figures);
    }
}

static struct error *compute_figures(const struct session *session, struct figures *figures)
{
    uint32_t worst = session->symbols.worst_mapping;

    *figures = (struct figures){
        .seconds = (double)session->duration_ns / 1e9,
        .kernel_share = share(session->primary->tallies[0].num_kernel_samples,
                              session->primary->tallies[0].num_samples, 0),
        .complete_share = share(session->primary->num_complete, session->primary->num_samples, 1),
        .named_share = share(session->symbols.weight_named, session->symbols.weight_total, 1),
        .due_share = session->has_due
                         ? share(session->cpu->tallies[session->clock].weight, session->due_ns, 1)
                         : 1,
        .own_cpu_seconds = (double)clock_self_cpu_ns() / 1e9,
        .own_rss_bytes = procfs_self_peak_rss(),
        .total = profile_total(&session->primary->profile, main_column(session)),
    };
    target_counts(session->target, &figures->num_processes, &figures->num_threads);
    if (worst && worst <= session->table.num_mappings) {
        const struct mapping *mapping = &session->table.mappings[worst - 1];

        figures->worst_path = base_name(string_table_get(&session->table.strings, mapping->path));
        RETURN_IF_ERROR(describe_remedy(session, mapping, figures));
    }
    return top_compute(&session->primary->profile, main_column(session), &figures->rows,
                       &figures->num_rows);
}

/* Text without control characters, for the terminal: names come from the target. */
static void print_clean(const char *text, FILE *stream)
{
    for (; *text; text++)
        fputc((unsigned char)*text < ' ' || *text == 127 ? '?' : *text, stream);
}

/* The loss that cost most stacks, with what to do about it. */
static void print_stack_remedy(const struct session *session, FILE *stream)
{
    static const struct {
        enum loss_kind kind;
        const char *remedy;
    } remedies[] = {
        {LOSS_TRUNCATED, "stacks that go on beyond the copied 32 KB, or on another stack (Go), "
                         "and had changed before the rest could be read"},
        {LOSS_NO_UNWIND_INFO,
         "code without unwind information: compile it with -fasynchronous-unwind-tables"},
        {LOSS_JIT, "JIT code without frame pointers: java -XX:+PreserveFramePointer"},
        {LOSS_NO_MAPPING, "code outside every known mapping: it was unmapped before it was read"},
        {LOSS_BAD_CFA, "unwind information that makes no sense at these addresses"},
        {LOSS_TOO_DEEP, "recursion deeper than 4096 frames"},
        {LOSS_32BIT, "32-bit tasks are counted, not unwound"},
        {LOSS_NO_REGISTERS, "the kernel gave no user registers for these samples"},
    };
    size_t worst = 0;

    for (size_t i = 1; i < ARRAY_LENGTH(remedies); i++)
        if (session->primary->profile.loss.counts[remedies[i].kind] >
            session->primary->profile.loss.counts[remedies[worst].kind])
            worst = i;
    if (!session->primary->profile.loss.counts[remedies[worst].kind])
        return;
    fprintf(stream, "  incomplete stacks: mostly %s\n",
            session->allocations && session->cpu && remedies[worst].kind == LOSS_NO_MAPPING
                ? "calls of the allocator whose return a breakpoint catches (--heap beside it)"
                : remedies[worst].remedy);
}

/* Why it was ptrace, and what that means. */
static void print_ptrace_reason(const struct session *session, FILE *stream)
{
    fprintf(stream, "  by ptrace: at most 50 Hz, system calls instead of kernel code, threads and "
                    "children that live shorter than 0.1 s are missed\n");
    if (session->primary->engine->note)
        fprintf(stream, "  %s\n", session->primary->engine->note);
}

static const char *lost_remedy(const struct session *session)
{
    if (!session->primary->events || session->primary == session->growth)
        return "raise --heap-rate";
    return session->primary->events->events[0].period ? "raise -c" : "lower -F";
}

/* What was given up to stay within the memory limit; a heap profile counts objects. */
static void print_memory_remedies(const struct recorder *recorder, FILE *stream)
{
    const uint64_t *losses = recorder->profile.loss.counts;
    bool is_heap = recorder->profile.num_value_types == HEAP_NUM_COLUMNS &&
                   strcmp(recorder->kind, "heap") == 0;

    if (losses[LOSS_MERGED])
        fprintf(stream, "  %llu %s merged into [other]: raise --max-memory\n",
                (unsigned long long)losses[LOSS_MERGED], is_heap ? "allocations" : "samples");
    if (losses[LOSS_UNLABELED] && is_heap)
        fprintf(stream, "  %llu allocations without thread and size: raise --max-memory\n",
                (unsigned long long)losses[LOSS_UNLABELED]);
    else if (losses[LOSS_UNLABELED])
        fprintf(stream, "  %llu labels of short-lived threads given up: raise --max-memory\n",
                (unsigned long long)losses[LOSS_UNLABELED]);
}

static void print_sampling_remedies(const struct session *session, const struct figures *figures,
                                    FILE *stream)
{
    const uint64_t *losses = session->primary->profile.loss.counts;

    if (session->primary->num_samples == 0 && session->primary->events)
        fprintf(stream, "  no samples: %s while it was recorded\n",
                session->has_clock ? "the target used no CPU time"
                                   : "none of these events happened");
    if (losses[LOSS_LOST])
        fprintf(
            stream, "  samples lost: cprofiler got too little CPU; %s%s\n", lost_remedy(session),
            session->primary->engine->info.ring_is_small ? ", or raise ulimit -l (rings are small)"
                                                         : "");
    else if (session->primary->engine->info.ring_is_small)
        fprintf(stream, "  rings are small (%llu KB in all): raise ulimit -l or run as root\n",
                (unsigned long long)session->primary->engine->info.ring_bytes / 1024);
    if (losses[LOSS_THROTTLED])
        fprintf(stream, "  throttled by the kernel: lower -F, or sysctl "
                        "kernel.perf_cpu_time_max_percent=0\n");
    if (losses[LOSS_SYMBOL_TIMEOUT])
        fprintf(stream, "  %llu places left unnamed for want of time: raise --symbol-timeout\n",
                (unsigned long long)losses[LOSS_SYMBOL_TIMEOUT]);
    if (losses[LOSS_DEBUG_INFO_TIMEOUT])
        fprintf(stream,
                "  %llu places without file, line and inlined functions: their debug info took too "
                "long (raise --symbol-timeout) or is too large\n",
                (unsigned long long)losses[LOSS_DEBUG_INFO_TIMEOUT]);
    for (size_t i = 0; i < session->num_recorders; i++)
        print_memory_remedies(&session->recorders[i], stream);
    if (session->heap.live.num_thinned)
        fprintf(
            stream,
            "  %llu of the samples that may be in use were given up, the others stand for more: "
            "raise --max-memory\n",
            (unsigned long long)session->heap.live.num_thinned);
    if (session->has_due && session->due_ns > 1000000000ULL &&
        (figures->due_share < 0.95 || figures->due_share > 1.05)) {
        fprintf(stream, "  samples stand for %.0f %% of the CPU time used (%.2f s)",
                100 * figures->due_share, (double)session->due_ns / 1e9);
        if (strcmp(session->primary->engine->ops->name, "per-task") == 0)
            fprintf(stream, ": threads that live shorter than 1/Hz are missed without the "
                            "cpu-wide engine (root or cap_perfmon,cap_bpf)");
        else if (figures->due_share > 1 && session->primary->engine->ops == &sampler_cpu_wide)
            fprintf(stream,
                    ": deep stacks on busy CPUs are hit too often; --engine per-task weighs "
                    "exactly");
        fputc('\n', stream);
    }
    if (session->primary->engine->ops == &sampler_ptrace)
        print_ptrace_reason(session, stream);
    else if (session->primary->events && session->options.kernel &&
             !session->primary->engine->info.has_kernel)
        fprintf(stream, "  kernel not sampled: run as root, or sysctl "
                        "kernel.perf_event_paranoid=1\n");
}

static void print_shares(const struct session *session, const struct figures *figures, FILE *stream)
{
    fprintf(stream, "  stacks complete %.1f %%", 100 * figures->complete_share);
    if (session->num_recalled)
        fprintf(stream, " (%llu of them by frames that earlier samples saw)",
                (unsigned long long)session->num_recalled);
    fprintf(stream, ", frames named %s%.1f %%", session->symbols.num_left ? "so far " : "",
            100 * figures->named_share);
    if (figures->worst_path) {
        fprintf(stream, " (worst: ");
        print_clean(figures->worst_path, stream);
        fprintf(stream, ", %llu places without symbols: %s)",
                (unsigned long long)session->symbols.worst_num_locations, figures->worst_remedy);
    }
    fputc('\n', stream);
}

static void print_quality(const struct session *session, const struct figures *figures,
                          FILE *stream)
{
    const uint64_t *losses = session->primary->profile.loss.counts;

    if (session->primary->num_samples)
        print_shares(session, figures, stream);
    fprintf(stream, "  lost %llu, throttled %llu, truncated %llu",
            (unsigned long long)losses[LOSS_LOST], (unsigned long long)losses[LOSS_THROTTLED],
            (unsigned long long)losses[LOSS_TRUNCATED]);
    for (int kind = 0; kind < LOSS_NUM_KINDS; kind++)
        if (losses[kind] && kind != LOSS_LOST && kind != LOSS_THROTTLED && kind != LOSS_TRUNCATED)
            fprintf(stream, ", %s %llu", loss_name((enum loss_kind)kind),
                    (unsigned long long)losses[kind]);
    fprintf(stream, "; cost: %.2f s CPU, ", figures->own_cpu_seconds);
    summary_print_bytes((double)figures->own_rss_bytes, stream);
    fputc('\n', stream);
    if (figures->complete_share < 0.99)
        print_stack_remedy(session, stream);
    print_sampling_remedies(session, figures, stream);
}

/* What came of --debuginfod. */
static void print_fetches(const struct session *session, FILE *stream)
{
    const struct symbolize_fetches *fetches = &session->symbols.fetches;

    if (!session->options.debuginfod)
        return;
    fprintf(stream, "  debuginfod: %llu debug file%s (", (unsigned long long)fetches->num_files,
            fetches->num_files == 1 ? "" : "s");
    summary_print_bytes((double)fetches->num_bytes, stream);
    fprintf(stream, "), %llu not there%s\n", (unsigned long long)fetches->num_missing,
            fetches->is_stopped ? "; stopped, the rest was not asked for" : "");
}

static void print_top(const struct session *session, const struct figures *figures, FILE *stream)
{
    if (!figures->num_rows || !figures->total)
        return;
    fprintf(stream, "  top:");
    for (size_t i = 0; i < figures->num_rows && i < NUM_TOP && figures->rows[i].flat; i++) {
        fprintf(stream, " %.1f %% ", 100 * (double)figures->rows[i].flat / (double)figures->total);
        print_clean(string_table_get(&session->table.strings, figures->rows[i].name), stream);
        fputc(' ', stream);
    }
    fputc('\n', stream);
}

/* What restricts or widens the recording, in front of the number of processes. */
static void print_scope(const struct scope *scope, FILE *stream)
{
    char cpus[128];

    if (scope->kind == SCOPE_SYSTEM)
        fprintf(stream, "whole system, ");
    if (scope->kind == SCOPE_CGROUP) {
        fprintf(stream, "cgroup ");
        print_clean(scope->cgroup.path, stream);
        fprintf(stream, ", ");
    }
    if (scope->kind == SCOPE_THREADS)
        fprintf(stream, "%zu chosen thread%s of ", scope->num_tasks,
                scope->num_tasks == 1 ? "" : "s");
    if (scope->cpus.num_cpus) {
        cpu_list_format(&scope->cpus, cpus, sizeof(cpus));
        fprintf(stream, "CPU %s only, ", cpus);
    }
}

struct error *summary_print(const struct session *session, const struct profile_file *files,
                            FILE *stream)
{
    struct figures figures = {0};
    CLEANUP(error_destroy) struct error *err = compute_figures(session, &figures);
    CLEANUP(free) struct top_row *rows UNUSED = figures.rows; /* owned here, read in figures */
    char events_text[EVENTS_TEXT_BYTES];

    if (err)
        return take_ptr(err);
    if (session->primary->events)
        events_describe(session->primary->events, session_hz(session), events_text);
    else
        summary_describe_heap(session, events_text);
    fprintf(stream, "cprofiler: %.1f s, ", figures.seconds);
    print_scope(session->options.scope, stream);
    fprintf(stream, "%zu process%s, %zu thread%s, %s, engine %s\n", figures.num_processes,
            figures.num_processes == 1 ? "" : "es", figures.num_threads,
            figures.num_threads == 1 ? "" : "s", events_text,
            session->primary->engine->info.engine);
    if (session->primary->engine->note && session->primary->engine->ops != &sampler_ptrace)
        fprintf(stream, "  engine per-task, since cpu-wide is refused: %s\n",
                session->primary->engine->note);
    if (session->primary->events)
        summary_print_events(session, stream);
    RETURN_IF_ERROR(summary_print_heap(session, stream));
    print_quality(session, &figures, stream);
    print_fetches(session, stream);
    if (session->primary->events)
        print_top(session, &figures, stream);
    for (size_t i = 0; i < session->num_recorders; i++) {
        if (!files[i].is_written)
            continue;
        fprintf(stream, "  wrote ");
        print_clean(files[i].path, stream);
        fprintf(stream, " (");
        summary_print_bytes((double)files[i].num_bytes, stream);
        fprintf(stream, ")\n");
    }
    if (session->symbols.num_left && files[0].is_written) {
        fprintf(stream, "  not symbolized: cprofiler symbolize ");
        print_clean(files[0].path, stream);
        fputc('\n', stream);
    }
    fflush(stream);
    return NULL;
}

static void print_json_figures(const struct session *session, const struct figures *figures,
                               FILE *stream)
{
    char cpus[1024];

    fprintf(stream,
            "{\"version\":\"%s\",\"engine\":\"%s\",\"hz\":%u,\"duration_seconds\":%.3f,"
            "\"processes\":%zu,\"threads\":%zu,\"samples\":%llu,"
            "\"kernel_share\":%.4f,\"complete_share\":%.6f,\"named_share\":%.6f",
            CPROFILER_VERSION, session->primary->engine->info.engine, session_hz(session),
            figures->seconds, figures->num_processes, figures->num_threads,
            (unsigned long long)session->primary->num_samples, figures->kernel_share,
            figures->complete_share, figures->named_share);
    fprintf(stream, ",\"recalled_samples\":%llu", (unsigned long long)session->num_recalled);
    fprintf(stream, ",\"scope\":\"%s\"", scope_kind_name(session->options.scope));
    if (session->options.scope->cpus.num_cpus) {
        cpu_list_format(&session->options.scope->cpus, cpus, sizeof(cpus));
        fprintf(stream, ",\"cpus\":\"%s\"", cpus);
    }
    fprintf(stream, ",\"kernel_sampled\":%s",
            session->primary->engine->info.has_kernel ? "true" : "false");
    if (session->primary->events)
        summary_print_events_json(session, stream);
    if (session->has_clock)
        fprintf(stream, ",\"cpu_seconds\":%.6f",
                (double)session->cpu->tallies[session->clock].weight / 1e9);
    if (session->has_due)
        fprintf(stream, ",\"due_cpu_seconds\":%.6f", (double)session->due_ns / 1e9);
    fprintf(stream, ",\"not_symbolized\":%llu", (unsigned long long)session->symbols.num_left);
    fprintf(stream, ",\"loss\":{");
    for (int kind = 0; kind < LOSS_NUM_KINDS; kind++)
        fprintf(stream, "%s\"%s\":%llu", kind ? "," : "", loss_key((enum loss_kind)kind),
                (unsigned long long)session->primary->profile.loss.counts[kind]);
    fprintf(stream,
            "},\"cost\":{\"cpu_seconds\":%.6f,\"peak_rss_bytes\":%llu,\"symbolize_seconds\":%.6f}",
            figures->own_cpu_seconds, (unsigned long long)figures->own_rss_bytes,
            (double)session->symbols.duration_ns / 1e9);
}

struct error *summary_print_json(const struct session *session, const struct profile_file *files,
                                 FILE *stream)
{
    struct figures figures = {0};
    CLEANUP(error_destroy) struct error *err = compute_figures(session, &figures);
    CLEANUP(free) struct top_row *rows = figures.rows;

    if (err)
        return take_ptr(err);
    print_json_figures(session, &figures, stream);
    if (session->options.scope->kind == SCOPE_CGROUP) {
        fprintf(stream, ",\"cgroup\":");
        RETURN_IF_ERROR(json_print_string(session->options.scope->cgroup.path, stream));
    }
    if (session->primary->engine->note) {
        fprintf(stream, ",\"engine_refused\":");
        RETURN_IF_ERROR(json_print_string(session->primary->engine->note, stream));
    }
    if (figures.worst_path) {
        fprintf(stream, ",\"worst\":{\"mapping\":");
        RETURN_IF_ERROR(json_print_string(figures.worst_path, stream));
        fprintf(stream, ",\"unnamed_locations\":%llu,\"remedy\":",
                (unsigned long long)session->symbols.worst_num_locations);
        RETURN_IF_ERROR(json_print_string(figures.worst_remedy, stream));
        fputc('}', stream);
    }
    if (session->options.debuginfod)
        fprintf(stream, ",\"debuginfod\":{\"files\":%llu,\"bytes\":%llu,\"missing\":%llu}",
                (unsigned long long)session->symbols.fetches.num_files,
                (unsigned long long)session->symbols.fetches.num_bytes,
                (unsigned long long)session->symbols.fetches.num_missing);
    RETURN_IF_ERROR(summary_print_heap_json(session, stream));
    fprintf(stream, ",\"top\":[");
    for (size_t i = 0; i < figures.num_rows && i < NUM_TOP && rows[i].flat; i++) {
        fprintf(stream, "%s{\"name\":", i ? "," : "");
        RETURN_IF_ERROR(
            json_print_string(string_table_get(&session->table.strings, rows[i].name), stream));
        fprintf(stream, ",\"flat_share\":%.6f}", (double)rows[i].flat / (double)figures.total);
    }
    fprintf(stream, "],\"files\":[");
    for (size_t i = 0, num_files = 0; i < session->num_recorders; i++) {
        if (!files[i].is_written)
            continue;
        fprintf(stream, "%s{\"kind\":\"%s\",\"path\":", num_files++ ? "," : "", files[i].kind);
        RETURN_IF_ERROR(json_print_string(files[i].path, stream));
        fprintf(stream, ",\"bytes\":%llu}", (unsigned long long)files[i].num_bytes);
    }
    fprintf(stream, "]}\n");
    return NULL;
}
