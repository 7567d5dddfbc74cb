/* Fuzzes procfs_stat_parse(): /proc/PID/stat with a hostile process name. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/procfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes)
{
    struct procfs_stat stat;
    char *text = malloc(num_bytes + 1);

    if (!text)
        return 0;
    memcpy(text, data, num_bytes);
    text[num_bytes] = '\0';
    struct error *err = procfs_stat_parse(text, &stat);
    if (!err && (!memchr(stat.comm, 0, sizeof(stat.comm)) || stat.ppid < 0))
        __builtin_trap();
    error_destroy(err);
    free(text);
    return 0;
}
