#include "cmd/summary_heap.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "cmd/json.h"
#include "cmd/summary_events.h"
#include "output/heap_error.h"
#include "output/top.h"

#define NUM_TOP 3
#define GROWTH_COLUMN 1
#define MAX_OVERHEAD 10.0 /* beyond, a number tells nothing */

void summary_print_bytes(double num_bytes, FILE *stream)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    size_t unit = 0;

    while (num_bytes >= 1024 && unit + 1 < ARRAY_LENGTH(units)) {
        num_bytes /= 1024;
        unit++;
    }
    fprintf(stream, unit < 2 ? "%.0f %s" : "%.1f %s", num_bytes, units[unit]);
}

void summary_describe_heap(const struct session *session, char *text)
{
    long long period = session->allocations->profile.period;

    if (session->heap.is_by_count)
        snprintf(text, EVENTS_TEXT_BYTES, "one allocation in %lld", period);
    else
        snprintf(text, EVENTS_TEXT_BYTES, "one sample in %lld KB allocated", period / 1024);
}

/* Text without control characters: names come from the target. */
static void print_clean(const char *text, FILE *stream)
{
    for (; *text; text++)
        fputc((unsigned char)*text < ' ' || *text == 127 ? '?' : *text, stream);
}

/* --- top ------------------------------------------------------------------------------------ */

/* The functions with most of one column, remarks such as [untracked] left out. */
struct heap_top {
    struct top_row *rows;
    size_t num_rows; /* at most NUM_TOP, none is 0 */
    int64_t total;   /* of the column, remarks included */
};

static struct error *compute_top(const struct session *session, const struct profile *profile,
                                 size_t column, struct heap_top *top_ret)
{
    struct heap_top top = {.total = profile_total(profile, column)};
    size_t num_rows;

    RETURN_IF_ERROR(top_compute(profile, column, &top.rows, &num_rows));
    for (size_t i = 0; i < num_rows && top.num_rows < NUM_TOP && top.rows[i].flat > 0; i++)
        if (*string_table_get(&session->table.strings, top.rows[i].name) != '[')
            top.rows[top.num_rows++] = top.rows[i];
    *top_ret = top;
    return NULL;
}

static void print_top(const struct session *session, const struct heap_top *top, const char *what,
                      FILE *stream)
{
    if (!top->num_rows)
        return;
    fprintf(stream, "  %s:", what);
    for (size_t i = 0; i < top->num_rows; i++) {
        fputc(' ', stream);
        summary_print_bytes((double)top->rows[i].flat, stream);
        fputc(' ', stream);
        print_clean(string_table_get(&session->table.strings, top->rows[i].name), stream);
        fputc(i + 1 < top->num_rows ? ',' : '\n', stream);
    }
}

static struct error *print_top_json(const struct session *session, const struct heap_top *top,
                                    FILE *stream)
{
    fprintf(stream, ",\"top\":[");
    for (size_t i = 0; i < top->num_rows; i++) {
        fprintf(stream, "%s{\"name\":", i ? "," : "");
        RETURN_IF_ERROR(json_print_string(
            string_table_get(&session->table.strings, top->rows[i].name), stream));
        fprintf(stream, ",\"bytes\":%lld,\"share\":%.6f}", (long long)top->rows[i].flat,
                (double)top->rows[i].flat / (double)top->total);
    }
    fputc(']', stream);
    return NULL;
}

/* --- growth --------------------------------------------------------------------------------- */

static struct error *print_growth(const struct session *session, FILE *stream)
{
    const struct profile *profile = &session->growth->profile;
    struct heap_top top = {0};
    CLEANUP(error_destroy)
    struct error *err = compute_top(session, profile, GROWTH_COLUMN, &top);
    CLEANUP(free) struct top_row *rows UNUSED = top.rows;

    if (err)
        return take_ptr(err);
    fprintf(stream, "  growth: ");
    summary_print_bytes((double)top.total, stream);
    fprintf(stream, " by page faults (%llu samples)",
            (unsigned long long)session->growth->num_samples);
    if (session->resident.now_bytes) {
        fprintf(stream, "; resident now ");
        summary_print_bytes((double)session->resident.now_bytes, stream);
    }
    if (session->resident.peak_bytes) {
        fprintf(stream, "%s peak ", session->resident.now_bytes ? "," : ";");
        summary_print_bytes((double)session->resident.peak_bytes, stream);
    }
    fputc('\n', stream);
    if (session->growth != session->primary)
        print_top(session, &top, "growth top", stream);
    return NULL;
}

static struct error *print_growth_json(const struct session *session, FILE *stream)
{
    const struct recorder *growth = session->growth;
    struct heap_top top = {0};
    CLEANUP(error_destroy)
    struct error *err = compute_top(session, &growth->profile, GROWTH_COLUMN, &top);
    CLEANUP(free) struct top_row *rows UNUSED = top.rows;

