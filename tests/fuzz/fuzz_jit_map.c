/* perf-PID.map is written by the target: any bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "symbolize/jit_map.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    char *text = malloc(num_bytes + 1);
    struct jit_map *map;

    if (!text)
        return 0;
    memcpy(text, bytes, num_bytes);
    text[num_bytes] = '\0';
    if (!jit_map_parse_take(text, num_bytes, &map)) {
        for (uint64_t pc = 0; pc < 65536; pc += 1021) {
            const char *name = jit_map_find(map, pc);

            if (name && strlen(name) > num_bytes)
                abort();
        }
        jit_map_destroy(map);
    }
    return 0;
}
