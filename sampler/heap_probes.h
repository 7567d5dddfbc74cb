/* Breakpoints (uprobes) with BPF programs: how they are set, and how they go.
 *
 * Three mechanisms, the newer the better; which of them works is found by trying
 * (sampler/heap_trial.h), since versions do not tell what a distribution has patched. All name a
 * file and offsets in it; the kernel puts the breakpoint into the memory of one process only, for
 * all its threads, and takes it out when the last descriptor is closed (but see
 * sampler/heap_keeper.h). Ownership: the caller owns the links. Threads: descriptors are closed by
 * threads of ours. Source: bpf(2) (BPF_LINK_CREATE), perf_event_open(2), kernel
 * Documentation/trace/uprobetracer.rst.
 */
#ifndef SAMPLER_HEAP_PROBES_H
#define SAMPLER_HEAP_PROBES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "sampler/heap.h"
#include "sampler/heap_bpf.h"

/* One breakpoint. */
struct heap_probe {
    uint64_t file_off;
    uint64_t cookie;      /* HEAP_BPF_COOKIE() */
    bool catches_returns; /* the return of its calls is of interest */
};

/* Programs that links share, for the two mechanisms that can; -1 where there is none. */
struct heap_programs {
    const struct heap_bpf *bpf; /* borrowed */
    enum heap_mechanism mechanism;
    int call_fd; /* of sessions: call and return */
    int return_fd;
};

/* Descriptors whose closing takes breakpoints away. */
struct heap_links {
    int *fds;
    size_t num_fds, capacity;
};

/* Loads the programs of a mechanism (not HEAP_MECHANISM_AUTO).
 * programs_ret: owned by the caller (heap_programs_deinit()). Returns: NULL; ERROR_UNSUPPORTED when
 * this kernel does not know it; ERROR_PERMISSION. */
struct error *heap_programs_load(const struct heap_bpf *bpf, enum heap_mechanism mechanism,
                                 struct heap_programs *programs_ret) MUST_CHECK;

/* Unloads them; links keep theirs. One whose descriptors are -1 is fine. */
void heap_programs_deinit(struct heap_programs *programs);

/* Tells where in our own file a function of ours is, to try a breakpoint on it. function: its
 * address. file_off_ret: the offset; changed in any case. Returns: false when it is nowhere. */
bool heap_probes_own_offset(uintptr_t function, uint64_t *file_off_ret);

/* Sets breakpoints in the memory of one process. path: of the file that they are in.
 * links: those made are added, also before an error. Returns: NULL; ERROR_GONE; ERROR_UNSUPPORTED;
 * ERROR_PERMISSION. */
struct error *heap_probes_set(const struct heap_programs *programs, pid_t pid, const char *path,
                              const struct heap_probe *probes, size_t num_probes,
                              struct heap_links *links) MUST_CHECK;

/* Moves all links of `from` to `to`. Returns: false without memory for that; nothing is moved. */
bool heap_links_move(struct heap_links *from, struct heap_links *to);

/* Closes links side by side, and returns when they are gone: each takes the kernel some 50 ms, all
 * together not much more. Empties the list. */
void heap_links_close(struct heap_links *links);

/* The same without waiting. num_closing: counted up until it is done, atomically, where that is not
 * NULL. A process must not end before: its threads die by SIGKILL then, and see heap_keeper.h. */
void heap_links_close_later(struct heap_links *links, size_t *num_closing);

#endif
