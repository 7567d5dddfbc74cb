/* Where a walk ends and what it says then: live tails, cut copies, other stacks, hostile stacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/unwind/stopped_child.h"

#include "unwind/unwind.h"

#define STACK_BYTES 8192
#define RECURSION 3000

struct fixture {
    struct stack_table table;
    struct target *target;
    struct process *process;
    pid_t pid;
    struct sample sample;
    struct callchain chain;
    uint8_t stack[STACK_BYTES];
};

static struct fixture fixture;
static volatile long sink;

/* ---- children ---- */

__attribute__((noinline, noclone)) static long recurse(long depth)
{
    volatile long memory[8] = {depth};

    if (depth == 0)
        raise(SIGSTOP);
    else
        sink += recurse(depth - 1);
    return memory[0] + sink;
}

static void run_deep(void)
{
    recurse(RECURSION);
}

static void run_too_deep(void)
{
    recurse(CALLCHAIN_MAX_USER_FRAMES + 100);
}

static void on_signal(int signal_number)
{
    sink += signal_number;
    raise(SIGSTOP);
}

__attribute__((noinline, noclone)) static long interrupted(long depth)
{
    volatile long memory[8] = {depth};

    if (depth == 0)
        raise(SIGUSR1);
    else
        sink += interrupted(depth - 1);
    return memory[0] + sink;
}

static void run_alternate_stack(void)
{
    static char memory[65536];
    const stack_t alternate = {.ss_sp = memory, .ss_size = sizeof(memory)};
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};

    sigaltstack(&alternate, NULL);
    sigaction(SIGUSR1, &action, NULL);
    interrupted(20);
}

/* Code without any CFI: a loop in anonymous memory, called as a JIT would. */
static void run_jit(void)
{
    /* push %rbp; mov %rsp,%rbp; 1: jmp 1b */
    static const uint8_t with_frame[] = {0x55, 0x48, 0x89, 0xe5, 0xeb, 0xfe};
    uint8_t *code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memcpy(code, with_frame, sizeof(with_frame));
    ((void (*)(void))(uintptr_t)code)();
    sink++;
}

static void run_jit_without_frame(void)
{
    /* xor %ebp,%ebp; lea 1(%rbp),%rbp; 1: jmp 1b */
    static const uint8_t without_frame[] = {0x31, 0xed, 0x48, 0x8d, 0x6d, 0x01, 0xeb, 0xfe};
    uint8_t *code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memcpy(code, without_frame, sizeof(without_frame));
    ((void (*)(void))(uintptr_t)code)();
    sink++;
}

/* Functions without CFI in a file: one that pushed nothing, one that pushed a word, and a signal
 * trampoline as Go and musl have it. */
__asm__(".text\n"
        "bare_leaf: jmp bare_leaf\n"
        "pushing_leaf: push %rbx\n"
        "1: jmp 1b\n"
        ".balign 16\n"
        "bare_restorer: mov $15, %rax\n"
        "syscall\n");
void bare_leaf(void);
void pushing_leaf(void);
void bare_restorer(void);

static void run_bare_leaf(void)
{
    bare_leaf();
    sink++;
}

static void run_pushing_leaf(void)
{
    pushing_leaf();
    sink++;
}

static void run_bare_restorer(void)
{
    /* struct kernel_sigaction: handler, flags, restorer, mask */
    const struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask;
    } action = {on_signal, 0x04000000 /* SA_RESTORER */, bare_restorer, 0};

    syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8);
    interrupted(20);
}

/* ---- the fixture: a child stopped where it should be, and a sample of it ---- */

