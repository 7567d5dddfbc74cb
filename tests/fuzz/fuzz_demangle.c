/* Symbols come from the target's files. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/symbolize.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    char *symbol = malloc(num_bytes + 1);
    struct arena arena;

    if (!symbol)
        return 0;
    memcpy(symbol, bytes, num_bytes);
    symbol[num_bytes] = '\0';
    arena_init(&arena);
    if (strlen(symbol_demangle(&arena, symbol)) > num_bytes + 65536)
        abort();
    arena_deinit(&arena);
    free(symbol);
    return 0;
}
