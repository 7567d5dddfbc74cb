/* /proc/kallsyms holds names of kernel modules and BPF programs, chosen by whoever loaded them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "symbolize/kallsyms.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    char *text = malloc(num_bytes + 1);
    struct kallsyms *kallsyms;

    if (!text)
        return 0;
    memcpy(text, bytes, num_bytes);
    text[num_bytes] = '\0';
    if (!kallsyms_parse_take(text, num_bytes, &kallsyms) && kallsyms) {
        for (uint64_t pc = 0xffffffff81000000; pc < 0xffffffff81001000; pc += 61) {
            const char *module;
            const char *name = kallsyms_find(kallsyms, pc, &module);

            if (name && strlen(name) + strlen(module) > num_bytes + 8)
                abort();
        }
        kallsyms_destroy(kallsyms);
    }
    return 0;
}
