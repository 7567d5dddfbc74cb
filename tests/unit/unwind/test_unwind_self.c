/* Stacks of this process under a mixed load: ours against libgcc's, frame by frame. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/unwind/self_samples.h"

#include "unwind/unwind.h"

#define NUM_SAMPLES 3000

static struct stack_table strings;
static struct target *target;
static struct process *self_process;
static struct self_sample *samples;

static int setup(void **state)
{
    (void)state;
    samples = self_record(NUM_SAMPLES, 400);
    if (!samples || stack_table_init(&strings) || target_create(&strings, &target) ||
        target_add_process(target, getpid(), true, &self_process))
        return -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    target_destroy(target);
    stack_table_deinit(&strings);
    return 0;
}

/* Tells whether a frame is the one that libgcc saw: at its return address, or one byte before. */
static bool is_same_chain(const struct callchain *chain, const struct self_sample *sample)
{
    if (chain->num_frames != sample->num_truth || chain->stop != REASON_NONE)
        return false;
    for (uint32_t i = 0; i < chain->num_frames; i++) {
        uint64_t distance = sample->truth[i] - chain->frames[i].pc;

        if (chain->frames[i].reason != REASON_NONE || distance > 1 || (i == 0 && distance != 0))
            return false;
    }
    return true;
}

static void print_difference(const struct callchain *chain, const struct self_sample *sample)
{
    for (uint32_t i = 0; i < chain->num_frames || i < sample->num_truth; i++)
        print_message("  %2u ours %12lx %-20s libgcc %12lx\n", i,
                      i < chain->num_frames ? chain->frames[i].pc : 0,
                      i < chain->num_frames ? frame_reason_name(chain->frames[i].reason) : "",
                      i < sample->num_truth ? sample->truth[i] : 0);
}

static void chains_equal_libgcc(void **state)
{
    const struct unwind_options options = {.live_tail = false};
    static struct callchain chain;
    struct unwinder *unwinder;
    struct unwind_stats stats;
    size_t num_equal = 0, num_printed = 0, num_frames = 0;

    (void)state;
    assert_null(unwind_cfi.create(&options, target, &unwinder));
    for (size_t i = 0; i < NUM_SAMPLES; i++) {
        unwind_cfi.unwind(unwinder, self_process, &samples[i].sample, 0, &chain);
        num_frames += chain.num_frames;
        if (is_same_chain(&chain, &samples[i]))
            num_equal++;
        else if (num_printed++ < 4)
            print_difference(&chain, &samples[i]);
    }
    unwind_cfi.stats(unwinder, &stats);
    print_message("%zu of %d chains equal, %.1f frames each, cache hits %.1f %%\n", num_equal,
                  NUM_SAMPLES, (double)num_frames / NUM_SAMPLES,
                  100.0 * (double)stats.num_cache_hits /
                      (double)(stats.num_cache_hits + stats.num_cache_misses));
    unwind_cfi.destroy(unwinder);
    assert_true(num_equal * 1000 >= (size_t)NUM_SAMPLES * 995);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_equal_libgcc),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
