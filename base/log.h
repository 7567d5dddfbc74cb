/* Notes on the way: what an operator who asked for it (-v) may want to read.
 *
 * Not for errors (they are returned) and not for results. Nothing below cmd/ prints: cmd/ sets the
 * sink; without one, notes vanish. Threads: set the sink before starting threads.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/compiler.h"

enum log_level { LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* Receives one line without a newline. */
typedef void log_sink_fn(enum log_level level, const char *line);

/* Sends notes of up to `level` to `sink` from now on (NULL: nowhere, the state at start). */
void log_set_sink(log_sink_fn *sink, enum log_level level);

/* Logs one formatted line (cut at 1 KB). */
void log_write(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

#endif
