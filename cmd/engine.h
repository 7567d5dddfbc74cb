/* One open sampler of a session: which way of taking samples it is, and why no better one.
 *
 * Not what the samples are for (cmd/recorder.h). Ownership: the caller owns the engine.
 * Threads: one. Source: docs/adr/0001-engines.md.
 */
#ifndef CMD_ENGINE_H
#define CMD_ENGINE_H

#include <stdbool.h>

#include "base/error.h"
#include "sampler/sampler.h"

struct engine {
    const struct sampler_ops *ops; /* NULL: none was opened */
    struct sampler *sampler;       /* NULL: not open, or closed already */
    struct sampler_info info;
    char *note; /* why a better engine was refused; NULL when none was */
};

/* Opens the first engine that this host and user allow, or just the one asked for.
 * options: copied; for an open scope only the CPU-wide engine is tried. name: of the one asked for;
 * NULL: the best that works. prefers_per_task: the best is the one that counts task by task.
 * Returns: NULL or the error to show. */
struct error *engine_open(struct engine *engine, const struct sampler_options *options,
                          const char *name, bool prefers_per_task) MUST_CHECK;

/* Takes everything of ours away from the target and the kernel; what was told of it stays. */
void engine_close(struct engine *engine);

/* Closes it and frees all; a zeroed engine is fine. */
void engine_deinit(struct engine *engine);

#endif
