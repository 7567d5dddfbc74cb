/* Fuzzes event_spec_parse(): what is accepted has printable names that are accepted again as the
 * same event, a sample type that every viewer takes, and parts that stay below one folder. */
#include <ctype.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sampler/event_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

static void check(const struct event_spec *spec)
{
    struct event_spec again;

    for (const char *c = spec->sample_type; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '_')
            __builtin_trap();
    if (!spec->name[0] || !spec->sample_type[0] || strpbrk(spec->name, "\"\\/\n ") ||
        strchr(spec->subsystem, '/') || strchr(spec->tracepoint, '/') ||
        spec->tracepoint[0] == '.' || spec->subsystem[0] == '.')
        __builtin_trap();
    if (event_spec_parse(spec->name, &again) || memcmp(spec, &again, sizeof(again)) != 0)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes)
{
    char *text = malloc(num_bytes + 1);
    struct event_spec spec;
    struct error *err;

    if (!text)
        return 0;
    memcpy(text, data, num_bytes);
    text[num_bytes] = '\0';
    err = event_spec_parse(text, &spec);
    if (!err)
        check(&spec);
    error_destroy(err);
    free(text);
    return 0;
}
