/* bench_symbolize FILE < ADDRESSES: names linked addresses (hex, one per line) of one ELF file by
 * symbolize_table() and prints what it cost as one JSON object. Driven by naming.py.
 * --names: without inlined functions and lines. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "symbolize/symbolize.h"

#define MAX_SEGMENTS 16

struct bench {
    struct stack_table table;
    struct target *target;
    struct module *module;
    uint32_t mappings[MAX_SEGMENTS];
    size_t num_mappings;
};

static struct error *add_mappings(struct bench *bench)
{
    for (size_t i = 0; i < bench->module->num_segments && bench->num_mappings < MAX_SEGMENTS; i++) {
        const struct module_segment *segment = &bench->module->segments[i];
        struct mapping mapping = {
            .start = segment->elf_addr & ~(uint64_t)4095,
            .limit = (segment->elf_addr + segment->mem_bytes + 4095) & ~(uint64_t)4095,
            .file_off = segment->file_off & ~(uint64_t)4095,
            .kind = MAPPING_FILE,
            .module = bench->module->id,
        };

        if (!segment->is_executable)
            continue;
        RETURN_IF_ERROR(
            string_table_add(&bench->table.strings, bench->module->path, &mapping.path));
        RETURN_IF_ERROR(stack_table_add_mapping(&bench->table, &mapping,
                                                &bench->mappings[bench->num_mappings]));
        bench->num_mappings++;
    }
    return NULL;
}

static struct error *add_addresses(struct bench *bench)
{
    char text[64];

    while (fgets(text, sizeof(text), stdin)) {
        struct frame_key key = {.pc = strtoull(text, NULL, 16)};
        uint32_t location;

        for (size_t i = 0; i < bench->num_mappings; i++) {
            const struct mapping *mapping = stack_table_mapping(&bench->table, bench->mappings[i]);

            if (key.pc >= mapping->start && key.pc < mapping->limit)
                key.mapping = bench->mappings[i];
        }
        if (key.mapping)
            RETURN_IF_ERROR(stack_table_add_location(&bench->table, &key, &location));
    }
    return NULL;
}

static struct error *run(struct bench *bench, const char *path,
                         const struct symbolize_options *options, struct symbolize_result *result)
{
    RETURN_IF_ERROR(stack_table_init(&bench->table));
    RETURN_IF_ERROR(target_create(&bench->table, &bench->target));
    RETURN_IF_ERROR(module_table_open_path(target_modules(bench->target), path, &bench->module));
    RETURN_IF_ERROR(add_mappings(bench));
    RETURN_IF_ERROR(add_addresses(bench));
    return symbolize_table(&bench->table, bench->target, options, result);
}

int main(int argc, char **argv)
{
    bool names_only = argc > 2 && !strcmp(argv[2], "--names");
    struct symbolize_options options = {.inlines = !names_only};
    struct symbolize_result result = {0};
    struct bench bench = {0};
    struct rusage usage;
    struct error *err;

    if (argc < 2)
        return 2;
    err = run(&bench, argv[1], &options, &result);
    if (err) {
        fprintf(stderr, "%s\n", err->message);
        return 1;
    }
    getrusage(RUSAGE_SELF, &usage);
    printf(
        "{\"locations\": %" PRIu64 ", \"named\": %" PRIu64 ", \"lines\": %zu, \"wall_ms\": %.1f, "
        "\"cpu_ms\": %.1f, \"peak_rss_mb\": %ld}\n",
        result.num_locations, result.num_named, bench.table.num_lines,
        (double)result.duration_ns / 1e6, (double)clock_self_cpu_ns() / 1e6, usage.ru_maxrss >> 10);
    stack_table_deinit(&bench.table);
    target_destroy(bench.target);
    return 0;
}
