/* Tracepoints as tracefs lists them: their numbers, which ones there are, and why they can't be
 * seen.
 *
 * Not parsing of names (sampler/event_spec.h), not opening (sampler/perf_event.h). Nothing is
 * mounted or changed. Threads: none. Source: kernel Documentation/trace/events.rst,
 * Documentation/trace/ftrace.rst.
 */
#ifndef SAMPLER_TRACEFS_H
#define SAMPLER_TRACEFS_H

#include "base/error.h"
#include "sampler/event_spec.h"

/* Where tracefs may be mounted, NULL-terminated, the likeliest first. */
extern const char *const tracefs_roots[];

/* Finds the number of a tracepoint and sets it as perf_config. roots: NULL-terminated, as
 * tracefs_roots. Returns: NULL; ERROR_NOT_FOUND with the nearest name (or how to mount tracefs) as
 * hint; ERROR_PERMISSION with the remedy. */
struct error *tracefs_find_tracepoint(const char *const *roots, struct event_spec *spec) MUST_CHECK;

/* Receives a tracepoint. context: whatever was given to tracefs_visit_tracepoints(). */
typedef struct error *tracefs_visitor_fn(void *context, const char *subsystem, const char *name);

/* Calls `visit` for every tracepoint, in order of names. Returns: NULL; the visitor's error, which
 * ends it; as above. */
struct error *tracefs_visit_tracepoints(const char *const *roots, tracefs_visitor_fn *visit,
                                        void *context) MUST_CHECK;

#endif