    if (err)
        return take_ptr(err);
    fprintf(stream,
            ",\"heap\":{\"mode\":\"growth\",\"interval\":%lld,\"samples\":%llu,\"lost\":%llu,"
            "\"faults\":%lld,\"growth_bytes\":%lld,\"resident_bytes\":%llu,\"peak_bytes\":%llu",
            (long long)growth->profile.period, (unsigned long long)growth->num_samples,
            (unsigned long long)growth->profile.loss.counts[LOSS_LOST],
            (long long)profile_total(&growth->profile, 0), (long long)top.total,
            (unsigned long long)session->resident.now_bytes,
            (unsigned long long)session->resident.peak_bytes);
    RETURN_IF_ERROR(print_top_json(session, &top, stream));
    fputc('}', stream);
    return NULL;
}

/* --- probes --------------------------------------------------------------------------------- */

/* The standard deviation of what is in use, as a share of it; 0 when nothing is. */
static struct error *compute_error(const struct session *session, double *share_ret)
{
    const struct profile *profile = &session->allocations->profile;
    CLEANUP(free) struct heap_error *errors = NULL;
    struct heap_error sum = {0};
    double in_use = (double)session->heap.in_use_bytes;

    RETURN_IF_ERROR(heap_error_compute(profile, HEAP_INUSE_SPACE, &errors));
    for (size_t i = 0; i < profile->num_samples; i++)
        sum.variance += errors[i].variance;
    *share_ret = in_use > 0 ? heap_error_share(&sum, in_use) : 0;
    return NULL;
}

static void print_in_use(const struct heap *heap, double error_share, FILE *stream)
{
    fprintf(stream, "  in use: ");
    summary_print_bytes((double)heap->in_use_bytes, stream);
    if (heap->in_use_bytes > 0)
        fprintf(stream, error_share < 0.0095 ? " +-%.1f %%" : " +-%.0f %%", 100 * error_share);
    if (heap->rest.now_bytes) {
        fprintf(stream, " of ");
        summary_print_bytes((double)heap->rest.now_bytes, stream);
        fprintf(stream, " anonymous memory; ");
        if (heap->rest.attach_bytes) {
            fprintf(stream, "allocated before attach: up to ");
            summary_print_bytes((double)heap->rest.before_bytes, stream);
            fprintf(stream, "; ");
        }
        fprintf(stream, "untracked: ");
        summary_print_bytes((double)heap->rest.untracked_bytes, stream);
    }
    fputc('\n', stream);
}

static void print_cost(const struct heap *heap, FILE *stream)
{
    const struct heap_budget *budget = &heap->budget;

    fprintf(stream, "  probes cost the target %.2f s CPU", budget->trap_ns / 1e9);
    if (heap_budget_overhead(budget) >= MAX_OVERHEAD)
        fprintf(stream, ", over %.0f %%", 100 * MAX_OVERHEAD);
    else if (heap_budget_overhead(budget) > 0)
        fprintf(stream, ", %.1f %%", 100 * heap_budget_overhead(budget));
    if (budget->limit)
        fprintf(stream, " (budget %.5g %%)", 100 * budget->limit);
    fprintf(stream, "; %zu of %zu process%s probed, %llu lost, %llu not tracked\n",
            heap->probes.num_probed, heap->probes.num_processes,
            heap->probes.num_processes == 1 ? "" : "es", (unsigned long long)heap->counts.num_lost,
            (unsigned long long)heap->counts.num_untracked);
    if (budget->is_exceeded)
        fprintf(stream, "  probes taken away after 3 s over the budget, the profile is as of then: "
                        "--heap-budget none, or --heap-mode growth\n");
    if (heap->are_probes_lost)
        fprintf(stream, "  probes lost, the profile is as of then: somebody killed their process, "
                        "\"breakpoints\"\n");
    if (heap->num_doublings && heap->is_by_count)
        fprintf(stream, "  more than 1000 samples a second: one in %llu calls at the end\n",
                (unsigned long long)heap->rate_bytes);
    else if (heap->num_doublings)
        fprintf(stream, "  more than 1000 samples a second: one in %llu KB at the end\n",
                (unsigned long long)heap->rate_bytes / 1024);
    if (heap->counts.num_lost && !heap->is_by_count)
        fprintf(stream, "  samples lost: raise --heap-rate\n");
}

static void print_snapshots(const struct heap *heap, FILE *stream)
{
    if (!heap->context.settings->snapshot_ns)
        return;
    fprintf(stream, "  %u numbered snapshot%s", heap->num_snapshots,
            heap->num_snapshots == 1 ? "" : "s");
    if (heap->num_skipped_snapshots)
        fprintf(stream, ", %u skipped since naming takes longer than --heap-snapshot",
                heap->num_skipped_snapshots);
    if (heap->snapshots_failure) {
        fprintf(stream, "; no more of them: ");
        print_clean(heap->snapshots_failure, stream);
    }
    fputc('\n', stream);
}

