#include "cmd/heap.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/procfs.h"
#include "profile/heap_trim.h"

#define STACK_BYTES 16384 /* samples are few, and C++ stacks deep */
#define WINDOW_NS 1000000000ULL
#define MAX_SAMPLES_PER_WINDOW 1000

/* --- opening -------------------------------------------------------------------------------- */

struct error *heap_open_engine(const struct heap_settings *settings, bool has_sideband,
                               struct engine *engine)
{
    const struct heap_options heap_options = {
        .rate_bytes = settings->rate_bytes,
        .has_sideband = has_sideband,
        .stack_bytes = STACK_BYTES,
    };
    const struct sampler_options options = {
        .scope = SAMPLER_PROCESSES,
        .urgent_sideband = has_sideband,
        .follow_children = true,
        .stack_bytes = STACK_BYTES,
        .heap = &heap_options,
    };

    CLEANUP(error_destroy)
    struct error *err = sampler_heap.open(&options, &engine->sampler);
    char hint[512];

    engine->ops = &sampler_heap;
    if (!err || (err->kind != ERROR_PERMISSION && err->kind != ERROR_UNSUPPORTED))
        return take_ptr(err);
    snprintf(hint, sizeof(hint), "%s%s--heap-mode growth, which needs no privilege",
             err->hint ? err->hint : "", err->hint ? "; or " : "");
    return error_create(err->kind, hint, "heap: %s", err->message);
}

struct error *heap_init_recorder(const struct heap_settings *settings, struct stack_table *table,
                                 struct recorder *recorder)
{
    uint64_t rate_bytes = settings->rate_bytes ? settings->rate_bytes : HEAP_DEFAULT_RATE_BYTES;

    recorder->kind = "heap";
    return profile_init_heap(&recorder->profile, table, rate_bytes);
}

/* Makes the profile one of allocations by count: the sampler can do no more here. */
static struct error *init_by_count(const struct heap_context *context)
{
    uint64_t interval = heap_sampler_rate(context->engine->sampler);

    profile_deinit(&context->recorder->profile);
    return profile_init_heap_by_count(&context->recorder->profile, context->table, interval);
}

struct error *heap_init(struct heap *heap, const struct heap_context *context)
{
    struct heap_costs costs;

    memset(heap, 0, sizeof(*heap));
    heap->context = *context;
    live_set_init(&heap->live);
    heap_probes_init(&heap->probes, context->target, context->engine->sampler,
                     context->follows_children);
    heap->is_open = true;
    heap->is_by_count = heap_sampler_mechanism(context->engine->sampler) == HEAP_MECHANISM_COUNT;
    if (heap->is_by_count)
        RETURN_IF_ERROR(init_by_count(context));
    RETURN_IF_ERROR(heap_sampler_calibrate(context->engine->sampler, &costs));
    log_info("heap: a call of malloc costs %.0f ns, of free %.0f ns, %.0f ns more where it is "
             "stepped",
             costs.alloc_ns, costs.free_ns, costs.stepped_ns);
    heap_budget_init(&heap->budget, context->settings->budget, &costs);
    heap->window_start_ns = clock_monotonic_ns();
    return NULL;
}

void heap_deinit(struct heap *heap)
{
    if (!heap->is_open)
        return;
    heap_probes_deinit(&heap->probes);
    live_set_deinit(&heap->live);
    heap_live_deinit(&heap->ids);
    memset(heap, 0, sizeof(*heap));
}

/* --- processes ------------------------------------------------------------------------------ */

struct error *heap_add_launched(struct heap *heap, pid_t pid, const char *path)
{
    RETURN_IF_ERROR(heap_probes_add_launched(&heap->probes, pid, path));
    heap_budget_start(&heap->budget, &heap->probes);
    return NULL;
}

struct error *heap_add_process(struct heap *heap, pid_t pid)
{
    struct procfs_memory memory = {0};

