/* Any bytes as a pprof file: read it, print its table, write it, and read what was written; and
 * give it names, which must keep everything else. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "output/pprof_patch.h"
#include "output/pprof_reader.h"
#include "output/profile_diff.h"
#include "output/top.h"
#include "output/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

/* Writes a profile that could be read, and reads it again: both must work, the sums must be equal.
 */
static void check_round_trip(const struct profile *profile)
{
    CLEANUP(close) int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct stack_table table;
    struct profile again;
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fd < 0 || writer_pprof.write(profile, fd, path) || pprof_read_file(path, &table, &again))
        abort();
    if (again.num_value_types != profile->num_value_types ||
        again.num_comments != profile->num_comments)
        abort();
    for (size_t i = 0; i < profile->num_value_types; i++)
        if (profile_total(profile, i) != profile_total(&again, i))
            abort();
    profile_deinit(&again);
    stack_table_deinit(&table);
}

/* Gives each second location new lines: some with known functions, some with new ones. */
static void give_lines(struct stack_table *table)
{
    for (uint32_t i = 0; i < table->num_locations; i += 2) {
        struct function function = {.start_line = i & 3};
        struct line lines[2] = {{.line = i}, {.line = -1}};

        if (string_table_addf(&table->strings, &function.name, "new \xff%u", i & 7) ||
            stack_table_add_function(table, &function, &lines[0].function))
            abort();
        if (table->num_functions > 0)
            lines[1].function = i % (uint32_t)table->num_functions;
        if (stack_table_set_lines(table, i, lines, 2))
            abort();
        if (table->locations[i].key.mapping)
            table->mappings[table->locations[i].key.mapping - 1].has_functions = true;
    }
}

/* Tells whether two tables say the same of all places. */
static bool places_equal(const struct stack_table *one, const struct stack_table *other)
{
    if (one->num_locations != other->num_locations || one->num_mappings != other->num_mappings)
        return false;
    for (size_t i = 0; i < one->num_mappings; i++)
        if (one->mappings[i].start != other->mappings[i].start ||
            one->mappings[i].has_functions != other->mappings[i].has_functions)
            return false;
    for (size_t i = 0; i < one->num_locations; i++) {
        const struct location *left = &one->locations[i], *right = &other->locations[i];

        if (left->key.pc != right->key.pc || left->key.mapping != right->key.mapping ||
            left->num_lines != right->num_lines)
            return false;
        for (uint32_t j = 0; j < left->num_lines; j++)
            if (one->lines[left->first_line + j].line != other->lines[right->first_line + j].line)
                return false;
    }
    return true;
}

/* Reads the places, names them, writes the file: it must be readable and say just that. */
static void check_patch(const uint8_t *bytes, size_t num_bytes)
{
    CLEANUP(close) int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CLEANUP(pprof_patch_destroy) struct pprof_patch *patch = NULL;
    CLEANUP(pprof_patch_destroy) struct pprof_patch *again = NULL;
    CLEANUP(free) char *written = NULL;
    size_t num_written;
    char path[64];
    struct error *err = pprof_patch_open(bytes, num_bytes, "fuzz", &patch);

    if (err) {
        error_destroy(err);
        return;
    }
    if (pprof_patch_num_changed(patch) != 0)
        abort();
    give_lines(pprof_patch_table(patch));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (pprof_patch_write(patch, fd, path) ||
        file_read_all(AT_FDCWD, path, 1U << 30, &written, &num_written) ||
        pprof_patch_open(written, num_written, path, &again) ||
        !places_equal(pprof_patch_table(patch), pprof_patch_table(again)))
        abort();
}

/* The views of a heap profile, and its difference to itself. Ends what `profile` holds. */
static void check_views(const uint8_t *bytes, size_t num_bytes, struct profile *profile, FILE *sink)
{
    size_t first_base = profile->num_samples;
    struct stack_table table;
    struct profile base;
    struct heap_error *errors;
    int64_t removed;

    if (pprof_read_bytes(bytes, num_bytes, "fuzz", &table, &base))
        abort();
    if (profile_subtract(profile, &base))
        abort();
    for (size_t i = 0; i < profile->num_value_types; i++) {
        struct top_options options = {
            .order = TOP_BY_GROWTH, .is_difference = true, .first_base = first_base};

        error_destroy(top_print(profile, i, &options, sink));
        if (!heap_error_is_known(profile, i))
            continue;
        if (heap_error_compute(profile, i, &errors) ||
            heap_error_cancel(profile, first_base, errors))
            abort();
        options.errors = errors;
        error_destroy(top_print(profile, i, &options, sink));
        free(errors);
    }
    profile_remove_rest(profile, 0, &removed);
    profile_deinit(&base);
    stack_table_deinit(&table);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    CLEANUP(fclose) FILE *sink = fopen("/dev/null", "w");
    struct stack_table table;
    struct profile profile;
    struct error *err;

    check_patch(bytes, num_bytes);
    err = pprof_read_bytes(bytes, num_bytes, "fuzz", &table, &profile);
    if (err) {
        error_destroy(err);
        return 0;
    }
    for (size_t i = 0; i < profile.num_value_types; i++) {
        error_destroy(top_print(&profile, i, NULL, sink));
        error_destroy(top_print(&profile, i,
                                &(struct top_options){.order = TOP_BY_CUM, .max_rows = 2}, sink));
    }
    check_round_trip(&profile);
    check_views(bytes, num_bytes, &profile, sink);
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return 0;
}
