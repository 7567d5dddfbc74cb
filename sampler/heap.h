/* Where memory is allocated: breakpoints (uprobes) on the allocator, sampled by BPF in the kernel.
 *
 * An engine like the others (struct sampler_ops), but what its events are is said process by
 * process: heap_sampler_probe() puts breakpoints into one module of one process, for all its
 * threads. At each call of an allocating function a BPF program counts bytes down to the next point
 * of a Poisson process (one point in `rate_bytes` on average); only a call that a point falls into
 * is caught at its return, put into a table of what is in use, and written to a ring with registers
 * and stack: an EVENT_SAMPLE with sample->heap set. A call of a freeing function takes its pointer
 * out of that table, and writes nothing: what is still in use is read from the table when asked.
 *
 * The stack of a sample is taken at the return: the allocator's own frames are gone, its leaf is
 * the caller (regs[SAMPLE_REG_IP] and pc are one less than the return address, as every caller is).
 * Where BPF is refused there is HEAP_MECHANISM_COUNT: one call in so many is an EVENT_SAMPLE, whose
 * heap->rate_bytes is 0 and whose weight is the calls that it stands for; frees are not seen, and
 * nothing is known to be in use (sampler/heap_count.h).
 * Not here: which functions to probe and where (target/allocator.h, sampler/probe_site.h), what a
 * sample stands for (profile/live_set.h).
 * Ownership: the caller owns the sampler. Everything in the kernel hangs on descriptors of a
 * process of ours (sampler/heap_keeper.h): when we end, in whatever way, the breakpoints are gone.
 * Threads: one caller. Source: docs/adr/0023.
 */
#ifndef SAMPLER_HEAP_H
#define SAMPLER_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "sampler/probe_site.h"
#include "sampler/sampler.h"

#define HEAP_DEFAULT_RATE_BYTES (512u << 10)
#define HEAP_MAX_RATE_BYTES (1ull << 34)
#define HEAP_DEFAULT_STACK_BYTES 8192
#define HEAP_DEFAULT_MAX_LIVE 131072 /* 64 GiB in use at the default rate; about 100 B each */

/* How breakpoints are set. */
enum heap_mechanism {
    HEAP_MECHANISM_AUTO,    /* the first of these that works */
    HEAP_MECHANISM_SESSION, /* one multi-uprobe link; the return is caught where asked (6.13) */
    HEAP_MECHANISM_MULTI,   /* two such links: every return is caught (6.6) */
    HEAP_MECHANISM_PERF,    /* two perf events for each function (5.10) */
    HEAP_MECHANISM_COUNT,   /* without BPF: by count, of few threads, calls alone */
};

/* What is special about this engine; sampler_options.heap. Of the other options it uses
 * scope (SAMPLER_PROCESSES only) and max_ring_bytes. */
struct heap_options {
    uint64_t rate_bytes; /* mean distance of samples, 1..HEAP_MAX_RATE_BYTES; 0: the default */
    enum heap_mechanism mechanism;
    bool has_sideband;    /* tell mmap, comm, fork and exit too; false: another sampler does */
    uint32_t stack_bytes; /* user stack to copy, multiple of 8, < 65536 */
    uint32_t max_live;    /* size of the table of what is in use; 0: the default */
};

/* open(): ERROR_PERMISSION or ERROR_UNSUPPORTED when uprobes with BPF do not work for us
 * here. attach() only looks whether the process is there; start() turns sampling on (until then
 * calls are only counted), stop() off; destroy() takes everything away. */
extern const struct sampler_ops sampler_heap;

/* Puts breakpoints into one module of a process; they hold for all its threads, and over an execve
 * of a process that has not mapped the module yet. Not for children: the caller hears of them
 * (FORK) and probes them too. module_fd: the module's file, only used during the call. Takes effect
 * at once (20 ms). Returns: NULL; ERROR_GONE when the process has ended; ERROR_UNSUPPORTED when the
 * kernel refuses, or when breakpoints would harm this process. */