static void begin(void (*run)(void), bool is_spinning)
{
    memset(&fixture, 0, sizeof(fixture));
    fixture.pid = child_start(run);
    assert_true(fixture.pid > 0);
    if (is_spinning) {
        assert_int_equal(ptrace(PTRACE_CONT, fixture.pid, NULL, NULL), 0);
        nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
        kill(fixture.pid, SIGSTOP);
        assert_int_equal(waitpid(fixture.pid, NULL, 0), fixture.pid);
    } else {
        int signal_number = child_resume(fixture.pid, PTRACE_CONT, 0);

        if (signal_number == SIGUSR1)
            signal_number = child_resume(fixture.pid, PTRACE_CONT, SIGUSR1);
        assert_int_equal(signal_number, SIGSTOP);
    }
    assert_true(child_sample(fixture.pid, fixture.stack, STACK_BYTES, &fixture.sample));
    assert_null(stack_table_init(&fixture.table));
    assert_null(target_create(&fixture.table, &fixture.target));
    assert_null(target_add_process(fixture.target, fixture.pid, true, &fixture.process));
}

static void end(void)
{
    child_end(fixture.pid);
    target_destroy(fixture.target);
    stack_table_deinit(&fixture.table);
}

static struct unwind_stats walk(bool live_tail)
{
    const struct unwind_options options = {.live_tail = live_tail};
    struct unwinder *unwinder;
    struct unwind_stats stats;

    assert_null(unwind_cfi.create(&options, fixture.target, &unwinder));
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
    unwind_cfi.stats(unwinder, &stats);
    unwind_cfi.destroy(unwinder);
    return stats;
}

static void assert_ends_with(enum frame_reason reason)
{
    const struct frame_key *last = &fixture.chain.frames[fixture.chain.num_frames - 1];

    if (fixture.chain.stop != reason)
        print_message("stopped with %s after %u frames\n", frame_reason_name(fixture.chain.stop),
                      fixture.chain.num_frames);
    assert_int_equal(fixture.chain.stop, reason);
    assert_int_equal(last->reason, reason);
    if (reason != REASON_NONE) {
        assert_int_equal(last->pc, 0);
        assert_int_equal(last->mapping, 0);
    }
}

/* ---- tests ---- */

static void deep_recursion_is_finished_from_the_live_process(void **state)
{
    struct unwind_stats stats;

    (void)state;
    begin(run_deep, false);
    stats = walk(true);
    assert_ends_with(REASON_NONE);
    assert_true(fixture.chain.num_frames > RECURSION);
    assert_int_equal(stats.num_live_tails_read, 1);
    assert_int_equal(stats.num_live_tails_kept, 1);
    end();
}

static void cut_stack_is_marked_truncated_without_live_tail(void **state)
{
    (void)state;
    begin(run_deep, false);
    walk(false);
    assert_ends_with(REASON_TRUNCATED);
    assert_true(fixture.chain.num_frames > 20 && fixture.chain.num_frames < RECURSION);
    end();
}

static void live_tail_that_leads_nowhere_is_dropped(void **state)
{
    struct unwind_stats stats;
    uint32_t num_frames;

    (void)state;
    begin(run_deep, false);
    walk(false);
    num_frames = fixture.chain.num_frames;
    fixture.process->pid = (uint32_t)getpid(); /* other memory at the same addresses, or none */
    stats = walk(true);
    fixture.process->pid = (uint32_t)fixture.pid;
    assert_ends_with(REASON_TRUNCATED);
    assert_int_equal(fixture.chain.num_frames, num_frames);
    assert_int_equal(stats.num_live_tails_kept, 0);
    end();
}

static void ended_process_is_not_read(void **state)
{
    struct unwind_stats stats;

    (void)state;
    begin(run_deep, false);
    fixture.process->has_ended = true;
    stats = walk(true);
    assert_ends_with(REASON_TRUNCATED);
    assert_int_equal(stats.num_live_tails_read, 0);
    end();
}

/* What one sample saw in time completes the next, whose rest can't be read any more; not when the
 * frames inside the copy are others than then. */
