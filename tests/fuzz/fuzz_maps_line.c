/* Fuzzes maps_line_parse() and what follows from it: every line of the input becomes a range of an
 * address space, which must stay sorted and without overlap. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "target/maps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

/* Stops the fuzzer when the ranges are not sorted, or overlap, or can't be found again. */
static void check_maps(const struct maps *maps)
{
    for (size_t i = 0; i < maps->num_vmas; i++) {
        const struct vma *vma = &maps->vmas[i];

        if (vma->start >= vma->limit || (i > 0 && maps->vmas[i - 1].limit > vma->start))
            __builtin_trap();
        if (maps_find(maps, vma->start) != vma || maps_find(maps, vma->limit - 1) != vma)
            __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes)
{
    char *text = malloc(num_bytes + 1);
    struct maps *maps = NULL;
    char *next;

    if (!text || maps_create(&maps)) {
        free(text);
        return 0;
    }
    memcpy(text, data, num_bytes);
    text[num_bytes] = '\0';
    for (char *line = text; line; line = next) {
        struct maps_line parsed;
        size_t line_bytes;

        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line_bytes = strlen(line);
        if (!maps_line_parse(line, &parsed))
            continue;
        if (parsed.start >= parsed.limit ||
            (parsed.prot & ~(uint32_t)(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0 ||
            parsed.path < line || parsed.path + strlen(parsed.path) > line + line_bytes)
            __builtin_trap();
        struct vma vma = {
            .start = parsed.start, .limit = parsed.limit, .file_off = parsed.file_off};
        if (maps_insert(maps, &vma))
            break;
        check_maps(maps);
    }
    maps_put(maps);
    free(text);
    return 0;
}
