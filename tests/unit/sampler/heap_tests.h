/* Tests of the heap's engine on real children, the same for each of its mechanisms: what is
 * counted, what is sampled, what is in use, and that all is as before when we are gone. */
#ifndef TESTS_UNIT_SAMPLER_HEAP_TESTS_H
#define TESTS_UNIT_SAMPLER_HEAP_TESTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "base/procfs.h"
#include "heap_target.h"
#include "profile/loss.h"
#include "sampler/heap.h"

#define NUM_CALLS 64
#define MAX_SAMPLES 4096

struct fixture {
    enum heap_mechanism mechanism;
    struct heap_libc libc;
};

/* What the sampler has delivered. */
struct seen {
    struct heap_sample samples[MAX_SAMPLES];
    uint32_t pids[MAX_SAMPLES];
    uint64_t pcs[MAX_SAMPLES];
    size_t num_samples;
    size_t num_with_stack;
    uint32_t forked_pid; /* of the last fork of `parent` */
    uint32_t parent;
    uint64_t num_lost;
};

static struct seen seen;

static void note(void *context, const struct event *event)
{
    struct seen *to = context;

    if (event->type == EVENT_LOSS && event->loss.kind == LOSS_LOST)
        to->num_lost += event->loss.count;
    if (event->type == EVENT_FORK && event->fork.parent_pid == to->parent &&
        event->pid != to->parent)
        to->forked_pid = event->pid;
    if (event->type != EVENT_SAMPLE || to->num_samples == MAX_SAMPLES)
        return;
    assert_non_null(event->sample->heap);
    assert_int_equal(event->sample->pc, event->sample->regs[SAMPLE_REG_IP]);
    to->samples[to->num_samples] = *event->sample->heap;
    to->pids[to->num_samples] = event->sample->pid;
    to->num_with_stack += event->sample->stack_bytes > 0;
    to->pcs[to->num_samples++] = event->sample->pc;
}

static void drain(struct sampler *sampler, bool final)
{
    size_t num_samples;

    assert_null(sampler_heap.drain(sampler, final, note, &seen, &num_samples));
}

/* Opens a sampler that takes every allocation. */
static struct sampler *open_sampler(const struct fixture *fixture, bool has_sideband)
{
    const struct heap_options heap = {
        .rate_bytes = 1,
        .mechanism = fixture->mechanism,
        .has_sideband = has_sideband,
        .stack_bytes = 512,
        .max_live = 1024,
    };
    const struct sampler_options options = {.scope = SAMPLER_PROCESSES, .heap = &heap};
    struct sampler *sampler = NULL;
    struct error *err = sampler_heap.open(&options, &sampler);

    memset(&seen, 0, sizeof(seen));
    if (err) {
        bool is_unavailable = err->kind == ERROR_UNSUPPORTED || err->kind == ERROR_PERMISSION;

        print_message("%s\n", err->message);
        error_destroy(err);
        if (is_unavailable)
            skip();
        fail();
    }
    assert_int_equal(heap_sampler_mechanism(sampler), fixture->mechanism);
    assert_null(sampler_heap.start(sampler));
    return sampler;
}

static struct sampler *open_on(const struct fixture *fixture, const struct heap_child *child)
{
    struct sampler *sampler = open_sampler(fixture, false);

    assert_null(sampler_heap.attach(sampler, child->pid, child->pid));
    assert_null(heap_sampler_probe(sampler, child->pid, fixture->libc.fd, fixture->libc.sites, 4));
    return sampler;
}

static struct heap_counts counts_of(const struct sampler *sampler)
{
    struct heap_counts counts;

    heap_sampler_counts(sampler, &counts);
    return counts;
}

/* Tells how many samples are in use; all must have been delivered. */
static size_t num_live(struct sampler *sampler)
{
    struct heap_live live;
    size_t num_ids;

    drain(sampler, false);
    assert_null(heap_sampler_live(sampler, &live));
    for (size_t i = 0; i < live.num_ids; i++) {
        bool is_known = false;

        assert_true(i == 0 || live.ids[i] > live.ids[i - 1]);
        for (size_t j = 0; j < seen.num_samples; j++)
            is_known |= seen.samples[j].id == live.ids[i];
        assert_true(is_known);
    }
    num_ids = live.num_ids;
    heap_live_deinit(&live);
    return num_ids;
}

