/* Fuzzes what is found in an ELF file of functions that allocate, and the sites of probes on them.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sampler/probe_site.h"
#include "target/allocator.h"
#include "target/module.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

static void check_sites(const struct heap_sites *sites)
{
    for (size_t i = 0; i < sites->num_sites; i++) {
        const struct heap_site *site = &sites->sites[i];

        if (site->file_off < site->entry_off || site->role >= ALLOCATOR_NUM_ROLES ||
            site->num_callers > HEAP_MAX_CALLERS ||
            strnlen(site->name, sizeof(site->name)) == sizeof(site->name))
            abort();
    }
}

static void check_module(const struct module *module)
{
    struct allocator_candidate candidate;
    struct allocator_set set, chosen;
    struct heap_sites sites;
    size_t num;

    if (allocator_find(module, &set))
        return;
    candidate = (struct allocator_candidate){.set = &set, .is_main = true};
    if (!allocator_choose(&candidate, 1, &chosen, &num)) {
        struct error *err = heap_sites_make(module, &chosen, &sites);

        if (num > set.num_functions)
            abort();
        if (!err) {
            check_sites(&sites);
            heap_sites_deinit(&sites);
        }
        error_destroy(err);
        allocator_set_deinit(&chosen);
    }
    allocator_set_deinit(&set);
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
    if (!module_table_open_path(table, path, &module))
        check_module(module);
    module_table_destroy(table);
    close(fd);
    return 0;
}
