/* Samples of this very process, taken by a timer while it runs a mixed load, with libgcc's view of
 * each stack beside them: input for tests and benchmarks of unwind/.
 *
 * A SIGALRM handler copies registers and stack as perf would, and walks the stack in place with
 * _Unwind_Backtrace (libgcc: what C++ exceptions trust). Main thread only.
 */
#ifndef TESTS_SELF_SAMPLES_H
#define TESTS_SELF_SAMPLES_H

#include <alloca.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unwind.h>

#include "profile/sample.h"

#define SELF_STACK_BYTES 32768
#define SELF_MAX_FRAMES 512

struct self_sample {
    struct sample sample;
    ucontext_t context;              /* for libunwind */
    uint32_t num_truth;              /* frames that libgcc found */
    uint64_t truth[SELF_MAX_FRAMES]; /* leaf first, as _Unwind_GetIP tells: return addresses */
    uint8_t stack[SELF_STACK_BYTES];
};

static struct {
    struct self_sample *samples;
    volatile size_t num_samples;
    size_t capacity;
    uint64_t stack_limit; /* end of the main thread's stack */
} self_recording;

struct self_walk {
    struct self_sample *sample;
    bool has_begun;
};

static volatile uint64_t self_sink;

static _Unwind_Reason_Code self_visit(struct _Unwind_Context *context, void *argument)
{
    struct self_walk *walk = (struct self_walk *)argument;
    struct self_sample *sample = walk->sample;
    uint64_t ip = _Unwind_GetIP(context);

    /* Behind the handler's own frames; the CFA of the frame below is this frame's stack pointer. */
    if (!walk->has_begun && ip == sample->sample.pc &&
        _Unwind_GetCFA(context) == sample->sample.regs[SAMPLE_REG_SP])
        walk->has_begun = true;
    if (walk->has_begun && ip != 0 && sample->num_truth < SELF_MAX_FRAMES)
        sample->truth[sample->num_truth++] = ip;
    return _URC_NO_REASON;
}

/* Copies whole words. Not memcpy: the stack holds the red zones of AddressSanitizer, too. */
__attribute__((no_sanitize("address", "undefined"))) static void
self_copy_words(uint8_t *to, uint64_t from, size_t num_bytes)
{
    for (size_t i = 0; i + 8 <= num_bytes; i += 8)
        *(volatile uint64_t *)(void *)(to + i) = *(const volatile uint64_t *)(from + i);
}

