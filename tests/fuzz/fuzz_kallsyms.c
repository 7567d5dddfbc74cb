/* /proc/kallsyms holds names of kernel modules and BPF programs, chosen by whoever loaded them.
 * What is read bit by bit must answer as what is parsed at once. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "symbolize/kallsyms.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

static struct kallsyms *open_file(const uint8_t *bytes, size_t num_bytes)
{
    struct kallsyms *kallsyms = NULL;
    int fd = memfd_create("kallsyms", MFD_CLOEXEC);
    char path[40];

    if (fd < 0 || file_write_all(fd, bytes, num_bytes, "memfd"))
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (kallsyms_open(path, &kallsyms))
        abort();
    close(fd);
    return kallsyms;
}

static void check_same(const char *left, const char *right)
{
    if (!left != !right || (left && strcmp(left, right)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    char *text = malloc(num_bytes + 1);
    struct kallsyms *parsed = NULL;
    struct kallsyms *opened;

    if (!text)
        return 0;
    memcpy(text, bytes, num_bytes);
    if (kallsyms_parse_take(text, num_bytes, &parsed))
        abort();
    opened = open_file(bytes, num_bytes);
    if (!parsed != !opened)
        abort();
    if (opened)
        kallsyms_find(opened, UINT64_MAX, NULL); /* reads all */
    for (uint64_t pc = 0xffffffff81000000; parsed && pc < 0xffffffff81001000; pc += 61) {
        const char *modules[2] = {NULL, NULL};
        const char *name = kallsyms_find(parsed, pc, &modules[0]);

        check_same(name, kallsyms_find(opened, pc, &modules[1]));
        check_same(modules[0], modules[1]);
        if (name && strlen(name) + strlen(modules[0]) > num_bytes + 8)
            abort();
    }
    kallsyms_destroy(parsed);
    kallsyms_destroy(opened);
    return 0;
}
