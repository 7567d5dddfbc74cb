/* Runs a command, samples it as `cprofiler record` does, and unwinds every sample by our engine and
 * by libunwind, over the same bytes and mappings; where the two differ, libdw is asked as well (Go
 * has only .debug_frame, which libunwind does not read; it stops in PLT entries, too). Tells how
 * many chains are equal to one of them, and prints the first that are not.
 *
 * Usage: compare_unwind [-F HZ] [-n SAMPLES] [-v SHOWN] [-c BYTES] [-o RESULT.json] -- COMMAND...
 * The command is killed when enough samples were taken. -c: ours gets only the first BYTES of each
 * stack, and completes it by frames remembered from the whole of earlier ones
 * (unwind/frame_memory.h).
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/accuracy/witness.h"

#include "sampler/sampler.h"
#include "target/launch.h"
#include "unwind/unwind.h"

/* What came of a sample. Each class is one reason why two right unwinders may differ. */
enum outcome {
    EQUAL,       /* both say the same, to the thread's entry */
    EQUAL_CUT,   /* the same up to where the copy of the stack ends; ours says [truncated] */
    PAST_ROOT,   /* the same to the thread's entry, where the witness goes on to no code at all */
    SIGNAL,      /* the same to a signal trampoline without CFI (Go's), where the witness ends */
    JIT,         /* generated code in the chain: a witness has no rules for it */
    NO_CFI,      /* they part at code in a file without CFI (V8's builtins): the witness guesses */
    POPPED,      /* the witness stopped for a register that the epilogue has popped (see is_popped()
                  * of unwind/cfi.c): gcc's CFI still says that it is saved, now below the copy */
    NO_MAPPING,  /* no mapping holds the pc (execve under way): nothing to compare */
    WITNESS_CUT, /* the witness stopped early; ours goes on from there to the thread's entry */
    DIFFERENT,
    NUM_OUTCOMES
};

static const char *const outcome_names[NUM_OUTCOMES] = {
    "equal",  "equal_cut", "past_root",  "signal",      "jit",
    "no_cfi", "popped",    "no_mapping", "witness_cut", "different"};

struct comparison {
    struct stack_table table;
    struct target *target;
    struct unwinder *unwinder;
    struct witness witness;
    struct witness_chain witness_chain;
    struct callchain chain;
    size_t max_samples, max_shown;
    size_t cut_bytes; /* 0: ours gets the whole copy */
    size_t num_samples, num_shown;
    size_t counts[NUM_OUTCOMES];
    size_t stops[REASON_NUM];
};

static void fail(struct error *err)
{
    if (!err)
        return;
    fprintf(stderr, "compare_unwind: %s (%s)\n", err->message, err->hint ? err->hint : "");
    exit(2);
}

static uint64_t profile_pc(const struct process *process, uint64_t pc)
{
    const struct vma *vma = maps_find(process->maps, pc);

    return vma ? vma_profile_pc(vma, pc) : pc;
}

/* Tells whether a frame of ours, user part, lies in memory that no file backs. */
static bool is_generated(struct comparison *comparison, const struct frame_key *frame)
{
    const struct mapping *mapping = stack_table_mapping(&comparison->table, frame->mapping);

    return mapping && mapping->kind == MAPPING_ANON;
}

/* Tells whether the frame where the witness stopped is a trampoline that it took for a call. */
static bool ends_at_trampoline(const struct callchain *ours, const struct witness_chain *other,
                               size_t num_same, const struct process *process)
{
    uint64_t pc = num_same < other->num_frames ? other->pcs[num_same] + 1 : 0, code;

    return num_same + 1 == other->num_frames && num_same < ours->num_frames &&
           ours->frames[num_same].pc == profile_pc(process, pc) &&
           witness_read_module(maps_find(process->maps, pc), pc, &code) &&
           memcmp(&code, "\x48\xc7\xc0\x0f\0\0\0\x0f", 8) == 0; /* mov $15,%rax; syscall */
}

static enum outcome compare(struct comparison *comparison, const struct process *process)
{
    const struct callchain *ours = &comparison->chain;
    const struct witness_chain *other = &comparison->witness_chain;
    size_t num_ours = ours->num_frames - (ours->stop != REASON_NONE), num_same = 0;

