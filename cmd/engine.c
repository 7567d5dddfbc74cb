#include "cmd/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"

struct error *engine_open(struct engine *engine, const struct sampler_options *options,
                          const char *name, bool prefers_per_task)
{
    static const struct sampler_ops *const ladder[] = {&sampler_cpu_wide, &sampler_per_task,
                                                       &sampler_ptrace};
    bool is_open_scope = options->scope == SAMPLER_SYSTEM || options->scope == SAMPLER_CGROUP;
    size_t num_engines = is_open_scope ? 1 : ARRAY_LENGTH(ladder);
    bool skips_first = num_engines > 1 && prefers_per_task;
    CLEANUP(error_destroy) struct error *err = NULL; /* of the engine before */

    for (size_t i = 0; i < num_engines; i++) {
        struct error *refusal;

        if (name ? strcmp(name, ladder[i]->name) != 0 : skips_first && i == 0)
            continue;
        refusal = ladder[i]->open(options, &engine->sampler);
        if (!refusal) {
            engine->ops = ladder[i];
            engine->note = err ? strdup(err->message) : NULL;
            return NULL;
        }
        log_info("engine %s: %s", ladder[i]->name, refusal->message);
        if (err && ladder[i] == &sampler_ptrace) { /* what perf lacks is easier to give */
            error_destroy(refusal);
            return take_ptr(err);
        }
        error_destroy(take_ptr(err));
        if (refusal->kind != ERROR_PERMISSION && refusal->kind != ERROR_UNSUPPORTED)
            return refusal;
        err = refusal;
    }
    return take_ptr(err);
}

void engine_close(struct engine *engine)
{
    if (engine->sampler)
        engine->ops->destroy(engine->sampler);
    engine->sampler = NULL;
}

void engine_deinit(struct engine *engine)
{
    engine_close(engine);
    free(engine->note);
    memset(engine, 0, sizeof(*engine));
}