    CLEANUP(error_destroy) UNUSED struct error *err = procfs_memory_read(pid, &memory);
    return heap_probes_add_root(&heap->probes, pid, memory.anon_bytes);
}

struct error *heap_admit(struct heap *heap)
{
    struct sampler *sampler = heap->context.engine->sampler;

    heap_sampler_set_sampling(sampler, false);
    RETURN_IF_ERROR(heap_probes_follow(&heap->probes));
    if (heap->probes.num_probed == 0)
        return heap_probes_missing(&heap->probes);
    RETURN_IF_ERROR(heap_budget_admit(&heap->budget, &heap->probes));
    heap_sampler_set_sampling(sampler, true);
    heap_budget_start(&heap->budget, &heap->probes);
    log_info("heap: recording");
    return NULL;
}

struct error *heap_note(struct heap *heap, const struct event *event)
{
    uint32_t dropped;

    RETURN_IF_ERROR(heap_probes_note(&heap->probes, event, &dropped));
    return dropped ? live_set_drop(&heap->live, dropped, event->time_ns) : NULL;
}

struct error *heap_follow(struct heap *heap)
{
    return heap_probes_follow(&heap->probes);
}

void heap_end(struct heap *heap, uint64_t command_cpu_ns)
{
    heap_budget_end(&heap->budget, &heap->probes, command_cpu_ns);
    heap_probes_let_go(&heap->probes);
    heap_sampler_counts(heap->context.engine->sampler, &heap->counts);
    heap->rate_bytes = heap_sampler_rate(heap->context.engine->sampler);
}

/* --- samples -------------------------------------------------------------------------------- */

void heap_complete_chain(const struct heap *heap, const struct process *process,
                         const struct sample *sample, struct callchain *chain)
{
    const struct vma *vma = process ? maps_find(process->maps, sample->heap->probe_pc) : NULL;

    if (!heap->context.settings->keeps_allocator || !vma ||
        chain->num_frames == CALLCHAIN_MAX_FRAMES)
        return;
    memmove(&chain->frames[1], chain->frames, chain->num_frames * sizeof(*chain->frames));
    chain->num_frames++;
    chain->frames[0] = (struct frame_key){
        .pc = vma_profile_pc(vma, sample->heap->probe_pc),
        .mapping = vma->mapping,
        .reason = REASON_NONE,
    };
}

struct error *heap_add_sample(struct heap *heap, const struct sample *sample,
                              const struct callchain *chain, uint32_t stack, uint32_t label_set)
{
    const struct live_row row = {
        .id = sample->heap->id,
        .time_ns = sample->time_ns,
        .size_bytes = sample->heap->size_bytes,
        .rate_bytes = sample->heap->rate_bytes,
        .stack = stack,
        .label_set = label_set,
        .pid = sample->pid,
    };

    recorder_count(heap->context.recorder, sample, chain);
    if (heap->is_by_count)
        return heap_add_counted(&heap->context.recorder->profile, stack, label_set,
                                sample->heap->size_bytes, sample->weight);
    return heap_add(&heap->context.recorder->profile, &heap->live, &row);
}

/* --- rate and budget ------------------------------------------------------------------------ */

/* Doubles the distance between samples when more than so many come within a second, at once; or
 * when the kernel's table of what is in use is half full. It never shrinks again. */
static void adapt_rate(struct heap *heap, const struct heap_counts *counts)
{
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t num_samples = counts->num_samples + counts->num_lost;
    bool are_many = num_samples - heap->window_samples > MAX_SAMPLES_PER_WINDOW;
    bool is_window_over = now_ns - heap->window_start_ns >= WINDOW_NS;
    bool is_full = is_window_over && counts->num_live > HEAP_DEFAULT_MAX_LIVE / 2;

    if (are_many || is_full) {
        heap_sampler_double_rate(heap->context.engine->sampler);
        heap->num_doublings++;
    }
    if (are_many || is_window_over) {
        heap->window_start_ns = now_ns;
        heap->window_samples = num_samples;
    }
}