    if (ours->stop == REASON_NO_MAPPING && num_ours == 0)
        return NO_MAPPING;
    while (num_same < num_ours && num_same < other->num_frames &&
           ours->frames[num_same].pc == profile_pc(process, other->pcs[num_same]))
        num_same++;
    if (ours->stop == REASON_NONE && num_same == num_ours && num_same == other->num_frames)
        return EQUAL;
    if (ours->stop == REASON_NONE && num_same == num_ours && num_same + 1 == other->num_frames &&
        !maps_find(process->maps, other->pcs[num_same]))
        return PAST_ROOT;
    if (ends_at_trampoline(ours, other, num_same, process))
        return SIGNAL;
    for (size_t i = 0; i < num_ours; i++)
        if (is_generated(comparison, &ours->frames[i]))
            return JIT;
    if (ours->stop == REASON_JIT)
        return JIT;
    if (ours->stop == REASON_TRUNCATED && num_same == num_ours)
        return EQUAL_CUT;
    if (num_same > 0 && !witness_has_cfi(&comparison->witness, other->pcs[num_same - 1]))
        return NO_CFI;
    if (ours->stop == REASON_NONE && num_same == other->num_frames)
        return comparison->witness.has_missed_below ? POPPED : WITNESS_CUT;
    return DIFFERENT;
}

static void print_frame(const struct process *process, const char *who, size_t number, uint64_t pc)
{
    const struct vma *vma = maps_find(process->maps, pc);

    fprintf(stderr, "  %s %3zu %#14lx %s+%#lx\n", who, number, pc,
            vma && vma->module ? vma->module->path
            : vma              ? "anonymous"
                               : "?",
            vma && vma->has_bias ? vma_elf_addr(vma, pc) : 0);
}

/* Prints the frames of both from two before the first difference on. */
static void show(const struct comparison *comparison, const struct process *process,
                 enum outcome outcome)
{
    const struct callchain *ours = &comparison->chain;
    const struct witness_chain *other = &comparison->witness_chain;
    size_t first = 0;

    while (first < ours->num_frames && first < other->num_frames &&
           ours->frames[first].pc == profile_pc(process, other->pcs[first]))
        first++;
    fprintf(stderr, "%s: ours %u frames %s, witness %zu, first difference at %zu\n",
            outcome_names[outcome], ours->num_frames,
            frame_reason_name((enum frame_reason)ours->stop), other->num_frames, first);
    first = first > 2 ? first - 2 : 0;
    for (size_t i = first; i < ours->num_frames && i < first + 8; i++)
        print_frame(process, ours->frames[i].reason ? "reason" : "ours  ", i, ours->frames[i].pc);
    for (size_t i = first; i < other->num_frames && i < first + 8; i++)
        print_frame(process, "witness", i, other->pcs[i]);
}

static void handle_sample(struct comparison *comparison, const struct sample *sample)
{
    struct process *process = target_find(comparison->target, sample->pid);
    struct sample user = *sample;
    enum outcome outcome;

    if (!process || !process->maps || !sample->has_user_regs || sample->is_32bit ||
        comparison->num_samples == comparison->max_samples)
        return;
    user.num_kernel_pcs = 0;
    if (comparison->cut_bytes && comparison->cut_bytes < user.stack_bytes)
        user.stack_bytes = comparison->cut_bytes;
    unwind_cfi.unwind(comparison->unwinder, process, &user, 0, &comparison->chain);
    user.stack_bytes = sample->stack_bytes;
    witness_unwind(&comparison->witness, false, process, &user, &comparison->witness_chain);
    outcome = compare(comparison, process);
    if (outcome > NO_MAPPING) {
        witness_unwind(&comparison->witness, true, process, &user, &comparison->witness_chain);
        outcome = compare(comparison, process);
    }
    comparison->num_samples++;
    comparison->counts[outcome]++;
    comparison->stops[comparison->chain.stop]++;
    if (outcome >= WITNESS_CUT && comparison->num_shown < comparison->max_shown) {
        comparison->num_shown++;
        show(comparison, process, outcome);
    }
    if (comparison->cut_bytes) /* as a live tail would: now it has seen the whole stack */
        unwind_cfi.unwind(comparison->unwinder, process, &user, 0, &comparison->chain);
}