static void cut_stack_is_completed_by_remembered_frames(void **state)
{
    const struct unwind_options options = {.live_tail = true, .remember_frames = true};
    struct unwinder *unwinder;
    struct unwind_stats stats;
    uint32_t num_frames;
    uint64_t *word;

    (void)state;
    begin(run_deep, false);
    assert_null(unwind_cfi.create(&options, fixture.target, &unwinder));
    fixture.process->has_ended = true; /* not to be read */
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
    assert_ends_with(REASON_TRUNCATED);
    fixture.process->has_ended = false;
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
    assert_ends_with(REASON_NONE);
    num_frames = fixture.chain.num_frames;
    fixture.process->has_ended = true;
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
    assert_ends_with(REASON_NONE);
    assert_int_equal(fixture.chain.num_frames, num_frames);

    fixture.process->pid++; /* another process: its frames are not those */
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
    assert_ends_with(REASON_TRUNCATED);
    fixture.process->pid--;

    word = (uint64_t *)(void *)(fixture.stack + STACK_BYTES - 8);
    while (word[0] - (uint64_t)recurse >= 512)
        word--;
    word[0]++; /* the outermost call in the copy is another one now */
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
    assert_ends_with(REASON_TRUNCATED);
    unwind_cfi.stats(unwinder, &stats);
    assert_int_equal(stats.num_tails_recalled, 1);
    unwind_cfi.destroy(unwinder);
    end();
}

static void endless_stack_ends_at_the_frame_limit(void **state)
{
    (void)state;
    begin(run_too_deep, false);
    walk(true);
    assert_ends_with(REASON_TOO_DEEP);
    assert_int_equal(fixture.chain.num_frames, CALLCHAIN_MAX_USER_FRAMES + 1);
    end();
}

static void handler_on_alternate_stack_leads_to_the_interrupted_stack(void **state)
{
    (void)state;
    begin(run_alternate_stack, false);
    walk(true);
    assert_ends_with(REASON_NONE);
    /* raise, handler, trampoline, raise (interrupted), 21 x interrupted, ... main, _start */
    assert_true(fixture.chain.num_frames > 28);
    walk(false);
    assert_ends_with(REASON_TRUNCATED);
    end();
}

/* What lies beyond the copy may have been overwritten since: a null return address there ends
 * nothing. */
static void zeros_in_the_live_tail_are_no_thread_entry(void **state)
{
    static uint8_t zeros[4096];
    struct iovec local = {zeros, sizeof(zeros)};
    struct iovec remote = {NULL, sizeof(zeros)};
    uint32_t num_frames;

    (void)state;
    begin(run_deep, false);
    walk(false);
    num_frames = fixture.chain.num_frames;
    remote.iov_base = (void *)(uintptr_t)(fixture.sample.regs[SAMPLE_REG_SP] + STACK_BYTES);
    assert_int_equal(process_vm_writev(fixture.pid, &local, 1, &remote, 1, 0), sizeof(zeros));
    walk(true);
    assert_ends_with(REASON_TRUNCATED);
    assert_int_equal(fixture.chain.num_frames, num_frames);
    end();
}

static void frame_pointer_to_zeros_is_no_thread_entry(void **state)
{
    uint64_t offset;

    (void)state;
    begin(run_jit, true);
    offset = fixture.sample.regs[SAMPLE_REG_BP] - fixture.sample.regs[SAMPLE_REG_SP];
    assert_true(offset < STACK_BYTES - 16);
    memset(fixture.stack + offset, 0, 16);
    walk(false);
    assert_ends_with(REASON_JIT);
    end();
}

static void jit_frame_with_frame_pointer_is_passed(void **state)
{
    (void)state;
    begin(run_jit, true);
    walk(false);
    assert_ends_with(REASON_NONE);
    assert_true(fixture.chain.num_frames > 4);
    end();
}

static void jit_frame_without_frame_pointer_is_named(void **state)
{
    (void)state;
    begin(run_jit_without_frame, true);
    walk(true);
    assert_ends_with(REASON_JIT);
    assert_int_equal(fixture.chain.num_frames, 2);
    end();
}

