/* All rings of a sampler: for each CPU one for samples and one for the sideband, within a memory
 * limit.
 *
 * Sideband (mmap, comm, fork, exit) has rings of its own so that a flood of samples never pushes a
 * mapping out. Not reading (sampler/perf_merge.h). Ownership: the rings own their events and
 * mappings. Threads: one reader. Source: perf_event_open(2), design.md 4 (Order across CPUs),
 * concurrency.md 6 (locked memory).
 */
#ifndef SAMPLER_PERF_RINGS_H
#define SAMPLER_PERF_RINGS_H

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "sampler/cpu_list.h"
#include "sampler/perf_ring.h"
#include "sampler/sampler.h"

/* The rings of one CPU. */
struct perf_cpu_rings {
    uint32_t cpu;
    struct perf_ring data; /* samples; owned by an idle event that sampling events write through; fd
                            * -1 where nothing is sampled */
    struct perf_ring
        urgent; /* the same, but readable from its first record on; fd -1 unless opened */
    struct perf_ring sideband;
};

struct perf_rings {
    struct perf_cpu_rings *cpus; /* ascending by cpu */
    size_t num_cpus;
    int epoll_fd;      /* readable when one of the rings has something that is worth a look */
    size_t num_events; /* that own rings */
    size_t bytes;      /* all rings together */
    bool is_small;     /* had to shrink for lack of lockable memory */
};

/* How large the rings of one CPU are. */
struct perf_rings_size {
    size_t data_bytes;
    size_t sideband_bytes;
};

/* Picks the size of the rings of `num_cpus` CPUs within options->max_ring_bytes: a quarter
 * of a second of samples of a busy CPU, if there is room. Returns: powers of two. */
struct perf_rings_size perf_rings_choose_size(const struct sampler_options *options,
                                              size_t num_cpus);

/* Opens on every CPU of `cpus` the events that own the rings (`pid` as in perf_event_open(2)) and
 * maps them; while the kernel refuses the memory, tries again with half of it. CPUs that went
 * offline are left out. CPUs that are not to be sampled (options->cpus) have sideband only, of a
 * cgroup's tasks alone when that is the scope. sideband_attr: of the event that owns the sideband
 * ring; NULL: no such rings. The data rings are owned by events that do nothing, so that they
 * outlive tasks and sampling events can be moved. rings_ret: owned by the caller
 * (perf_rings_deinit()). Returns: NULL; ERROR_PERMISSION; ERROR_UNSUPPORTED. */
struct error *perf_rings_init(const struct sampler_options *options, const struct cpu_list *cpus,
                              pid_t pid, const struct perf_event_attr *sideband_attr,
                              struct perf_rings *rings_ret) MUST_CHECK;

/* Opens the urgent rings, as large as the others, once. pid: as above.
 * Returns: NULL, or an error; then there are none. */
struct error *perf_rings_open_urgent(struct perf_rings *rings, pid_t pid) MUST_CHECK;

/* Closes all. Rings that were never initialised must be zeroed with epoll_fd -1. */
void perf_rings_deinit(struct perf_rings *rings);

#endif
