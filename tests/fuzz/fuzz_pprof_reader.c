/* Any bytes as a pprof file: read it, print its table, write it, and read what was written. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "output/pprof_reader.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    CLEANUP(fclose) FILE *sink = fopen("/dev/null", "w");
    struct stack_table table;
    struct profile profile;
    struct error *err = pprof_read_bytes(bytes, num_bytes, "fuzz", &table, &profile);

    if (err) {
        error_destroy(err);
        return 0;
    }
    for (size_t i = 0; i < profile.num_value_types; i++) {
        error_destroy(top_print(&profile, i, TOP_BY_FLAT, 0, sink));
        error_destroy(top_print(&profile, i, TOP_BY_CUM, 2, sink));
    }
    check_round_trip(&profile);
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return 0;
}
