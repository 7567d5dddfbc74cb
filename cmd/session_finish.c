/* The end of a session: names, comments, checks. Nothing of the target is touched any more. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "cmd/session.h"
#include "cmd/signals.h"
#include "profile/heap_trim.h"

#define WEIGHT_OF_PROFILE 1e12 /* of all samples of one together */

/* Adds what share of a profile each location stands for. */
static void weigh_profile(const struct profile *profile, uint64_t *weights)
{
    const struct stack_table *table = profile->table;
    double total = (double)profile_total(profile, 0);

    for (size_t i = 0; i < profile->num_samples; i++) {
        const struct profile_sample *sample = &profile->samples[i];
        const struct stack *stack = &table->stacks[sample->stack];
        uint64_t weight = (uint64_t)((double)sample->values[0] / total * WEIGHT_OF_PROFILE);

        for (uint32_t j = 0; j < stack->num_locations; j++)
            weights[table->stack_locations[stack->first + j]] += weight;
    }
}

/* How much each location stands for, all profiles alike: decides the order of symbolization. */
static struct error *weigh_locations(const struct session *session, uint64_t **weights_ret)
{
    CLEANUP(free) uint64_t *weights = calloc(session->table.num_locations + 1, sizeof(*weights));

    if (!weights)
        return &error_no_memory;
    for (size_t i = 0; i < session->num_recorders; i++)
        weigh_profile(&session->recorders[i].profile, weights);
    *weights_ret = take_ptr(weights);
    return NULL;
}

/* Says who recorded what, and how. */
static struct error *add_origin(struct session *session, struct recorder *recorder)
{
    char events_text[EVENTS_TEXT_BYTES];
    char line[1024];
    size_t used = 0;

    if (recorder->events)
        events_describe(recorder->events, session_hz(session), events_text);
    else
        snprintf(events_text, sizeof(events_text), "one allocation in %lld bytes",
                 (long long)recorder->profile.period);
    RETURN_IF_ERROR(profile_add_comment(&recorder->profile,
                                        "cprofiler " CPROFILER_VERSION ", %s, %s",
                                        recorder->engine->info.engine, events_text));
    if (!session->options.argv)
        return NULL;
    for (char *const *word = session->options.argv; *word && used < sizeof(line); word++)
        used += (size_t)snprintf(line + used, sizeof(line) - used, " %s", *word);
    return profile_add_comment(&recorder->profile, "command:%s", line);
}

static struct error *add_comments(struct session *session, struct recorder *recorder)
{
    struct profile *profile = &recorder->profile;

    RETURN_IF_ERROR(add_origin(session, recorder));
    if (session->num_recalled)
        RETURN_IF_ERROR(profile_add_comment(profile,
                                            "stacks completed by frames of earlier samples: %llu",
                                            (unsigned long long)session->num_recalled));
    RETURN_IF_ERROR(profile_add_comment(profile, "stacks complete: %llu of %llu samples",
                                        (unsigned long long)recorder->num_complete,
                                        (unsigned long long)recorder->num_samples));
    for (int kind = 0; kind < LOSS_NUM_KINDS; kind++)
        if (profile->loss.counts[kind] || kind == LOSS_LOST || kind == LOSS_THROTTLED)
            RETURN_IF_ERROR(profile_add_comment(profile, "loss: %s %llu",
                                                loss_name((enum loss_kind)kind),
                                                (unsigned long long)profile->loss.counts[kind]));
    return NULL;
}

static struct error *finish_recorder(struct session *session, struct recorder *recorder)
{
    loss_add(&recorder->profile.loss, &session->symbols.loss);
    loss_add(&recorder->profile.loss, target_loss(session->target));
    RETURN_IF_ERROR(add_comments(session, recorder));
    if (recorder == session->allocations)
        RETURN_IF_ERROR(heap_finish(&session->heap));
    if (recorder == session->growth)
        RETURN_IF_ERROR(heap_trim_growth(&recorder->profile));
    return profile_check(&recorder->profile, session->options.symbolize);
}

struct error *session_finish(struct session *session)
{
    CLEANUP(free) uint64_t *weights = NULL;
    struct unwind_stats stats = {0};
    struct symbolize_options options = {
        .scope = session->options.symbolize ? SYMBOLIZE_ALL : SYMBOLIZE_HERE,
        .inlines = session->options.inlines,
        .debug_dir = session->options.debug_dir,
        .debuginfod = session->options.debuginfod,
        .fetch = session->options.fetch,
        .fetch_context = session->options.fetch_context,
        .timeout_ns = session->options.symbol_timeout_ns,
    };

    if (session->cpu)
        events_settle(session->cpu->events, &session->cpu->engine->info, session->cpu->tallies,
                      &session->cpu->profile);
    RETURN_IF_ERROR(weigh_locations(session, &weights));
    options.location_weights = weights;
    if (options.debuginfod)
        signals_rearm(); /* what ended the recording does not end fetching, the next one does */
    RETURN_IF_ERROR(symbolize_table(&session->table, session->target, &options, &session->symbols));
    session->unwind_ops->stats(session->unwinder, &stats);
    session->num_recalled = stats.num_tails_recalled;
    for (size_t i = 0; i < session->num_recorders; i++)
        RETURN_IF_ERROR(finish_recorder(session, &session->recorders[i]));
    return NULL;
}