static void *blocks[NUM_CALLS];

/* Step 0 allocates 100, 101, ... bytes; step 1 frees half of that; step 2 the rest. */
static void allocate_and_free(const struct heap_libc *libc, int number)
{
    for (size_t i = 0; i < NUM_CALLS; i++) {
        if (number == 0)
            blocks[i] = libc->malloc(100 + i);
        else if (i % 2 == (size_t)number - 1)
            libc->free(blocks[i]);
    }
}

static UNUSED void every_call_is_counted_sampled_and_freed(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler = open_on(fixture, &child);
    uint64_t sum = 0;

    assert_true(heap_child_step(&child));
    assert_int_equal(num_live(sampler), NUM_CALLS);
    assert_int_equal(seen.num_samples, NUM_CALLS);
    assert_int_equal(seen.num_with_stack, NUM_CALLS);
    for (size_t i = 0; i < NUM_CALLS; i++) {
        assert_int_equal(seen.pids[i], child.pid);
        assert_int_equal(seen.samples[i].size_bytes, 100 + i);
        assert_int_equal(seen.samples[i].rate_bytes, 1);
        assert_int_not_equal(seen.samples[i].address, 0);
        assert_int_equal(seen.samples[i].probe_pc, (uintptr_t)fixture->libc.malloc);
        /* Behind the call in allocate_and_free(), which is not long. */
        assert_true(seen.pcs[i] - (uintptr_t)allocate_and_free < 4096);
        sum += 100 + i;
    }
    assert_int_equal(counts_of(sampler).num_allocs, NUM_CALLS);
    assert_int_equal(counts_of(sampler).alloc_bytes, sum);
    assert_true(heap_child_step(&child));
    assert_int_equal(num_live(sampler), NUM_CALLS / 2);
    assert_int_equal(counts_of(sampler).num_live, NUM_CALLS / 2);
    assert_true(heap_child_step(&child));
    assert_int_equal(num_live(sampler), 0);
    assert_int_equal(counts_of(sampler).num_frees, NUM_CALLS);
    assert_int_equal(counts_of(sampler).num_lost, 0);
    assert_int_equal(counts_of(sampler).num_untracked, 0);
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

/* One step for each thing that realloc and posix_memalign can do. */
static void reallocate(const struct heap_libc *libc, int number)
{
    static void *block;
    static void *aligned;

    switch (number) {
    case 0:
        block = libc->realloc(NULL, 1000); /* this realloc is malloc */
        break;
    case 1:
        block = libc->realloc(block, 200000);
        break;
    case 2:
        if (libc->realloc(block, (size_t)1 << 46)) /* more than there is: it stays as it was */
            _exit(1);
        break;
    case 3:
        if (libc->posix_memalign(&aligned, 64, 500) ||
            !libc->posix_memalign(&aligned, 64, (size_t)1 << 46) ||
            !libc->posix_memalign(&aligned, 3, 500))
            _exit(1);
        break;
    case 4:
        if (libc->realloc(block, 0)) /* frees */
            _exit(1);
        libc->free(aligned);
        break;
    }
}

static UNUSED void realloc_is_free_and_malloc(void **state)
{
    static const struct {
        size_t num_live;
        uint64_t num_allocs;
        uint64_t size_bytes; /* of the last sample */
    } expected[] = {{1, 1, 1000}, {1, 2, 200000}, {1, 3, 200000}, {2, 6, 500}, {0, 7, 500}};
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, reallocate);
    struct sampler *sampler = open_on(fixture, &child);

    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_true(heap_child_step(&child));
        assert_int_equal(num_live(sampler), expected[i].num_live);
        assert_int_equal(counts_of(sampler).num_allocs, expected[i].num_allocs);
        assert_int_equal(seen.samples[seen.num_samples - 1].size_bytes, expected[i].size_bytes);
    }
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static void *allocate_in_thread(void *context)
{
    const struct heap_libc *libc = context;

    for (size_t i = 0; i < NUM_CALLS; i++) {
        void *block = libc->malloc(64);

        if (i % 4)
            libc->free(block);
    }
    return NULL;
}

#define NUM_THREADS 8

static void start_threads(const struct heap_libc *libc, int number)
{
    pthread_t threads[NUM_THREADS];

    (void)number;
    for (size_t i = 0; i < NUM_THREADS; i++)
        pthread_create(&threads[i], NULL, allocate_in_thread, (void *)libc);
    for (size_t i = 0; i < NUM_THREADS; i++)
        pthread_join(threads[i], NULL);
}