static void leaf_without_cfi_leads_to_its_caller(void **state)
{
    (void)state;
    begin(run_bare_leaf, true);
    walk(false);
    assert_ends_with(REASON_NONE);
    /* the leaf, run_bare_leaf, child_start, begin, ... */
    assert_in_range(fixture.chain.frames[1].pc, (uint64_t)(uintptr_t)run_bare_leaf,
                    (uint64_t)(uintptr_t)run_bare_leaf + 32);
    end();
    begin(run_pushing_leaf, true);
    walk(false);
    assert_ends_with(REASON_NONE);
#ifndef __SANITIZE_ADDRESS__ /* built with frame pointers: rbp is the caller's, and it is passed \
                                over */
    assert_in_range(fixture.chain.frames[1].pc, (uint64_t)(uintptr_t)run_pushing_leaf,
                    (uint64_t)(uintptr_t)run_pushing_leaf + 32);
#endif
    end();
}

static void trampoline_without_cfi_leads_to_the_interrupted_code(void **state)
{
    bool has_trampoline = false;

    (void)state;
    begin(run_bare_restorer, false);
    walk(true);
    assert_ends_with(REASON_NONE);
    for (uint32_t i = 0; i < fixture.chain.num_frames; i++)
        has_trampoline |= fixture.chain.frames[i].pc == (uint64_t)(uintptr_t)bare_restorer;
    assert_true(has_trampoline);
    assert_true(fixture.chain.num_frames > 28); /* as with libc's trampoline, see above */
    end();
}

static void pc_outside_every_mapping_is_named(void **state)
{
    (void)state;
    begin(run_jit, true);
    fixture.sample.regs[SAMPLE_REG_IP] = 0x10;
    walk(true);
    assert_ends_with(REASON_NO_MAPPING);
    assert_int_equal(fixture.chain.num_frames, 1);
    end();
}

static void samples_without_user_part_yield_a_frame(void **state)
{
    static const uint64_t kernel_pcs[] = {0xffffffff81000100, 0xffffffff81000200};
    const struct unwind_options options = {0};
    struct unwinder *unwinder;

    (void)state;
    begin(run_jit, true);
    assert_null(unwind_cfi.create(&options, fixture.target, &unwinder));
    fixture.sample.has_user_regs = false;

    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 7, &fixture.chain);
    assert_ends_with(REASON_NO_REGISTERS);
    assert_int_equal(fixture.chain.num_frames, 1);

    fixture.sample.in_kernel = true; /* a kernel thread whose stack is not to be seen */
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
    assert_int_equal(fixture.chain.stop, REASON_NONE);
    assert_int_equal(fixture.chain.frames[0].reason, REASON_KERNEL);

    fixture.sample.kernel_pcs = kernel_pcs;
    fixture.sample.num_kernel_pcs = 2;
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 7, &fixture.chain);
    assert_int_equal(fixture.chain.stop, REASON_NONE);
    assert_int_equal(fixture.chain.num_frames, 2);
    assert_int_equal(fixture.chain.frames[0].pc, kernel_pcs[0]);
    assert_int_equal(fixture.chain.frames[1].pc, kernel_pcs[1] - 1);
    assert_int_equal(fixture.chain.frames[1].mapping, 7);

    fixture.sample.has_user_regs = true; /* kernel part first, then the user's */
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
    assert_int_equal(fixture.chain.stop, REASON_NONE);
    assert_int_equal(fixture.chain.frames[0].reason, REASON_KERNEL);
    assert_true(fixture.chain.num_frames > 4);
    assert_int_equal(fixture.chain.frames[1].reason, REASON_NONE);

    fixture.sample.is_32bit = true;
    fixture.sample.num_kernel_pcs = 0;
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
    assert_ends_with(REASON_32BIT);
    assert_int_equal(fixture.chain.num_frames, 2);
    unwind_cfi.destroy(unwinder);
    end();
}

/* Between the end of the old program and the start of the new one the registers belong to neither.
 */
