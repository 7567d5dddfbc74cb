#include "cmd/heap_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BUDGET_PERCENT 10000.0
#define MODES "modes: probes (default), growth"

/* The options that mean nothing without a heap profile, or without probes. Returns: one that was
 * given; NULL. */
static const char *given_without(const struct heap_options_given *given, bool has_heap)
{
    return !has_heap && given->mode      ? "--heap-mode"
           : !has_heap && given->rate    ? "--heap-rate"
           : given->budget               ? "--heap-budget"
           : given->snapshot_seconds > 0 ? "--heap-snapshot"
           : given->keeps_allocator      ? "--heap-keep-allocator"
                                         : NULL;
}

static struct error *read_budget(const char *word, double *share_ret)
{
    char *end;
    double percent;

    if (!word) {
        *share_ret = HEAP_DEFAULT_BUDGET;
        return NULL;
    }
    if (strcmp(word, "none") == 0) {
        *share_ret = 0;
        return NULL;
    }
    percent = strtod(word, &end);
    if (end != word && *end == '%')
        end++;
    if (end == word || *end || !isfinite(percent) || percent <= 0 || percent > MAX_BUDGET_PERCENT)
        return error_create(ERROR_USAGE, "type: --heap-budget 5   or   --heap-budget none",
                            "record: --heap-budget takes percent of the target's CPU time, or "
                            "'none', not '%s'",
                            word);
    *share_ret = percent / 100;
    return NULL;
}

static struct error *read_probes(const struct heap_options_given *given,
                                 struct heap_settings *settings)
{
    if (given->rate > HEAP_MAX_RATE_BYTES)
        return error_create(ERROR_USAGE, "type: --heap-rate 512K",
                            "record: --heap-rate above 16G samples nothing");
    *settings = (struct heap_settings){
        .rate_bytes = given->rate,
        .snapshot_ns = (uint64_t)(given->snapshot_seconds * 1e9),
        .keeps_allocator = given->keeps_allocator,
    };
    return read_budget(given->budget, &settings->budget);
}

struct error *heap_options_read(const struct heap_options_given *given, unsigned long count,
                                struct heap_choice *choice_ret)
{
    bool is_growth = given->mode && strcmp(given->mode, "growth") == 0;
    const char *useless = given_without(given, given->path != NULL);

    *choice_ret = (struct heap_choice){0};
    if (given->mode && !is_growth && strcmp(given->mode, "probes"))
        return error_create(ERROR_USAGE, MODES, "record: no heap mode '%s'", given->mode);
    if (!given->path && useless)
        return error_create(ERROR_USAGE, "type: --heap heap.pprof", "record: %s needs --heap FILE",
                            useless);
    if (is_growth && useless)
        return error_create(ERROR_USAGE, "leave it out, or take --heap-mode probes",
                            "record: %s is for --heap-mode probes", useless);
    if (!given->path)
        return NULL;
    choice_ret->has_growth = is_growth;
    choice_ret->has_probes = !is_growth;
    return is_growth ? growth_choose(count, given->rate, &choice_ret->growth)
                     : read_probes(given, &choice_ret->probes);
}