static UNUSED void all_threads_are_sampled(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, start_threads);
    struct sampler *sampler = open_on(fixture, &child);
    size_t num_sampled = 0;

    assert_true(heap_child_step(&child));
    drain(sampler, false);
    for (size_t i = 0; i < seen.num_samples; i++)
        num_sampled += seen.samples[i].size_bytes == 64;
    assert_int_equal(num_sampled, NUM_THREADS * NUM_CALLS);
    /* Starting threads allocates, too. */
    assert_true(counts_of(sampler).num_allocs >= NUM_THREADS * NUM_CALLS);
    assert_true(num_live(sampler) >= NUM_THREADS * NUM_CALLS / 4);
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static struct heap_child grandchild;

/* Step 0 forks a process that does as told; the others tell it. */
static void fork_and_tell(const struct heap_libc *libc, int number)
{
    if (number == 0)
        grandchild = heap_child_start(libc, allocate_and_free);
    else if (!heap_child_step(&grandchild))
        _exit(1);
}

static UNUSED void a_forked_process_is_told_and_probed(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, fork_and_tell);
    struct sampler *sampler = open_sampler(fixture, true);

    seen.parent = (uint32_t)child.pid;
    assert_true(heap_child_step(&child));
    drain(sampler, false);
    assert_int_not_equal(seen.forked_pid, 0);
    assert_null(heap_sampler_probe(sampler, (pid_t)seen.forked_pid, fixture->libc.fd,
                                   fixture->libc.sites, 4));
    assert_true(heap_child_step(&child));
    assert_int_equal(num_live(sampler), NUM_CALLS);
    assert_int_equal(seen.pids[0], seen.forked_pid);
    heap_sampler_forget(sampler, (pid_t)seen.forked_pid, false);
    assert_int_equal(num_live(sampler), 0);
    assert_int_equal(counts_of(sampler).num_live, 0);
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static UNUSED void what_is_kept_stays_in_use(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler = open_on(fixture, &child);

    assert_true(heap_child_step(&child));
    assert_int_equal(heap_child_end(&child), 0);
    heap_sampler_forget(sampler, child.pid, true);
    assert_int_equal(num_live(sampler), NUM_CALLS);
    sampler_heap.destroy(sampler);
}