static void sample_inside_execve_is_complete_in_the_kernel(void **state)
{
    static const uint64_t kernel_pcs[] = {0xffffffff81000100, 0xffffffff81000200};
    const struct unwind_options options = {0};
    struct unwinder *unwinder;

    (void)state;
    begin(run_jit, true);
    assert_null(unwind_cfi.create(&options, fixture.target, &unwinder));
    fixture.sample.in_kernel = true;
    fixture.sample.kernel_pcs = kernel_pcs;
    fixture.sample.num_kernel_pcs = 2;
    fixture.sample.regs[SAMPLE_REG_IP] = 0x1000; /* where the new program has nothing */
    fixture.sample.time_ns = 5000000000;
    fixture.process->exec_time_ns = fixture.sample.time_ns - 1000000;

    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 7, &fixture.chain);
    assert_int_equal(fixture.chain.stop, REASON_NONE);
    assert_int_equal(fixture.chain.num_frames, 2);

    fixture.process->exec_time_ns = 1000000; /* long ago: that pc should have been known */
    unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 7, &fixture.chain);
    assert_ends_with(REASON_NO_MAPPING);
    unwind_cfi.destroy(unwinder);
    end();
}

/* Random stacks and registers: any chain, but at least one frame, a reason, and in bounded time. */
static void random_stacks_end_in_bounded_time(void **state)
{
    const struct unwind_options options = {.live_tail = true};
    struct unwinder *unwinder;
    struct timespec start, stop;
    uint64_t seed = 88172645463325252ULL, longest_ns = 0;
    uint64_t pc;

    (void)state;
    begin(run_deep, false);
    pc = fixture.sample.pc;
    assert_null(unwind_cfi.create(&options, fixture.target, &unwinder));
    for (int round = 0; round < 20000; round++) {
        uint64_t *words = (uint64_t *)(void *)fixture.stack;
        uint64_t took_ns;

        for (size_t i = 0; i < STACK_BYTES / 8; i += (size_t)(round % 7) + 1) {
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            words[i] = seed % 3 == 0   ? seed
                       : seed % 3 == 1 ? pc + (seed >> 44)
                                       : fixture.sample.regs[SAMPLE_REG_SP] + (seed >> 52) * 8;
        }
        for (int reg = 0; reg < SAMPLE_NUM_REGS; reg++)
            if (reg != SAMPLE_REG_SP && (seed >> (20 + reg)) & 1)
                fixture.sample.regs[reg] = words[(seed >> 33) % (STACK_BYTES / 8)];
        fixture.sample.stack_bytes = (seed >> 30) % (STACK_BYTES + 1);
        fixture.sample.regs[SAMPLE_REG_IP] = pc + (seed >> 47);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
        unwind_cfi.unwind(unwinder, fixture.process, &fixture.sample, 0, &fixture.chain);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &stop);
        took_ns =
            (uint64_t)((stop.tv_sec - start.tv_sec) * 1000000000 + stop.tv_nsec - start.tv_nsec);
        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        assert_true(fixture.chain.num_frames >= 1);
    }
    print_message("longest walk over a random stack: %.2f ms\n", (double)longest_ns / 1e6);
    unwind_cfi.destroy(unwinder);
    end();
    assert_true(longest_ns < 200000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deep_recursion_is_finished_from_the_live_process),
        cmocka_unit_test(cut_stack_is_marked_truncated_without_live_tail),
        cmocka_unit_test(live_tail_that_leads_nowhere_is_dropped),
        cmocka_unit_test(ended_process_is_not_read),
        cmocka_unit_test(cut_stack_is_completed_by_remembered_frames),
        cmocka_unit_test(endless_stack_ends_at_the_frame_limit),
        cmocka_unit_test(handler_on_alternate_stack_leads_to_the_interrupted_stack),
        cmocka_unit_test(zeros_in_the_live_tail_are_no_thread_entry),
        cmocka_unit_test(frame_pointer_to_zeros_is_no_thread_entry),
        cmocka_unit_test(jit_frame_with_frame_pointer_is_passed),
        cmocka_unit_test(jit_frame_without_frame_pointer_is_named),
        cmocka_unit_test(leaf_without_cfi_leads_to_its_caller),
        cmocka_unit_test(trampoline_without_cfi_leads_to_the_interrupted_code),
        cmocka_unit_test(pc_outside_every_mapping_is_named),
        cmocka_unit_test(samples_without_user_part_yield_a_frame),
        cmocka_unit_test(sample_inside_execve_is_complete_in_the_kernel),
        cmocka_unit_test(random_stacks_end_in_bounded_time),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
