/* .gopclntab of a hostile file. The last quarter of the input stands for the inline trees. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/gopclntab.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    size_t table_bytes = num_bytes - num_bytes / 4;
    struct symbol_frames *frames = calloc(1, sizeof(*frames));
    uint8_t *copy = malloc(table_bytes + 1); /* exact size, so that overreads are seen */
    struct gopclntab table;
    struct arena arena;

    arena_init(&arena);
    if (frames && copy) {
        memcpy(copy, bytes, table_bytes);
        if (gopclntab_parse(copy, table_bytes, &table)) {
            table.text = table.text ? table.text : 0x400000;
            table.gofunc = bytes + table_bytes;
            table.gofunc_bytes = num_bytes - table_bytes;
            for (uint64_t at = 0; at < 2048; at += 31) {
                if (gopclntab_lookup(&table, table.text + at, &arena, frames) &&
                    (frames->num_symbols == 0 || frames->num_symbols > SYMBOL_MAX_INLINES))
                    abort();
            }
        }
    }
    arena_deinit(&arena);
    free(copy);
    free(frames);
    return 0;
}