void heap_look(struct heap *heap)
{
    if (heap->probes.has_let_go)
        return;
    heap_sampler_counts(heap->context.engine->sampler, &heap->counts);
    adapt_rate(heap, &heap->counts);
    if (heap_sampler_is_gone(heap->context.engine->sampler)) {
        heap->are_probes_lost = true;
        log_warning("heap: our process that held the breakpoints was killed");
        heap_probes_let_go(&heap->probes);
        return;
    }
    if (!heap_budget_look(&heap->budget, &heap->probes))
        return;
    heap->budget.is_exceeded = true;
    log_warning("heap: the probes slow the target down by %.0f %%, more than %.5g %% for 3 s: they "
                "were taken away",
                100 * heap->budget.current, 100 * heap->budget.limit);
    heap_probes_let_go(&heap->probes);
}

/* --- what is in use ------------------------------------------------------------------------- */

bool heap_needs_snapshot(const struct heap *heap)
{
    return live_set_has_grown(&heap->live);
}

struct error *heap_begin_snapshot(struct heap *heap)
{
    heap_live_deinit(&heap->ids);
    heap->snapshot_time_ns = clock_monotonic_ns();
    return heap_sampler_live(heap->context.engine->sampler, &heap->ids);
}

/* Lists the anonymous memory of the processes that live. rests_ret: owned by the caller. */
static struct error *list_rests(struct heap *heap, struct heap_rest **rests_ret,
                                size_t *num_rests_ret)
{
    struct heap_probes *probes = &heap->probes;
    CLEANUP(free) struct heap_rest *rests = calloc(probes->num_processes + 1, sizeof(*rests));
    size_t num_rests = 0;

    if (!rests)
        return &error_no_memory;
    for (size_t i = 0; i < probes->num_processes; i++) {
        const struct heap_process *process = &probes->processes[i];
        const struct process *known = target_find(heap->context.target, process->pid);
        struct procfs_memory memory = {0};
        struct heap_rest *rest = &rests[num_rests];

        if (process->has_ended || !process->num_parts || !known)
            continue;
        CLEANUP(error_destroy)
        struct error *err = procfs_memory_read((pid_t)process->pid, &memory);
        if (err || !memory.anon_bytes)
            continue;
        *rest = (struct heap_rest){
            .pid = process->pid,
            .attach_bytes = process->attach_bytes,
            .inherited_bytes = process->inherited_bytes,
            .now_bytes = memory.anon_bytes,
        };
        RETURN_IF_ERROR(
            labels_of_process(heap->context.keys, heap->context.table, known, &rest->label_set));
        num_rests++;
    }
    *rests_ret = take_ptr(rests);
    *num_rests_ret = num_rests;
    return NULL;
}

struct error *heap_end_snapshot(struct heap *heap)
{
    struct profile *profile = &heap->context.recorder->profile;
    uint64_t time_ns = heap->snapshot_time_ns;
    CLEANUP(free) struct heap_rest *rests = NULL;
    size_t num_rests = 0;

    if (heap->is_by_count)
        return NULL;
    live_set_retain(&heap->live, heap->ids.ids, heap->ids.num_ids, time_ns);
    RETURN_IF_ERROR(heap_set_in_use(profile, &heap->live, time_ns));
    heap->in_use_bytes = profile_total(profile, HEAP_INUSE_SPACE);
    heap->in_use_objects = profile_total(profile, HEAP_INUSE_OBJECTS);
    RETURN_IF_ERROR(list_rests(heap, &rests, &num_rests));
    RETURN_IF_ERROR(heap_add_rest(profile, &heap->live, time_ns, rests, num_rests));
    heap->rest = (struct heap_rest){0};
    for (size_t i = 0; i < num_rests; i++) {
        heap->rest.attach_bytes += rests[i].attach_bytes;
        heap->rest.now_bytes += rests[i].now_bytes;
        heap->rest.in_use_bytes += rests[i].in_use_bytes;
        heap->rest.before_bytes += rests[i].before_bytes;
        heap->rest.untracked_bytes += rests[i].untracked_bytes;
    }
    heap_live_deinit(&heap->ids);
    return NULL;
}

