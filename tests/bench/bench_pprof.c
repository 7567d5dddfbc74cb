/* Time, size and memory of writing and reading a big profile: SAMPLES stacks of FRAMES frames each.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "output/pprof_reader.h"
#include "output/top.h"
#include "output/writer.h"

#define NUM_FUNCTIONS 3000
#define NUM_LOCATIONS 20000
#define PERIOD_NS 10000000
#define NS_PER_MS 1000000.0

static void check(struct error *err)
{
    if (!err)
        return;
    fprintf(stderr, "bench_pprof: %s\n", err->message ? err->message : "out of memory");
    exit(1);
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return *state >> 33;
}

/* Fills the dictionary: locations of 3000 functions in one mapping. */
static void add_locations(struct stack_table *table)
{
    struct mapping mapping = {.start = 0x400000, .limit = 0x4000000, .is_main = true};
    uint32_t mapping_id;

    check(string_table_add(&table->strings, "/usr/bin/app", &mapping.path));
    check(stack_table_add_mapping(table, &mapping, &mapping_id));
    for (uint32_t i = 0; i < NUM_LOCATIONS; i++) {
        struct frame_key key = {.pc = 0x400000 + 16 * (uint64_t)i, .mapping = mapping_id};
        struct function function = {.start_line = i % NUM_FUNCTIONS};
        struct line line = {.line = i};
        uint32_t location;

        check(string_table_addf(&table->strings, &function.name, "module::function_%u",
                                i % NUM_FUNCTIONS));
        check(string_table_addf(&table->strings, &function.system_name, "_ZN6module13function_%uEv",
                                i % NUM_FUNCTIONS));
        check(string_table_addf(&table->strings, &function.filename, "/src/file%u.cc", i % 100));
        check(stack_table_add_function(table, &function, &line.function));
        check(stack_table_add_location(table, &key, &location));
        check(stack_table_set_lines(table, location, &line, 1));
    }
}

/* Adds stacks that share their roots, as real ones do. */
static void add_samples(struct profile *profile, unsigned long num_samples,
                        unsigned long num_frames)
{
    uint32_t *stack = calloc(num_frames, sizeof(*stack));
    uint64_t state = 41;

    for (unsigned long i = 0; stack && i < num_samples; i++) {
        unsigned long num_new = 1 + next_random(&state) % (num_frames / 2 + 1);
        int64_t values[2] = {1 + (int64_t)(i % 3), (1 + (int64_t)(i % 3)) * PERIOD_NS};
        uint32_t stack_id;

        for (unsigned long j = 0; j < num_frames; j++)
            if (i == 0 || j < num_new)
                stack[j] = (uint32_t)(next_random(&state) % NUM_LOCATIONS);
        check(stack_table_intern_locations(profile->table, stack, num_frames, &stack_id));
        check(profile_add(profile, stack_id, 0, values));
    }
    free(stack);
}

static long peak_kb(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

int main(int argc, char **argv)
{
    unsigned long num_samples = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    unsigned long num_frames = argc > 2 ? strtoul(argv[2], NULL, 10) : 30;
    const char *path = argc > 3 ? argv[3] : "bench.pprof";
    CLEANUP(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CLEANUP(fclose) FILE *sink = fopen("/dev/null", "w");
    struct stack_table table;
    struct stack_table table_again;
    struct profile profile;
    struct profile again;
    struct stat status;
    uint64_t start_ns;

    if (fd < 0 || !sink)
        return 1;
    check(stack_table_init(&table));
    check(profile_init_cpu(&profile, &table, PERIOD_NS));
    add_locations(&table);
    add_samples(&profile, num_samples, num_frames);
    printf("%zu samples of %lu frames; peak before writing %ld kB\n", profile.num_samples,
           num_frames, peak_kb());
    start_ns = clock_monotonic_ns();
    check(writer_pprof.write(&profile, fd, path));
    fstat(fd, &status);
    printf("write  %8.1f ms, %lld bytes, peak %ld kB\n",
           (double)(clock_monotonic_ns() - start_ns) / NS_PER_MS, (long long)status.st_size,
           peak_kb());
    start_ns = clock_monotonic_ns();
    check(pprof_read_file(path, &table_again, &again));
    printf("read   %8.1f ms, peak %ld kB\n", (double)(clock_monotonic_ns() - start_ns) / NS_PER_MS,
           peak_kb());
    start_ns = clock_monotonic_ns();
    check(top_print(&again, 1, NULL, sink));
    printf("top    %8.1f ms, peak %ld kB\n", (double)(clock_monotonic_ns() - start_ns) / NS_PER_MS,
           peak_kb());
    profile_deinit(&again);
    stack_table_deinit(&table_again);
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return 0;
}
