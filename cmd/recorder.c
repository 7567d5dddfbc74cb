#include "cmd/recorder.h"

#include <string.h>

void recorder_count(struct recorder *recorder, const struct sample *sample,
                    const struct callchain *chain)
{
    struct event_tally *tally = &recorder->tallies[sample->event - recorder->first_event];
    enum loss_kind loss = frame_reason_loss((enum frame_reason)chain->stop);

    recorder->num_samples++;
    tally->num_samples++;
    tally->num_kernel_samples += sample->in_kernel;
    if (__builtin_add_overflow(tally->weight, sample->weight, &tally->weight))
        tally->weight = UINT64_MAX;
    recorder->num_complete += chain->stop == REASON_NONE;
    if (loss < LOSS_NUM_KINDS)
        recorder->profile.loss.counts[loss]++;
}

struct error *recorder_add(struct recorder *recorder, const struct sample *sample,
                           const struct callchain *chain, uint32_t stack, uint32_t label_set)
{
    int64_t values[PROFILE_MAX_VALUES];

    recorder->set_values(recorder->events, sample->event - recorder->first_event, sample->weight,
                         values);
    RETURN_IF_ERROR(profile_add(&recorder->profile, stack, label_set, values));
    recorder_count(recorder, sample, chain);
    return NULL;
}

void recorder_deinit(struct recorder *recorder)
{
    profile_deinit(&recorder->profile);
    memset(recorder, 0, sizeof(*recorder));
}
