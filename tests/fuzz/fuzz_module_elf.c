/* Fuzzes what a module takes from an ELF file: headers, segments, build-id, and the addresses that
 * follow from them; from a file and, as the vdso, from memory. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "target/maps.h"
#include "target/module.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

/* Converts addresses in all segments, forth and back. */
static void check_module(const struct module *module)
{
    char text[2 * MODULE_MAX_BUILD_ID_BYTES + 1];

    module_build_id_text(module, text);
    if ((module->build_id_bytes > 0
             ? strlen(text) != 2 * module->build_id_bytes
             : strlen(text) > 0 && !go_build_id_is_unique(text, strlen(text))) ||
        (module->elf && module->num_segments == 0))
        __builtin_trap();
    for (size_t i = 0; i < module->num_segments; i++) {
        const struct module_segment *segment = &module->segments[i];
        uint64_t file_off = segment->file_off & ~4095ULL;
        uint64_t elf_addr, bias;
        struct mapping mapping = {
            .start = 0x7f0000000000, .limit = 0x7f0000001000, .file_off = file_off};

        if (!module_file_off_to_elf_addr(module, segment->file_off, &elf_addr))
            __builtin_trap();
        if (module_mapping_bias(module, mapping.start, mapping.limit, file_off, &bias) &&
            (!mapping_elf_addr(&mapping, module, mapping.start + 1, &elf_addr) ||
             elf_addr != mapping.start + 1 - bias))
            __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes)
{
    struct module_table *table = NULL;
    struct module *module = NULL;
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, num_bytes) != (ssize_t)num_bytes || module_table_create(&table)) {
        close(fd);
        return 0;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (!module_table_open_path(table, path, &module)) {
        check_module(module);
        if (module->fd < 0)
            __builtin_trap();
    }
    if (num_bytes > 0 && !module_table_get_vdso(table, data, num_bytes, &module))
        check_module(module);
    module_table_destroy(table);
    close(fd);
    return 0;
}
