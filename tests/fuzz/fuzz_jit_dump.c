/* A jitdump is written by the target: any bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/jit_dump.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    struct jit_dump *dump = NULL;
    struct symbol symbol;
    struct arena arena;

    arena_init(&arena);
    if (!jit_dump_parse(bytes, num_bytes, &dump) && dump) {
        /* Every address that is written somewhere in the bytes. */
        for (size_t off = 0; off + 8 <= num_bytes && off < 4096; off += 8) {
            uint64_t pc;

            memcpy(&pc, bytes + off, sizeof(pc));
            if (jit_dump_find(dump, pc, &arena, &symbol) && strlen(symbol.name) > num_bytes)
                abort();
        }
    }
    jit_dump_destroy(dump);
    arena_deinit(&arena);
    return 0;
}