static UNUSED void letting_go_keeps_what_is_in_use(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler = open_on(fixture, &child);

    assert_true(heap_child_step(&child));
    heap_sampler_let_go(sampler);
    assert_true(heap_child_step(&child));
    assert_int_equal(num_live(sampler), NUM_CALLS);
    assert_int_equal(counts_of(sampler).num_frees, 0);
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static UNUSED void sampling_off_is_counting_only(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler = open_on(fixture, &child);

    heap_sampler_set_sampling(sampler, false);
    assert_true(heap_child_step(&child));
    drain(sampler, true);
    assert_int_equal(seen.num_samples, 0);
    assert_int_equal(counts_of(sampler).num_allocs, NUM_CALLS);
    heap_sampler_double_rate(sampler);
    assert_int_equal(heap_sampler_rate(sampler), 2);
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static UNUSED void a_calling_range_is_skipped(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler = open_sampler(fixture, false);
    struct heap_site site = fixture->libc.sites[0];

    site.num_callers = 1;
    site.callers[0].start = (intptr_t)allocate_and_free - (intptr_t)fixture->libc.malloc;
    site.callers[0].limit = site.callers[0].start + 4096;
    assert_null(heap_sampler_probe(sampler, child.pid, fixture->libc.fd, &site, 1));
    assert_true(heap_child_step(&child));
    assert_int_equal(counts_of(sampler).num_allocs, 0);
    assert_int_equal(counts_of(sampler).num_nested, NUM_CALLS);
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static void allocate_much(const struct heap_libc *libc, int number)
{
    libc->malloc(number == 0 ? 1000 : (size_t)20 << 20);
}

/* An exception would not find its way past the breakpoint at a return. */
static UNUSED void a_large_call_that_may_throw_is_told_at_the_call(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_much);
    struct sampler *sampler = open_sampler(fixture, false);
    struct heap_site site = fixture->libc.sites[0];

    site.role = ALLOCATOR_NEW;
    assert_null(heap_sampler_probe(sampler, child.pid, fixture->libc.fd, &site, 1));
    assert_true(heap_child_step(&child));
    assert_true(heap_child_step(&child));
    assert_int_equal(num_live(sampler), 1);
    assert_int_equal(seen.num_samples, 2);
    assert_int_not_equal(seen.samples[0].address, 0);
    assert_int_equal(seen.samples[1].address, 0);
    assert_int_equal(seen.samples[1].size_bytes, (size_t)20 << 20);
    assert_int_equal(seen.pcs[0], seen.pcs[1]);
    assert_int_equal(counts_of(sampler).num_untracked, 1);
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static UNUSED void a_full_table_is_counted(void **state)
{
    const struct fixture *fixture = *state;
    const struct heap_options heap = {
        .rate_bytes = 1, .mechanism = fixture->mechanism, .max_live = NUM_CALLS / 2};
    const struct sampler_options options = {.scope = SAMPLER_PROCESSES, .heap = &heap};
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler = open_sampler(fixture, false);

    sampler_heap.destroy(sampler);
    assert_null(sampler_heap.open(&options, &sampler));
    assert_null(sampler_heap.start(sampler));
    assert_null(heap_sampler_probe(sampler, child.pid, fixture->libc.fd, fixture->libc.sites, 4));
    assert_true(heap_child_step(&child));
    assert_int_equal(num_live(sampler), NUM_CALLS / 2);
    assert_int_equal(seen.num_samples, NUM_CALLS);
    assert_int_equal(counts_of(sampler).num_untracked, NUM_CALLS / 2);
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static UNUSED void nonsense_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler = open_sampler(fixture, false);
    struct heap_site site = fixture->libc.sites[0];
    struct error *err;

    site.role = ALLOCATOR_NUM_ROLES;
    err = heap_sampler_probe(sampler, child.pid, fixture->libc.fd, &site, 1);
    assert_non_null(err);
    error_destroy(err);
    site.role = ALLOCATOR_MALLOC;
    site.file_off = 1ull << 40;
    err = heap_sampler_probe(sampler, child.pid, fixture->libc.fd, &site, 1);
    assert_non_null(err);
    error_destroy(err);
    assert_null(heap_sampler_probe(sampler, child.pid, fixture->libc.fd, &site, 0));
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static UNUSED void no_process_is_gone(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler = open_sampler(fixture, false);
    struct error *err;

    assert_int_equal(heap_child_end(&child), 0);
    err = heap_sampler_probe(sampler, child.pid, fixture->libc.fd, fixture->libc.sites, 4);
    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_GONE);
    error_destroy(err);
    sampler_heap.destroy(sampler);
}

/* The first bytes of malloc and free as they are in the child's memory. */
static void read_code(const struct fixture *fixture, pid_t pid, uint8_t code[32])
{
    const void *functions[] = {*(void *const *)&fixture->libc.malloc,
                               *(void *const *)&fixture->libc.free};
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pread(fd, code + 16 * i, 16, (off_t)(uintptr_t)functions[i]), 16);
    close(fd);
}

/* A sampler of another process: probes `pid`, tells so, and waits to be killed. */
static _Noreturn void sample_until_killed(const struct fixture *fixture, pid_t pid, int fd)
{
    struct sampler *sampler = open_sampler(fixture, false);
    char byte;

    assert_null(heap_sampler_probe(sampler, pid, fixture->libc.fd, fixture->libc.sites, 4));
    if (write(fd, "", 1) != 1)
        _exit(1);
    for (;;) /* nobody writes */
        if (read(fd, &byte, 1) == 0)
            _exit(1);
}

/* Waits until the code of the child is as it was: the kernel may take a moment. */
static void await_code(const struct fixture *fixture, pid_t pid, const uint8_t expected[32])
{
    uint8_t code[32];

    for (int tries = 0; tries < 1000; tries++) {
        read_code(fixture, pid, code);
        if (memcmp(code, expected, sizeof(code)) == 0)
            return;
        usleep(10000);
    }
    assert_memory_equal(code, expected, sizeof(code));
}

static UNUSED void our_sudden_death_leaves_no_breakpoint(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    uint8_t before[32], during[32];
    int fds[2];
    char byte;
    pid_t pid;

    sampler_heap.destroy(open_sampler(fixture, false)); /* or skip */
    read_code(fixture, child.pid, before);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        close(child.fd);
        sample_until_killed(fixture, child.pid, fds[1]);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    read_code(fixture, child.pid, during);
    assert_memory_not_equal(before, during, sizeof(before));
    assert_true(heap_child_step(&child));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    await_code(fixture, child.pid, before);
    assert_true(heap_child_step(&child));
    close(fds[0]);
    assert_int_equal(heap_child_end(&child), 0);
}

/* Finds the child of ours that holds the breakpoints. */
static inline pid_t find_keeper(void)
{
    pid_t *pids;
    size_t num_pids;
    pid_t found = 0;

    assert_null(procfs_list_ids("/proc", &pids, &num_pids));
    for (size_t i = 0; i < num_pids; i++) {
        struct procfs_stat stat;
        struct error *err = procfs_stat_read(pids[i], &stat);

        if (!err && stat.ppid == getpid() && !strcmp(stat.comm, "breakpoints"))
            found = pids[i];
        error_destroy(err);
    }
    free(pids);
    return found;
}

static UNUSED void the_end_of_the_keeper_is_told(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler;
    uint8_t before[32];
    struct error *err;

    read_code(fixture, child.pid, before);
    sampler = open_on(fixture, &child);
    assert_int_equal(kill(find_keeper(), SIGKILL), 0);
    await_code(fixture, child.pid, before);
    err = heap_sampler_probe(sampler, child.pid, fixture->libc.fd, fixture->libc.sites, 4);
    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_FAILED);
    error_destroy(err);
    drain(sampler, false); /* warns */
    heap_sampler_forget(sampler, child.pid, false);
    heap_sampler_let_go(sampler);
    assert_true(heap_child_step(&child));
    assert_int_equal(num_live(sampler), 0);
    assert_int_equal(heap_child_end(&child), 0);
    sampler_heap.destroy(sampler);
}

static UNUSED void a_child_of_ours_does_not_hold_up_the_end(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, allocate_and_free);
    struct sampler *sampler = open_on(fixture, &child);
    pid_t pid = fork(); /* with all our descriptors */

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        for (;;)
            pause();
    }
    sampler_heap.destroy(sampler);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(heap_child_end(&child), 0);
}