/* What the figures do not cover, with the remedy. */
static void print_blind_spots(const struct heap *heap, FILE *stream)
{
    const struct heap_probes *probes = &heap->probes;

    for (size_t i = 0; probes->num_probed && i < probes->num_processes; i++)
        if (probes->processes[i].is_root && !probes->processes[i].was_probed)
            fprintf(stream, "  process %u: no known allocator, nothing of it is here\n",
                    probes->processes[i].pid);
    if (probes->num_probed == 0)
        fprintf(stream, "  no allocator was found to probe (static and stripped, or its own): "
                        "--heap-mode growth works for every program\n");
    if (probes->refusal) {
        fprintf(stream, "  %zu times not probed: ", probes->num_refused);
        print_clean(probes->refusal, stream);
        fputc('\n', stream);
    }
    if (probes->sees_python)
        fprintf(stream, "  CPython: objects up to 512 bytes come from arenas, which show as "
                        "untracked; PYTHONMALLOC=malloc shows each\n");
    if (probes->sees_go)
        fprintf(stream, "  Go: its own heap does not use malloc: net/http/pprof, or --heap-mode "
                        "growth\n");
}

/* Without BPF: what was allocated, and why that is worse. */
static struct error *print_counted(const struct session *session, FILE *stream)
{
    const struct heap *heap = &session->heap;
    struct heap_top top = {0};
    CLEANUP(error_destroy)
    struct error *err =
        compute_top(session, &session->allocations->profile, HEAP_ALLOC_SPACE, &top);
    CLEANUP(free) struct top_row *rows UNUSED = top.rows;
    char allocs[32], samples[32];

    if (err)
        return take_ptr(err);
    fprintf(stream, "  heap: %s allocations of about ",
            summary_group_digits(heap->counts.num_allocs, allocs));
    summary_print_bytes((double)top.total, stream);
    fprintf(stream, "; %s sampled, by %s\n",
            summary_group_digits(session->allocations->num_samples, samples),
            session->allocations->engine->info.engine);
    fprintf(stream, "  biased: without BPF large allocations are seen no more often than "
                    "small ones, and frees not at all: nothing is known to be in use\n");
    if (heap->counts.num_unwatched)
        fprintf(stream, "  %llu threads were not watched: without BPF no more than 16 are\n",
                (unsigned long long)heap->counts.num_unwatched);
    print_top(session, &top, "allocated top", stream);
    print_cost(heap, stream);
    print_snapshots(heap, stream);
    print_blind_spots(heap, stream);
    return NULL;
}

static struct error *print_probes(const struct session *session, FILE *stream)
{
    const struct heap *heap = &session->heap;
    const struct profile *profile = &session->allocations->profile;
    struct heap_top top = {0};
    CLEANUP(error_destroy)
    struct error *err = compute_top(session, profile, HEAP_INUSE_SPACE, &top);
    CLEANUP(free) struct top_row *rows UNUSED = top.rows;
    char allocs[32], frees[32], samples[32];
    double error_share = 0;

    if (!err)
        err = compute_error(session, &error_share);
    if (err)
        return take_ptr(err);
    fprintf(stream, "  heap: %s allocations of ",
            summary_group_digits(heap->counts.num_allocs, allocs));
    summary_print_bytes((double)heap->counts.alloc_bytes, stream);
    fprintf(stream, ", %s frees; %s sampled, by %s\n",
            summary_group_digits(heap->counts.num_frees, frees),
            summary_group_digits(session->allocations->num_samples, samples),
            session->allocations->engine->info.engine);
    print_in_use(heap, error_share, stream);
    print_top(session, &top, "in use top", stream);
    print_cost(heap, stream);
    print_snapshots(heap, stream);
    print_blind_spots(heap, stream);
    return NULL;
}

static void print_counts_json(const struct session *session, FILE *stream)
{
    const struct heap *heap = &session->heap;
    const struct heap_counts *counts = &heap->counts;
    const struct heap_rest *rest = &heap->rest;

    fprintf(stream,
            "\"allocations\":%llu,\"allocated_bytes\":%llu,\"frees\":%llu,\"nested\":%llu,"
            "\"samples\":%llu,\"lost\":%llu,\"not_tracked\":%llu",
            (unsigned long long)counts->num_allocs, (unsigned long long)counts->alloc_bytes,
            (unsigned long long)counts->num_frees, (unsigned long long)counts->num_nested,
            (unsigned long long)session->allocations->num_samples,
            (unsigned long long)counts->num_lost, (unsigned long long)counts->num_untracked);
    fprintf(stream,
            ",\"in_use_bytes\":%lld,\"in_use_objects\":%lld,\"in_use_samples\":%zu,"
            "\"anonymous_bytes\":%llu,\"before_attach_bytes\":%llu,\"untracked_bytes\":%llu",
            (long long)heap->in_use_bytes, (long long)heap->in_use_objects, heap->live.num_rows,
            (unsigned long long)rest->now_bytes, (unsigned long long)rest->before_bytes,
            (unsigned long long)rest->untracked_bytes);
}

