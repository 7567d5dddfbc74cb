#include "base/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#define LOG_LINE_BYTES 1024

static log_sink_fn *log_sink;
static enum log_level log_max_level;

void log_set_sink(log_sink_fn *sink, enum log_level level)
{
    log_sink = sink;
    log_max_level = level;
}

void log_write(enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_BYTES];
    va_list args;

    if (!log_sink || level > log_max_level)
        return;
    va_start(args, format);
    int length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (length < 0)
        return;
    /* A note is one line: quoted names may hold any bytes. */
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    log_sink(level, line);
}
