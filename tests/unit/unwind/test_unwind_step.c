/* Every single instruction of a child: the callers that we find must be those that really called.
 *
 * The truth is kept by watching call and ret instructions. The way leads through prologues,
 * epilogues, PLT stubs, the lazy binder (ld.so), libc's string functions and the vdso.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/unwind/stopped_child.h"

#include "unwind/unwind.h"

#define STACK_BYTES 16384
#define MAX_DEPTH 256
#define MAX_STEPS 60000

static volatile long sink;

__attribute__((noinline, noclone)) static long leaf(long a)
{
    return a * 3 + sink;
}

__attribute__((noinline, noclone)) static long with_frame(long a, long b)
{
    volatile char memory[a + 1];

    memory[a] = (char)b;
    return leaf(b) + memory[a];
}

__attribute__((noinline, noclone, force_align_arg_pointer)) static long realigned(long a)
{
    volatile long aligned[8] __attribute__((aligned(64)));

    aligned[a & 7] = leaf(a);
    return aligned[a & 7] + with_frame(5, a);
}

static int compare(const void *left, const void *right)
{
    return *(const int *)left - *(const int *)right;
}

__attribute__((noinline, noclone)) static void stepped(void)
{
    int numbers[6] = {5, 1, 4, 2, 6, 3};
    struct timespec now;
    char text[64];

    sink += with_frame(40, 7) + realigned(3);
    clock_gettime(CLOCK_MONOTONIC, &now);
    sink += now.tv_nsec;
    qsort(numbers, 6, sizeof(numbers[0]), compare);
    snprintf(text, sizeof(text), "%d %s %.3f", numbers[2], "text", 1.5);
    sink += strverscmp(text, "5 t"); /* bound here, lazily */
    free(malloc(77));
}

static void run_stepped(void)
{
    stepped();
    _exit(0);
}

/* Return addresses of the calls we are in, since the stepping began. */
static struct {
    uint64_t return_addresses[MAX_DEPTH];
    uint64_t stack_pointers[MAX_DEPTH]; /* where each return address lies */
    size_t depth;
} shadow;

static uint64_t first_word(const struct sample *sample)
{
    uint64_t word = 0;

    memcpy(&word, sample->stack, sizeof(word));
    return word;
}

/* Follows what the last instruction did. */
static void shadow_follow(const struct sample *before, const struct sample *now)
{
    uint64_t old_pc = before->regs[SAMPLE_REG_IP], pc = now->regs[SAMPLE_REG_IP];
    uint64_t old_sp = before->regs[SAMPLE_REG_SP], sp = now->regs[SAMPLE_REG_SP];

    if (shadow.depth > 0 && sp == shadow.stack_pointers[shadow.depth - 1] + 8 &&
        pc == shadow.return_addresses[shadow.depth - 1]) {
        shadow.depth--;
        return;
    }
    if (sp == old_sp - 8 && first_word(now) - old_pc <= 15 && first_word(now) > old_pc &&
        pc != first_word(now) && shadow.depth < MAX_DEPTH &&
        (pc < old_pc || pc - old_pc > 15 || pc != old_pc + (first_word(now) - old_pc))) {
        shadow.return_addresses[shadow.depth] = first_word(now);
        shadow.stack_pointers[shadow.depth++] = sp;
    }
}

/* Tells whether the chain's callers are those of the shadow, innermost first. */
static bool is_true(const struct callchain *chain)
{
    if (chain->stop != REASON_NONE || chain->num_frames < shadow.depth + 1)
        return false;
    for (size_t i = 0; i < shadow.depth; i++)
        if (chain->frames[i + 1].pc != shadow.return_addresses[shadow.depth - 1 - i] - 1)
            return false;
    return true;
}

static void print_wrong(const struct callchain *chain, const struct sample *sample)
{
    print_message("at %lx sp %lx: %u frames, %s\n", sample->pc, sample->regs[SAMPLE_REG_SP],
                  chain->num_frames, frame_reason_name(chain->stop));
    for (size_t i = 0; i < 6 && i < chain->num_frames; i++)
        print_message("   ours %12lx truth %12lx\n", chain->frames[i].pc,
                      i > 0 && i <= shadow.depth ? shadow.return_addresses[shadow.depth - i] : 0);
}

static void callers_are_true_at_every_instruction(void **state)
{
    const struct unwind_options options = {.live_tail = false};
    static struct callchain chain;
    static uint8_t stacks[2][STACK_BYTES];
    struct sample samples[2];
    struct stack_table table;
    struct target *target;
    struct process *process;
    struct unwinder *unwinder;
    size_t num_steps = 0, num_wrong = 0, max_depth = 0;
    pid_t pid = child_start(run_stepped);

    (void)state;
    assert_true(pid > 0);
    assert_null(stack_table_init(&table));
    assert_null(target_create(&table, &target));
    assert_null(target_add_process(target, pid, true, &process));
    assert_null(unwind_cfi.create(&options, target, &unwinder));
    assert_true(child_sample(pid, stacks[0], STACK_BYTES, &samples[0]));
    while (num_steps < MAX_STEPS && child_resume(pid, PTRACE_SINGLESTEP, 0) == SIGTRAP) {
        struct sample *now = &samples[(num_steps + 1) % 2];

        assert_true(child_sample(pid, stacks[(num_steps + 1) % 2], STACK_BYTES, now));
        shadow_follow(&samples[num_steps % 2], now);
        num_steps++;
        unwind_cfi.unwind(unwinder, process, now, 0, &chain);
        if (!is_true(&chain) && num_wrong++ < 5)
            print_wrong(&chain, now);
        max_depth = shadow.depth > max_depth ? shadow.depth : max_depth;
    }
    child_end(pid);
    print_message("%zu instructions, %zu wrong, %zu calls deep\n", num_steps, num_wrong, max_depth);
    unwind_cfi.destroy(unwinder);
    target_destroy(target);
    stack_table_deinit(&table);
    assert_true(num_steps > 3000);
    assert_true(max_depth >= 4);
    assert_int_equal(num_wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callers_are_true_at_every_instruction),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
