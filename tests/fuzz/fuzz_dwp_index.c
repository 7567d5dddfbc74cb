/* The index of a DWARF package: any bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/dwp_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    struct dwp_range ranges[SPLIT_NUM_SECTIONS];
    struct dwp_index index;

    if (!dwp_index_parse(bytes, num_bytes, &index))
        return 0;
    /* Every signature that is written somewhere in the bytes, and some that are not. */
    for (size_t off = 0; off + 8 <= num_bytes && off < 512; off += 8) {
        uint64_t id;

        memcpy(&id, bytes + off, sizeof(id));
        dwp_index_find(&index, id, ranges);
        dwp_index_find(&index, id + off, ranges);
    }
    return 0;
}