/* Step 0 forbids all system calls but the few that the test needs. */
static void filter_and_allocate(const struct heap_libc *libc, int number)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_brk, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    if (number == 0)
        libc->free(libc->malloc(1)); /* sets itself up */
    if (number == 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
                        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)))
        _exit(1);
    if (number > 0)
        allocate_and_free(libc, number - 1);
}

static UNUSED void a_process_that_may_do_nothing_lives_on(void **state)
{
    const struct fixture *fixture = *state;
    struct heap_child child = heap_child_start(&fixture->libc, filter_and_allocate);
    struct sampler *sampler = open_sampler(fixture, false);

    assert_true(heap_child_step(&child));
    assert_null(heap_sampler_probe(sampler, child.pid, fixture->libc.fd, fixture->libc.sites, 4));
    for (int i = 0; i < 3; i++)
        assert_true(heap_child_step(&child));
    drain(sampler, false);
    assert_int_equal(seen.num_samples, NUM_CALLS);
    heap_sampler_let_go(sampler);
    assert_true(heap_child_step(&child));
    (void)heap_child_end(&child); /* for which a sanitizer makes other system calls */
    sampler_heap.destroy(sampler);
}

static UNUSED void costs_are_measured(void **state)
{
    const struct fixture *fixture = *state;
    struct sampler *sampler = open_sampler(fixture, false);
    struct heap_costs costs = {0};

    assert_null(heap_sampler_calibrate(sampler, &costs));
    print_message("%s: %.0f ns a malloc, %.0f a free, %.0f more stepped\n",
                  heap_mechanism_name(fixture->mechanism), costs.alloc_ns, costs.free_ns,
                  costs.stepped_ns);
    assert_true(costs.alloc_ns > 0);
    assert_true(costs.free_ns > 0);
    sampler_heap.destroy(sampler);
}

/* Looks up what all tests need. Returns: false when this is no glibc. */
static inline bool heap_tests_prepare(enum heap_mechanism mechanism, struct fixture *fixture_ret)
{
    fixture_ret->mechanism = mechanism;
    return heap_libc_find(&fixture_ret->libc);
}

#endif
