/* Fuzzes utf8_sanitize(): the copy is valid, holds no control character, and is a fixed point. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/string_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes)
{
    char *text = malloc(num_bytes + 1);
    char *once = NULL;
    char *twice = NULL;

    if (!text)
        return 0;
    memcpy(text, data, num_bytes);
    text[num_bytes] = '\0';
    if (!utf8_sanitize(text, &once) && !utf8_sanitize(once, &twice)) {
        for (const unsigned char *c = (const unsigned char *)once; *c; c++) {
            if (*c < 0x20 || *c == 0x7f)
                __builtin_trap();
        }
        if (strcmp(once, twice) != 0 || strlen(once) > 3 * strlen(text))
            __builtin_trap();
    }
    free(twice);
    free(once);
    free(text);
    return 0;
}
