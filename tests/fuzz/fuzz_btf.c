/* BTF of a hostile kernel file: all fields are found, or nothing is told. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/error.h"
#include "sampler/btf_offset.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    static const char *const names[] = {"pid", "tgid"};
    uint32_t offsets[ARRAY_LENGTH(names)] = {UINT32_MAX, UINT32_MAX};
    uint8_t *copy = malloc(num_bytes + 1); /* malloc(0) may be NULL */
    struct error *err;

    if (!copy)
        return 0;
    memcpy(copy + 1, bytes, num_bytes); /* unaligned, and ends where the block ends */
    err = btf_offset_parse(copy + 1, num_bytes, "task", names, ARRAY_LENGTH(names), offsets);
    if ((err == NULL) != (offsets[0] != UINT32_MAX && offsets[1] != UINT32_MAX))
        abort();
    error_destroy(err);
    free(copy);
    return 0;
}
