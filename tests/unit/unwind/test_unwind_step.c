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

    while (shadow.depth > 0 && shadow.stack_pointers[shadow.depth - 1] < sp)
        shadow.depth--; /* returned, or left by a jump that dropped the stack */
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

/* What is needed to unwind one child. */
struct stepping {
    struct stack_table table;
    struct target *target;
    struct process *process;
    struct unwinder *unwinder;
    size_t num_steps, num_wrong, max_depth;
};

static void stepping_init(struct stepping *stepping, pid_t pid)
{
    const struct unwind_options options = {.live_tail = false};

    memset(stepping, 0, sizeof(*stepping));
    shadow.depth = 0;
    assert_null(stack_table_init(&stepping->table));
    assert_null(target_create(&stepping->table, &stepping->target));
    assert_null(target_add_process(stepping->target, pid, true, &stepping->process));
    assert_null(unwind_cfi.create(&options, stepping->target, &stepping->unwinder));
}

static void stepping_deinit(struct stepping *stepping)
{
    unwind_cfi.destroy(stepping->unwinder);
    target_destroy(stepping->target);
    stack_table_deinit(&stepping->table);
}

/* Unwinds; a pc in a library that was mapped just now takes another look into maps, which the
 * target allows every 10 ms. */
static void unwind_patiently(struct stepping *stepping, const struct sample *sample,
                             struct callchain *chain)
{
    unwind_cfi.unwind(stepping->unwinder, stepping->process, sample, 0, chain);
    if (chain->stop == REASON_NO_MAPPING) {
        nanosleep(&(struct timespec){.tv_nsec = 11000000}, NULL);
        unwind_cfi.unwind(stepping->unwinder, stepping->process, sample, 0, chain);
    }
}

/* Steps the child up to max_steps instructions or to its end, comparing at each. */
static void step_all(struct stepping *stepping, pid_t pid, size_t max_steps)
{
    static struct callchain chain;
    static uint8_t stacks[2][STACK_BYTES];
    struct sample samples[2];

    assert_true(child_sample(pid, stacks[0], STACK_BYTES, &samples[0]));
    while (stepping->num_steps < max_steps && child_resume(pid, PTRACE_SINGLESTEP, 0) == SIGTRAP) {
        size_t turn = (stepping->num_steps + 1) % 2;
        struct sample *now = &samples[turn];

        assert_true(child_sample(pid, stacks[turn], STACK_BYTES, now));
        shadow_follow(&samples[1 - turn], now);
        stepping->num_steps++;
        unwind_patiently(stepping, now, &chain);
        if (!is_true(&chain) && stepping->num_wrong++ < 5)
            print_wrong(&chain, now);
        if (shadow.depth > stepping->max_depth)
            stepping->max_depth = shadow.depth;
    }
    print_message("%zu instructions, %zu wrong, %zu calls deep\n", stepping->num_steps,
                  stepping->num_wrong, stepping->max_depth);
}

static void callers_are_true_at_every_instruction(void **state)
{
    pid_t pid = child_start(run_stepped);
    struct stepping stepping;

    (void)state;
    assert_true(pid > 0);
    stepping_init(&stepping, pid);
    step_all(&stepping, pid, MAX_STEPS);
    child_end(pid);
    stepping_deinit(&stepping);
    assert_true(stepping.num_steps > 3000);
    assert_true(stepping.max_depth >= 4);
    assert_int_equal(stepping.num_wrong, 0);
}

static void run_exec(void)
{
    execl("/bin/true", "true", (char *)NULL);
}

/* From the kernel's first instruction in ld.so on: short-lived programs spend most of their life
 * there. */
static void callers_are_true_from_the_first_instruction_of_a_program(void **state)
{
    pid_t pid = child_start(run_exec);
    struct stepping stepping;

    (void)state;
    assert_true(pid > 0);
    assert_int_equal(child_resume(pid, PTRACE_CONT, 0), SIGTRAP); /* execve */
    stepping_init(&stepping, pid);
    step_all(&stepping, pid, 200000);
    child_end(pid);
    stepping_deinit(&stepping);
    assert_true(stepping.num_steps > 20000);
    /* Known: one instruction of _fini, which has no CFI, while rbp is its caller's frame pointer.
     */
    assert_true(stepping.num_wrong * 50000 <= stepping.num_steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callers_are_true_at_every_instruction),
        cmocka_unit_test(callers_are_true_from_the_first_instruction_of_a_program),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
