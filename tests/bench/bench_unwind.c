/* Unwinding the same recorded samples with our engine, libdw's frame walker and libunwind.
 *
 * Samples are of this process under the mixed load of self_samples.h. All three read the recorded
 * registers and stack bytes. Rounds are interleaved; figures are medians over the rounds.
 * Prints a table; with an argument, writes a JSON object there, too. Links -lunwind
 * -lunwind-x86_64.
 */
#include <elfutils/libdwfl.h>
#include <libunwind.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/unit/unwind/self_samples.h"

#include "unwind/unwind.h"

#define NUM_SAMPLES 400
#define NUM_ROUNDS 15
#define MAX_RANGES 512

struct result {
    const char *name;
    double stack_ns[NUM_ROUNDS];
    size_t num_frames; /* of the last round */
    size_t num_equal;  /* chains as long as libgcc's */
};

static struct self_sample *samples;
static struct target *target;
static struct process *self_process;

/* CPU time: a busy machine counts for nobody. */
static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void note_round(struct result *result, int round, uint64_t start_ns)
{
    result->stack_ns[round] = (double)(now_ns() - start_ns) / NUM_SAMPLES;
}

/* ---- ours ---- */

static void run_ours(struct unwinder *unwinder, struct result *result, int round)
{
    static struct callchain chain;
    uint64_t start = now_ns();

    result->num_frames = result->num_equal = 0;
    for (size_t i = 0; i < NUM_SAMPLES; i++) {
        unwind_cfi.unwind(unwinder, self_process, &samples[i].sample, 0, &chain);
        result->num_frames += chain.num_frames;
        result->num_equal += chain.num_frames == samples[i].num_truth;
    }
    note_round(result, round, start);
}

/* ---- what of this process can be read, sorted ---- */

static struct {
    uint64_t start, limit;
} ranges[MAX_RANGES];
static size_t num_ranges;

static void read_ranges(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    char mode;

    while (maps && num_ranges < MAX_RANGES && fgets(line, sizeof(line), maps))
        if (sscanf(line, "%lx-%lx %c", &ranges[num_ranges].start, &ranges[num_ranges].limit,
                   &mode) == 3 &&
            mode == 'r')
            num_ranges++;
    if (maps)
        fclose(maps);
}

static bool is_readable(uint64_t addr)
{
    size_t low = 0, high = num_ranges;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (addr < ranges[middle].start)
            high = middle;
        else if (addr >= ranges[middle].limit)
            low = middle + 1;
        else
            return ranges[middle].limit - addr >= 8;
    }
    return false;
}

/* ---- libunwind: own accessors over the recorded bytes, its global cache ---- */

static int lu_access_mem(unw_addr_space_t space, unw_word_t addr, unw_word_t *value, int is_write,
                         void *argument)
{
    const struct self_sample *sample = (const struct self_sample *)argument;
    uint64_t offset = addr - sample->sample.regs[SAMPLE_REG_SP];

    (void)space;
    if (is_write)
        return -UNW_EINVAL;
    if (offset < sample->sample.stack_bytes && sample->sample.stack_bytes - offset >= 8)
        memcpy(value, sample->stack + offset, 8);
    else if (!is_readable(addr))
        return -UNW_EINVAL;
    else
        *value = *(const uint64_t *)addr; /* text and CFI: this very process */
    return 0;
}

static int lu_access_reg(unw_addr_space_t space, unw_regnum_t reg, unw_word_t *value, int is_write,
                         void *argument)
{
    const struct self_sample *sample = (const struct self_sample *)argument;

    (void)space;
    if (is_write || reg < 0 || reg >= SAMPLE_NUM_REGS)
        return -UNW_EBADREG;
    *value = sample->sample.regs[reg]; /* libunwind numbers registers as DWARF does */
    return 0;
}

static int lu_access_fpreg(unw_addr_space_t space, unw_regnum_t reg, unw_fpreg_t *value,
                           int is_write, void *argument)
{
    (void)space;
    (void)reg;
    (void)value;
    (void)is_write;
    (void)argument;
    return -UNW_EBADREG;
}

static int lu_find_proc_info(unw_addr_space_t space, unw_word_t ip, unw_proc_info_t *info,
                             int need_unwind, void *argument)
{
    unw_accessors_t *local = unw_get_accessors(unw_local_addr_space);

    return local->find_proc_info(space, ip, info, need_unwind, argument);
}