struct error *heap_sampler_probe(struct sampler *sampler, pid_t pid, int module_fd,
                                 const struct heap_site *sites, size_t num_sites) MUST_CHECK;

/* Takes the breakpoints of a process away: it has ended, or runs another program now.
 * keeps_live: what it had in use still counts as such (else it is dropped from the table). */
void heap_sampler_forget(struct sampler *sampler, pid_t pid, bool keeps_live);

/* Takes all breakpoints away, and returns when they are gone (< 1 s). What is in use now remains so
 * in the table, and sampling can't be started again but by new probes. */
void heap_sampler_let_go(struct sampler *sampler);

/* Tells whether somebody has killed the process of ours that holds the breakpoints; they are gone,
 * and there will be no others. */
bool heap_sampler_is_gone(const struct sampler *sampler);

/* What was seen so far, sampled or not; exact. */
struct heap_counts {
    uint64_t num_allocs; /* calls that allocate, failed ones included */
    uint64_t alloc_bytes;
    uint64_t num_frees;     /* calls that only free (realloc is an allocation) */
    uint64_t num_stepped;   /* hits, of all these, at sites that have to be stepped */
    uint64_t num_nested;    /* calls skipped as part of another probed call; not in the others */
    uint64_t num_samples;   /* written to the rings */
    uint64_t num_lost;      /* samples that found no room there */
    uint64_t num_untracked; /* samples that found no room in the table: never in use */
    uint64_t num_live;      /* entries of the table, about */
    uint64_t num_unwatched; /* threads at a time that HEAP_MECHANISM_COUNT had no event for */
};

/* Reads the counts. */
void heap_sampler_counts(const struct sampler *sampler, struct heap_counts *counts_ret);

/* Samples whose memory is in use now. */
struct heap_live {
    uint64_t *ids; /* heap_sample.id, ascending */
    size_t num_ids;
};

/* Frees what heap_sampler_live() made. A zeroed one is fine. */
void heap_live_deinit(struct heap_live *live);

/* Reads the table of what is in use; of processes that heap_sampler_forget() has dropped, nothing.
 * live_ret: owned by the caller. Returns: NULL or an error. */
struct error *heap_sampler_live(struct sampler *sampler, struct heap_live *live_ret) MUST_CHECK;

/* Turns sampling on or off; off, calls are still counted. Starts off. */
void heap_sampler_set_sampling(struct sampler *sampler, bool is_on);

/* Tells the mean distance of samples that are drawn now, in bytes; with HEAP_MECHANISM_COUNT, in
 * calls. */
uint64_t heap_sampler_rate(const struct sampler *sampler);

/* Doubles that distance, up to HEAP_MAX_RATE_BYTES, for samples drawn from now on; each sample
 * tells its own. */
void heap_sampler_double_rate(struct sampler *sampler);

/* Holds samples of a later time (CLOCK_MONOTONIC) back in drain(), unless final: the time up to
 * which another sampler's sideband has been read. */
void heap_sampler_set_limit(struct sampler *sampler, uint64_t time_ns);

/* Tells how breakpoints are set; never HEAP_MECHANISM_AUTO. */
enum heap_mechanism heap_sampler_mechanism(const struct sampler *sampler);

/* Tells its name: "session uprobes", "multi uprobes", "perf uprobes", "perf uprobes by count". */
const char *heap_mechanism_name(enum heap_mechanism mechanism);

/* What a hit costs the target here. */
struct heap_costs {
    double alloc_ns;   /* a call that allocates, at an instruction that is emulated */
    double free_ns;    /* the same of a call that frees */
    double stepped_ns; /* what stepping an instruction costs on top */
};

/* Measures that on a child of our own, with the programs of this sampler (about 20 ms, and as much
 * again for cleaning up). Returns: NULL or an error. */
struct error *heap_sampler_calibrate(struct sampler *sampler,
                                     struct heap_costs *costs_ret) MUST_CHECK;

#endif