static void print_cost_json(const struct session *session, FILE *stream)
{
    const struct heap *heap = &session->heap;
    const struct heap_budget *budget = &heap->budget;

    fprintf(stream, ",\"overhead_share\":%.6f,\"worst_overhead_share\":%.6f,\"budget_share\":",
            heap_budget_overhead(budget), budget->worst);
    if (budget->limit)
        fprintf(stream, "%.6f", budget->limit);
    else
        fprintf(stream, "null");
    fprintf(stream, ",\"admitted_share\":");
    if (budget->admitted >= 0)
        fprintf(stream, "%.6f", budget->admitted);
    else
        fprintf(stream, "null");
    fprintf(stream,
            ",\"over_budget\":%s,\"probes_lost\":%s,\"cost_ns\":{\"malloc\":%.0f,\"free\":%.0f,"
            "\"stepped\":%.0f},"
            "\"seen_processes\":%zu,\"probed_processes\":%zu,\"refused_processes\":%zu,"
            "\"snapshots\":%u",
            budget->is_exceeded ? "true" : "false", heap->are_probes_lost ? "true" : "false",
            budget->costs.alloc_ns, budget->costs.free_ns, budget->costs.stepped_ns,
            heap->probes.num_processes, heap->probes.num_probed, heap->probes.num_refused,
            heap->num_snapshots);
}

static struct error *print_counted_json(const struct session *session, FILE *stream)
{
    const struct recorder *recorder = session->allocations;
    const struct heap_counts *counts = &session->heap.counts;
    struct heap_top top = {0};
    CLEANUP(error_destroy)
    struct error *err = compute_top(session, &recorder->profile, HEAP_ALLOC_SPACE, &top);
    CLEANUP(free) struct top_row *rows UNUSED = top.rows;

    if (err)
        return take_ptr(err);
    fprintf(stream,
            ",\"heap\":{\"mode\":\"count\",\"mechanism\":\"%s\",\"interval\":%lld,"
            "\"last_interval\":%llu,\"allocations\":%llu,\"allocated_bytes\":%lld,"
            "\"samples\":%llu,\"lost\":%llu,\"unwatched_threads\":%llu",
            recorder->engine->info.engine, (long long)recorder->profile.period,
            (unsigned long long)session->heap.rate_bytes, (unsigned long long)counts->num_allocs,
            (long long)top.total, (unsigned long long)recorder->num_samples,
            (unsigned long long)counts->num_lost, (unsigned long long)counts->num_unwatched);
    print_cost_json(session, stream);
    RETURN_IF_ERROR(print_top_json(session, &top, stream));
    fputc('}', stream);
    return NULL;
}

static struct error *print_probes_json(const struct session *session, FILE *stream)
{
    const struct recorder *recorder = session->allocations;
    struct heap_top top = {0};
    CLEANUP(error_destroy)
    struct error *err = compute_top(session, &recorder->profile, HEAP_INUSE_SPACE, &top);
    CLEANUP(free) struct top_row *rows UNUSED = top.rows;

    if (err)
        return take_ptr(err);
    fprintf(stream,
            ",\"heap\":{\"mode\":\"probes\",\"mechanism\":\"%s\",\"rate_bytes\":%lld,"
            "\"last_rate_bytes\":%llu,\"rate_doublings\":%u,",
            recorder->engine->info.engine, (long long)recorder->profile.period,
            (unsigned long long)session->heap.rate_bytes, session->heap.num_doublings);
    print_counts_json(session, stream);
    print_cost_json(session, stream);
    RETURN_IF_ERROR(print_top_json(session, &top, stream));
    fputc('}', stream);
    return NULL;
}

/* --- both ----------------------------------------------------------------------------------- */

struct error *summary_print_heap(const struct session *session, FILE *stream)
{
    return session->growth             ? print_growth(session, stream)
           : session->heap.is_by_count ? print_counted(session, stream)
           : session->allocations      ? print_probes(session, stream)
                                       : NULL;
}

struct error *summary_print_heap_json(const struct session *session, FILE *stream)
{
    return session->growth             ? print_growth_json(session, stream)
           : session->heap.is_by_count ? print_counted_json(session, stream)
           : session->allocations      ? print_probes_json(session, stream)
                                       : NULL;
}