/* --- finishing ------------------------------------------------------------------------------ */

/* Says which functions were probed, and where. */
static struct error *add_coverage(const struct heap *heap, struct profile *profile)
{
    for (size_t i = 0; i < heap->probes.num_parts; i++) {
        const struct heap_part *part = &heap->probes.parts[i];
        char line[512] = "";
        size_t used = 0;

        for (size_t j = 0; part->num_processes && j < part->sites.num_sites; j++) {
            const struct heap_site *site = &part->sites.sites[j];

            if (used < sizeof(line))
                used += (size_t)snprintf(line + used, sizeof(line) - used, " %s%s", site->name,
                                         site->is_stepped ? "*" : "");
        }
        if (part->num_processes)
            RETURN_IF_ERROR(
                profile_add_comment(profile, "probed in %s:%s", part->module->path, line));
    }
    return NULL;
}

static struct error *add_cost(const struct heap *heap, struct profile *profile)
{
    const struct heap_budget *budget = &heap->budget;
    char limit[32] = "none";

    if (budget->limit)
        snprintf(limit, sizeof(limit), "%.5g %%", 100 * budget->limit);
    RETURN_IF_ERROR(profile_add_comment(
        profile,
        "overhead: %.1f %% of the target's CPU time, budget %s; malloc %.0f ns, free %.0f "
        "ns, stepped +%.0f ns",
        100 * heap_budget_overhead(budget), limit, budget->costs.alloc_ns, budget->costs.free_ns,
        budget->costs.stepped_ns));
    if (heap->are_probes_lost)
        return profile_add_comment(profile, "probes lost: their process was killed; what is in use "
                                            "is as of then");
    return budget->is_exceeded
               ? profile_add_comment(profile, "probes taken away: over the budget for 3 s; what is "
                                              "in use is as of then")
               : NULL;
}

struct error *heap_finish(struct heap *heap)
{
    struct profile *profile = &heap->context.recorder->profile;
    const struct heap_counts *counts = &heap->counts;
    struct utsname kernel;

    if (!heap->context.settings->keeps_allocator)
        RETURN_IF_ERROR(heap_trim_allocator(profile));
    if (uname(&kernel) == 0)
        RETURN_IF_ERROR(
            profile_add_comment(profile, "kernel: %s %s", kernel.sysname, kernel.release));
    RETURN_IF_ERROR(add_coverage(heap, profile));
    RETURN_IF_ERROR(add_cost(heap, profile));
    RETURN_IF_ERROR(profile_add_comment(
        profile,
        "calls: %llu allocations of %llu bytes, %llu frees; %llu sampled, %llu lost, "
        "%llu not tracked",
        (unsigned long long)counts->num_allocs, (unsigned long long)counts->alloc_bytes,
        (unsigned long long)counts->num_frees, (unsigned long long)counts->num_samples,
        (unsigned long long)counts->num_lost, (unsigned long long)counts->num_untracked));
    if (heap->is_by_count)
        RETURN_IF_ERROR(profile_add_comment(
            profile, "sampled by count, without BPF: sums of bytes are biased and err widely where "
                     "sizes differ; frees are not seen, so nothing is known to be in use"));
    if (heap->num_doublings)
        RETURN_IF_ERROR(profile_add_comment(
            profile, "distance of samples doubled %u times, to %llu %s", heap->num_doublings,
            (unsigned long long)heap->rate_bytes, heap->is_by_count ? "calls" : "bytes"));
    return NULL;
}
