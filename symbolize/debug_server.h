/* Debug files, and executables, from debuginfod servers: the one part of cprofiler that goes to the
 * network, and only when asked to (--debuginfod).
 *
 * By libdebuginfod, which knows servers (DEBUGINFOD_URLS), keeps a cache, and is loaded when it is
 * needed: it drags in curl and TLS. What comes is not trusted: the caller checks the build-id.
 * Ownership: the caller owns the object. Threads: none.
 * Source: debuginfod_find_debuginfo(3), debuginfod(8); docs/adr/0016-debuginfod.md.
 */
#ifndef SYMBOLIZE_DEBUG_SERVER_H
#define SYMBOLIZE_DEBUG_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "symbolize/symbolize.h"

struct debug_server;

/* Tells, before anything is recorded, whether servers can be asked.
 * Returns: NULL; ERROR_UNSUPPORTED without libdebuginfod, ERROR_USAGE without DEBUGINFOD_URLS, both
 * with a hint. */
struct error *debug_server_check(void) MUST_CHECK;

/* Loads the library and makes a client.
 * progress: called several times a second while a file is on its way; NULL = nobody. context:
 * passed on. deadline_ns: CLOCK_MONOTONIC, nothing is waited for past it; 0 = none.
 * server_ret: owned by the caller. Returns: as debug_server_check(), or error_no_memory. */
struct error *debug_server_open(symbolize_fetch_fn *progress, void *context, uint64_t deadline_ns,
                                struct debug_server **server_ret) MUST_CHECK;

/* Closes it; files already fetched stay open. NULL is fine. */
void debug_server_close(struct debug_server *server);

/* What a server may have for a build-id. */
enum debug_server_kind {
    DEBUG_SERVER_DEBUG_FILE,
    DEBUG_SERVER_EXECUTABLE, /* to be asked for when its debug file is not there */
};

/* Fetches the file of a build-id, from the cache or a server.
 * name: what is fetched, for the progress. Returns: a descriptor owned by the caller; -1 when no
 * server has it, the time is up, or progress said no. */
int debug_server_fetch(struct debug_server *server, enum debug_server_kind kind,
                       const uint8_t *build_id, size_t build_id_bytes, const char *name) MUST_CHECK;

/* Tells what came of all fetches so far. */
void debug_server_counts(const struct debug_server *server, struct symbolize_fetches *counts_ret);

DEFINE_CLEANUP(debug_server_close, struct debug_server *)

#endif
