/* The heap's BPF programs and maps: loads sampler/bpf/heap.bpf.c, tells it what to do, and reads
 * what it has counted and what is in use.
 *
 * Not where the programs hang (sampler/heap_probes.h). Built without BPF (make BPF=0), making one
 * is ERROR_UNSUPPORTED. Ownership: the caller owns it. Threads: none. Source: bpf(2).
 */
#ifndef SAMPLER_HEAP_BPF_H
#define SAMPLER_HEAP_BPF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "sampler/bpf/heap.h"

/* How a program hangs on a breakpoint (enum bpf_attach_type); older headers do not know them. */
enum heap_bpf_attach {
    HEAP_BPF_PERF = 0, /* through a perf event */
    HEAP_BPF_MULTI = 48,
    HEAP_BPF_SESSION = 57,
};

enum heap_bpf_program {
    HEAP_BPF_ON_SESSION, /* call and return */
    HEAP_BPF_ON_CALL,
    HEAP_BPF_ON_RETURN,
};

struct heap_bpf;

/* Makes the maps. max_live: how many samples can be in use at a time. bpf_ret: owned by the caller.
 * Returns: NULL; ERROR_PERMISSION (CAP_BPF, CAP_PERFMON) or ERROR_UNSUPPORTED, with the remedy. */
struct error *heap_bpf_create(uint32_t max_live, struct heap_bpf **bpf_ret) MUST_CHECK;

/* Closes the maps; programs that hang somewhere keep theirs. NULL is fine. */
void heap_bpf_destroy(struct heap_bpf *bpf);

DEFINE_CLEANUP(heap_bpf_destroy, struct heap_bpf *)

/* Lists the descriptors that loading programs needs. Returns: how many; no more than max_fds. */
size_t heap_bpf_list_fds(const struct heap_bpf *bpf, int *fds, size_t max_fds);

/* Loads a program. fixed_cookie: of all breakpoints that it will hang on, when these have none of
 * their own; else 0. fd_ret: owned by the caller. Returns: NULL; ERROR_UNSUPPORTED when this kernel
 * does not know such programs; ERROR_PERMISSION. */
struct error *heap_bpf_load(const struct heap_bpf *bpf, enum heap_bpf_program program,
                            enum heap_bpf_attach attach, uint64_t fixed_cookie,
                            int *fd_ret) MUST_CHECK;

/* Lets the samples of a CPU be written through a perf event (PERF_COUNT_SW_BPF_OUTPUT), borrowed as
 * long as this lives. Returns: NULL or an error. */
struct error *heap_bpf_set_output(const struct heap_bpf *bpf, uint32_t cpu,
                                  int event_fd) MUST_CHECK;

/* Tells the number of a site in the programs' table, adding it when it is new.
 * Returns: NULL; ERROR_FAILED when the table is full. */
struct error *heap_bpf_add_site(struct heap_bpf *bpf, const struct heap_bpf_site *site,
                                uint32_t *index_ret) MUST_CHECK;

/* Sets the mean distance of samples, in bytes; 0: no samples. */
void heap_bpf_set_rate(const struct heap_bpf *bpf, uint64_t rate_bytes);

/* Adds up what all CPUs have counted (the fields beginning with num_, and position). */
void heap_bpf_count(const struct heap_bpf *bpf, struct heap_bpf_cpu *sum_ret);

/* Receives an entry of the table of what is in use. Returns: whether it stays there. */
typedef bool heap_bpf_live_fn(void *context, uint64_t process, uint64_t id);

/* Reads that table, as it changes: what is in it all the time is seen once. context: passed on.
 * Returns: NULL or an error. */
struct error *heap_bpf_visit_live(const struct heap_bpf *bpf, heap_bpf_live_fn *visit,
                                  void *context) MUST_CHECK;

#endif
