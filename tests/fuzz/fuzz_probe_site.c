/* Fuzzes the choice of a breakpoint's place. Input: a byte for the role, then code.
 *
 * Whatever the code is: the site lies in it, is an instruction that was decoded whole, and is read
 * by a role of the same kind.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sampler/probe_site.h"
#include "sampler/x86_insn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

static void check_code(const uint8_t *code, size_t num_bytes)
{
    struct x86_insn insn;

    for (size_t at = 0; at < num_bytes; at++)
        if (x86_insn_decode(code + at, num_bytes - at, &insn) &&
            (insn.num_bytes == 0 || insn.num_bytes > X86_MAX_INSN_BYTES ||
             insn.num_bytes > num_bytes - at))
            abort();
}

static bool is_moved(enum allocator_role role, enum allocator_role reader)
{
    if (role == ALLOCATOR_MALLOC)
        return reader == ALLOCATOR_MEMALIGN;
    return reader == ALLOCATOR_CALLOC_MOVED &&
           (role == ALLOCATOR_CALLOC || role == ALLOCATOR_HEAP_CALLOC);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes)
{
    struct probe_slide slide;
    enum allocator_role role;
    struct x86_insn insn;
    uint8_t *code;

    if (num_bytes < 1)
        return 0;
    role = data[0] % ALLOCATOR_NUM_ROLES;
    num_bytes--;
    code = malloc(num_bytes ? num_bytes : 1);
    if (!code)
        return 0;
    memcpy(code, data + 1, num_bytes);
    check_code(code, num_bytes);
    if (probe_site_slide(code, num_bytes, role, &slide)) {
        if (slide.offset >= num_bytes ||
            !x86_insn_decode(code + slide.offset, num_bytes - slide.offset, &insn))
            abort();
        if (slide.is_stepped && slide.offset != 0)
            abort();
        if (slide.role != role && !is_moved(role, slide.role))
            abort();
    }
    free(code);
    return 0;
}
