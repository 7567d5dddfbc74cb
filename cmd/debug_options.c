#include "cmd/debug_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "cmd/signals.h"

struct error *check_debug_dirs(const char *list, const char *command)
{
    while (list && *list) {
        size_t num_bytes = strcspn(list, ":");
        CLEANUP(free) char *dir = strndup(list, num_bytes);
        struct stat status;

        if (!dir)
            return &error_no_memory;
        if (num_bytes > 0 && (stat(dir, &status) != 0 || !S_ISDIR(status.st_mode)))
            return error_create(ERROR_NOT_FOUND, "name a directory with debug files",
                                "%s: --debug-dir %s is no directory", command, dir);
        list += num_bytes + (list[num_bytes] == ':');
    }
    return NULL;
}

bool fetch_progress_show(void *context, const char *name, uint64_t num_bytes, uint64_t total_bytes)
{
    struct fetch_progress *progress = context;
    const char *slash = strrchr(name, '/');

    if (progress->is_shown) {
        fputs("\r\033[Kcprofiler: fetching debug info of ", stderr);
        for (const char *c = slash && slash[1] ? slash + 1 : name; *c; c++)
            fputc((unsigned char)*c < ' ' || *c == 127 ? '?' : *c, stderr);
        fprintf(stderr, ", %.1f", (double)num_bytes / 1e6);
        if (total_bytes > 0)
            fprintf(stderr, " of %.1f", (double)total_bytes / 1e6);
        fputs(" MB (Ctrl-C goes on without) ", stderr);
        progress->has_line = true;
    }
    return !signals_received();
}

void fetch_progress_end(struct fetch_progress *progress)
{
    if (progress->has_line)
        fputs("\r\033[K", stderr);
    progress->has_line = false;
}