static void lu_put_unwind_info(unw_addr_space_t space, unw_proc_info_t *info, void *argument)
{
    unw_get_accessors(unw_local_addr_space)->put_unwind_info(space, info, argument);
}

static int lu_no_dynamic_info(unw_addr_space_t space, unw_word_t *addr, void *argument)
{
    (void)space;
    (void)addr;
    (void)argument;
    return -UNW_ENOINFO;
}

static void run_libunwind(unw_addr_space_t space, struct result *result, int round)
{
    uint64_t start = now_ns();

    result->num_frames = result->num_equal = 0;
    for (size_t i = 0; i < NUM_SAMPLES; i++) {
        unw_cursor_t cursor;
        size_t num_frames = 0;

        if (unw_init_remote(&cursor, space, &samples[i]) != 0)
            continue;
        do {
            unw_word_t ip = 0;

            unw_get_reg(&cursor, UNW_REG_IP, &ip);
            self_sink += ip;
            num_frames++;
        } while (num_frames < SELF_MAX_FRAMES && unw_step(&cursor) > 0);
        result->num_frames += num_frames;
        result->num_equal += num_frames == samples[i].num_truth;
    }
    note_round(result, round, start);
}

/* ---- libdw: one Dwfl of this process, kept ---- */

static struct self_sample *dw_sample;

static pid_t dw_next_thread(Dwfl *dwfl, void *argument, void **thread_argument)
{
    (void)dwfl;
    (void)argument;
    if (*thread_argument)
        return 0;
    *thread_argument = &dw_sample;
    return getpid();
}

static bool dw_get_thread(Dwfl *dwfl, pid_t tid, void *argument, void **thread_argument)
{
    (void)dwfl;
    (void)tid;
    (void)argument;
    *thread_argument = &dw_sample;
    return true;
}

static bool dw_memory_read(Dwfl *dwfl, Dwarf_Addr addr, Dwarf_Word *value, void *argument)
{
    uint64_t offset = addr - dw_sample->sample.regs[SAMPLE_REG_SP];

    (void)dwfl;
    (void)argument;
    if (offset >= dw_sample->sample.stack_bytes || dw_sample->sample.stack_bytes - offset < 8)
        return false;
    memcpy(value, dw_sample->stack + offset, 8);
    return true;
}

static bool dw_set_registers(Dwfl_Thread *thread, void *argument)
{
    (void)argument;
    return dwfl_thread_state_registers(thread, 0, SAMPLE_NUM_REGS, dw_sample->sample.regs);
}

static int dw_visit_frame(Dwfl_Frame *frame, void *argument)
{
    size_t *num_frames = (size_t *)argument;
    Dwarf_Addr pc;

    if (dwfl_frame_pc(frame, &pc, NULL))
        self_sink += pc;
    return ++*num_frames < SELF_MAX_FRAMES ? DWARF_CB_OK : DWARF_CB_ABORT;
}

static Dwfl *dw_open(void)
{
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
                                             .find_debuginfo = dwfl_standard_find_debuginfo};
    static const Dwfl_Thread_Callbacks thread_callbacks = {.next_thread = dw_next_thread,
                                                           .get_thread = dw_get_thread,
                                                           .memory_read = dw_memory_read,
                                                           .set_initial_registers =
                                                               dw_set_registers};
    Dwfl *dwfl = dwfl_begin(&callbacks);

    if (!dwfl || dwfl_linux_proc_report(dwfl, getpid()) != 0 ||
        dwfl_report_end(dwfl, NULL, NULL) != 0 ||
        !dwfl_attach_state(dwfl, NULL, getpid(), &thread_callbacks, NULL))
        fprintf(stderr, "bench_unwind: libdwfl: %s\n", dwfl_errmsg(-1));
    return dwfl;
}

static void run_libdw(Dwfl *dwfl, struct result *result, int round)
{
    uint64_t start = now_ns();

    result->num_frames = result->num_equal = 0;
    for (size_t i = 0; i < NUM_SAMPLES; i++) {
        size_t num_frames = 0;

        dw_sample = &samples[i];
        dwfl_getthread_frames(dwfl, getpid(), dw_visit_frame, &num_frames);
        result->num_frames += num_frames;
        result->num_equal += num_frames == samples[i].num_truth;
    }
    note_round(result, round, start);
}