static void handle_event(void *context, const struct event *event)
{
    struct comparison *comparison = (struct comparison *)context;

    if (event->type == EVENT_SAMPLE)
        handle_sample(comparison, event->sample);
    else
        fail(target_handle_event(comparison->target, event));
}

static void run(struct comparison *comparison, uint32_t hz, char **argv)
{
    const struct sampler_options options = {
        .hz = hz,
        .stack_bytes = comparison->cut_bytes ? 65528 : SAMPLER_DEFAULT_STACK_BYTES,
        .kernel = true,
        .follow_children = true,
        .enable_on_exec = true,
    };
    const struct sampler_ops *ops = &sampler_cpu_wide;
    struct launch *launch = NULL;
    struct sampler *sampler = NULL;
    struct error *err = NULL;
    size_t num_samples;
    int status = 0;
    pid_t pid;

    fail(launch_start(argv, &launch));
    pid = launch_pid(launch);
    fail(target_add_launched(comparison->target, pid));
    err = ops->open(&options, &sampler);
    if (err) {
        error_destroy(err);
        ops = &sampler_per_task;
        fail(ops->open(&options, &sampler));
    }
    fail(ops->attach(sampler, pid, pid));
    fail(ops->start(sampler));
    fail(launch_go(launch));
    while (!launch_wait(launch, false, &status, NULL)) {
        struct pollfd poll_fd = {.fd = ops->wait_fd(sampler), .events = POLLIN};

        poll(&poll_fd, 1, 50);
        fail(ops->drain(sampler, false, handle_event, comparison, &num_samples));
        if (comparison->num_samples == comparison->max_samples)
            kill(pid, SIGKILL); /* our own child, not waited for yet */
    }
    ops->stop(sampler);
    fail(ops->drain(sampler, true, handle_event, comparison, &num_samples));
    ops->destroy(sampler);
    launch_destroy(launch);
}

static void write_result(const struct comparison *comparison, const char *path)
{
    struct unwind_stats stats;
    FILE *file = path ? fopen(path, "we") : stdout;

    if (!file) {
        perror(path);
        exit(2);
    }
    unwind_cfi.stats(comparison->unwinder, &stats);
    fprintf(file, "{\"samples\": %zu, \"recalled\": %lu", comparison->num_samples,
            stats.num_tails_recalled);
    for (int i = 0; i < NUM_OUTCOMES; i++)
        fprintf(file, ", \"%s\": %zu", outcome_names[i], comparison->counts[i]);
    fprintf(file, ", \"stops\": {\"complete\": %zu", comparison->stops[REASON_NONE]);
    for (int i = 1; i < REASON_NUM; i++)
        if (comparison->stops[i])
            fprintf(file, ", \"%s\": %zu", frame_reason_name((enum frame_reason)i),
                    comparison->stops[i]);
    fprintf(file, "}}\n");
    if (path)
        fclose(file);
}

int main(int argc, char **argv)
{
    static struct comparison comparison = {.max_samples = 1000, .max_shown = 5};
    struct unwind_options options = {.live_tail = false};
    const char *path = NULL;
    uint32_t hz = 1999;
    int option;

    launch_remember();
    while ((option = getopt(argc, argv, "+F:n:v:c:o:")) != -1) {
        if (option == 'F')
            hz = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 'n')
            comparison.max_samples = strtoul(optarg, NULL, 10);
        else if (option == 'v')
            comparison.max_shown = strtoul(optarg, NULL, 10);
        else if (option == 'c')
            comparison.cut_bytes = strtoul(optarg, NULL, 10);
        else if (option == 'o')
            path = optarg;
        else
            return 2;
    }
    if (optind == argc)
        return 2;
    options.remember_frames = comparison.cut_bytes != 0;
    fail(stack_table_init(&comparison.table));
    fail(target_create(&comparison.table, &comparison.target));
    fail(unwind_cfi.create(&options, comparison.target, &comparison.unwinder));
    run(&comparison, hz, argv + optind);
    write_result(&comparison, path);
    unwind_cfi.destroy(comparison.unwinder);
    dwfl_end(comparison.witness.dwfl);
    if (comparison.witness.space)
        unw_destroy_addr_space(comparison.witness.space);
    target_destroy(comparison.target);
    stack_table_deinit(&comparison.table);
    return 0;
}