static void self_on_tick(int signal_number, siginfo_t *info, void *ucontext)
{
    static const uint8_t order[SAMPLE_NUM_REGS] = {
        REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
        REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    const ucontext_t *context = (const ucontext_t *)ucontext;
    struct self_sample *sample;
    struct self_walk walk;
    uint64_t sp = (uint64_t)context->uc_mcontext.gregs[REG_RSP];

    (void)signal_number;
    (void)info;
    if (self_recording.num_samples == self_recording.capacity)
        return;
    sample = &self_recording.samples[self_recording.num_samples];
    sample->num_truth = 0;
    for (int i = 0; i < SAMPLE_NUM_REGS; i++)
        sample->sample.regs[i] = (uint64_t)context->uc_mcontext.gregs[order[i]];
    sample->sample.pc = sample->sample.regs[SAMPLE_REG_IP];
    sample->sample.has_user_regs = true;
    sample->sample.stack = sample->stack;
    sample->sample.stack_asked_bytes = SELF_STACK_BYTES;
    sample->sample.stack_bytes = self_recording.stack_limit - sp < SELF_STACK_BYTES
                                     ? self_recording.stack_limit - sp
                                     : SELF_STACK_BYTES;
    self_copy_words(sample->stack, sp, sample->sample.stack_bytes);
    sample->context = *context;
    walk = (struct self_walk){sample, false};
    _Unwind_Backtrace(self_visit, &walk);
    self_recording.num_samples++;
}

/* ---- the load: each function calls for something else of the unwinder ---- */

#define SELF_NOINLINE __attribute__((noinline, noclone))

SELF_NOINLINE static uint64_t self_spin(uint64_t rounds)
{
    uint64_t value = rounds;

    for (uint64_t i = 0; i < rounds; i++)
        value = value * 6364136223846793005ULL + 1442695040888963407ULL;
    self_sink += value;
    return value;
}

static int self_compare(const void *left, const void *right)
{
    self_spin(5);
    return *(const int *)left - *(const int *)right;
}

SELF_NOINLINE static void self_qsort(void)
{
    int numbers[200];

    for (int i = 0; i < 200; i++)
        numbers[i] = (i * 7919) % 1000;
    qsort(numbers, 200, sizeof(numbers[0]), self_compare);
    self_sink += (uint64_t)numbers[3];
}

SELF_NOINLINE static uint64_t self_alloca(int depth)
{
    volatile char *memory = (volatile char *)alloca((size_t)(17 * depth + 1));

    memory[0] = (char)depth;
    if (depth == 0)
        return self_spin(200);
    return self_alloca(depth - 1) + (uint64_t)memory[0];
}

SELF_NOINLINE static uint64_t self_recurse(int depth, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t result;

    if (depth == 0)
        return self_spin(100) + a + b + c;
    result = self_recurse(depth - 1, a ^ b, b + c, a + 1);
    self_sink += result;
    return result * a + b - c;
}

/* A realigned stack: gcc's dynamic realign argument pointer (DRAP), CFA by expression. */
__attribute__((noinline, noclone, force_align_arg_pointer)) static uint64_t
self_realigned(int depth)
{
    volatile uint64_t aligned[8] __attribute__((aligned(64)));

    aligned[depth & 7] = self_spin(50);
    if (depth > 0)
        aligned[0] += self_realigned(depth - 1);
    return aligned[0] + self_alloca(3);
}

static jmp_buf self_jump;

__attribute__((noinline, noclone, noreturn)) static void self_never_returns(void)
{
    self_spin(300);
    longjmp(self_jump, 1);
}

/* Its call is its last instruction: the return address lies in the next function. */
__attribute__((noinline, noclone, noreturn)) static void self_noreturn_caller(void)
{
    self_sink++;
    self_never_returns();
}

static void self_on_signal(int signal_number)
{
    (void)signal_number;
    self_spin(400);
    self_recurse(4, 1, 2, 3);
}

SELF_NOINLINE static void self_libc(void)
{
    char text[256];
    struct timespec now;
    double value;

    snprintf(text, sizeof(text), "%d %s %.17g %x", 42, "some words", (double)self_sink * 1e-3, 77U);
    value = strtod(text + 3, NULL);
    self_sink += (uint64_t)value + strlen(text);
    memmove(text + 1, text, 200);
    clock_gettime(CLOCK_MONOTONIC, &now); /* vdso */
    self_sink += (uint64_t)now.tv_nsec;
    free(malloc(100 + self_sink % 5000));
}

SELF_NOINLINE static void self_load_once(void)
{
    self_qsort();
    self_alloca(12);
    self_recurse(40, 1, 2, 3);
    self_realigned(3);
    if (setjmp(self_jump) == 0)
        self_noreturn_caller();
    for (int i = 0; i < 20; i++)
        self_libc();
    raise(SIGUSR1);
}

static uint64_t self_find_stack_limit(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    uint64_t here = (uint64_t)&line, start, limit, found = 0;

    while (maps && fgets(line, sizeof(line), maps))
        if (sscanf(line, "%lx-%lx", &start, &limit) == 2 && start <= here && here < limit)
            found = limit;
    if (maps)
        fclose(maps);
    return found;
}

/* Runs the load until `num_samples` were taken, one per `interval_us`. Returns: the samples; stay
 * valid until the next call. */
static struct self_sample *self_record(size_t num_samples, long interval_us)
{
    struct sigaction tick = {.sa_sigaction = self_on_tick, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction other = {.sa_handler = self_on_signal, .sa_flags = SA_RESTART};
    struct itimerval interval = {{0, interval_us}, {0, interval_us}};
    const struct itimerval off = {{0, 0}, {0, 0}};
    void *memory = mmap(NULL, num_samples * sizeof(struct self_sample), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    self_recording.samples = (struct self_sample *)memory;
    self_recording.capacity = num_samples;
    self_recording.num_samples = 0;
    self_recording.stack_limit = self_find_stack_limit();
    sigaction(SIGALRM, &tick, NULL);
    sigaction(SIGUSR1, &other, NULL);
    setitimer(ITIMER_REAL, &interval, NULL);
    while (self_recording.num_samples < num_samples)
        self_load_once();
    setitimer(ITIMER_REAL, &off, NULL);
    return self_recording.samples;
}

#endif