/* ---- the answer ---- */

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static double median(const struct result *result)
{
    double sorted[NUM_ROUNDS];

    memcpy(sorted, result->stack_ns, sizeof(sorted));
    qsort(sorted, NUM_ROUNDS, sizeof(sorted[0]), compare_doubles);
    return sorted[NUM_ROUNDS / 2];
}

static void print_result(const struct result *result, const struct result *ours)
{
    double stack_ns = median(result);

    printf(
        "%-28s %9.0f ns/stack %7.0f ns/frame %6.1fx  %5.1f frames, %5.1f %% as long as libgcc's\n",
        result->name, stack_ns, stack_ns * NUM_SAMPLES / (double)result->num_frames,
        stack_ns / median(ours), (double)result->num_frames / NUM_SAMPLES,
        100.0 * (double)result->num_equal / NUM_SAMPLES);
}

static void write_json(const char *path, const struct result *results, size_t num_results,
                       double hit_share)
{
    FILE *file = fopen(path, "we");

    if (!file)
        return;
    fprintf(file,
            "{\"bench\": \"unwind\", \"samples\": %d, \"cache_hit_share\": %.4f, \"results\": [",
            NUM_SAMPLES, hit_share);
    for (size_t i = 0; i < num_results; i++)
        fprintf(file,
                "%s{\"name\": \"%s\", \"stack_ns\": %.1f, \"frame_ns\": %.2f, \"ratio\": %.2f}",
                i ? ", " : "", results[i].name, median(&results[i]),
                median(&results[i]) * NUM_SAMPLES / (double)results[i].num_frames,
                median(&results[i]) / median(&results[0]));
    fprintf(file, "]}\n");
    fclose(file);
}

int main(int argc, char **argv)
{
    const struct unwind_options options = {.live_tail = false};
    struct result results[] = {{.name = "cprofiler, warm cache"},
                               {.name = "cprofiler, new unwinder"},
                               {.name = "libdw, one Dwfl kept"},
                               {.name = "libunwind, global cache"}};
    unw_accessors_t accessors = {.find_proc_info = lu_find_proc_info,
                                 .put_unwind_info = lu_put_unwind_info,
                                 .get_dyn_info_list_addr = lu_no_dynamic_info,
                                 .access_mem = lu_access_mem,
                                 .access_reg = lu_access_reg,
                                 .access_fpreg = lu_access_fpreg};
    unw_addr_space_t space = unw_create_addr_space(&accessors, 0);
    Dwfl *dwfl = dw_open();
    struct stack_table table;
    struct unwinder *warm, *cold;
    struct unwind_stats stats;
    double hit_share;

    samples = self_record(NUM_SAMPLES, 500);
    read_ranges();
    unw_set_caching_policy(space, UNW_CACHE_GLOBAL);
    if (!samples || !dwfl || stack_table_init(&table) || target_create(&table, &target) ||
        target_add_process(target, getpid(), true, &self_process) ||
        unwind_cfi.create(&options, target, &warm))
        return 1;
    run_ours(warm, &results[0], 0);
    for (int round = 0; round < NUM_ROUNDS; round++) {
        run_ours(warm, &results[0], round);
        if (unwind_cfi.create(&options, target, &cold))
            return 1;
        run_ours(cold, &results[1], round);
        unwind_cfi.stats(cold, &stats);
        unwind_cfi.destroy(cold);
        run_libdw(dwfl, &results[2], round);
        run_libunwind(space, &results[3], round);
    }
    hit_share =
        (double)stats.num_cache_hits / (double)(stats.num_cache_hits + stats.num_cache_misses);
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
        print_result(&results[i], &results[0]);
    printf("cache hits of a new unwinder over %d samples: %.1f %%\n", NUM_SAMPLES, 100 * hit_share);
    if (argc > 1)
        write_json(argv[1], results, sizeof(results) / sizeof(results[0]), hit_share);
    unwind_cfi.destroy(warm);
    target_destroy(target);
    stack_table_deinit(&table);
    dwfl_end(dwfl);
    unw_destroy_addr_space(space);
    return 0;
}
