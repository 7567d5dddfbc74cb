/* The keeper: a small process of ours that sets breakpoints and takes them away, so that our own
 * sudden death never leaves one behind.
 *
 * The kernel takes breakpoints away when the last descriptor of a link is closed, also at the end
 * of a process. But not where SIGKILL reaches a process inside the very system call that sets or
 * removes them: then it gives up half way ("failed to unregister, leaking uprobe"), and the
 * breakpoints stay in the target's code until it ends. So these calls are made by a process that
 * whoever kills us does not mean: in a session of its own, under another name, deaf to signals, and
 * the last one that lack of memory ends. It does as it is told, and ends when we do.
 *
 * Ownership: the caller owns the keeper. Threads: one caller; it closes links by threads of its
 * own, since the kernel takes some 50 ms for each. Source: kernel/events/uprobes.c
 * (uprobe_unregister_nosync), mm/gup.c (fatal_signal_pending), unix(7) (SCM_RIGHTS).
 */
#ifndef SAMPLER_HEAP_KEEPER_H
#define SAMPLER_HEAP_KEEPER_H

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "sampler/heap_probes.h"

struct heap_keeper;

/* Starts it. programs: it keeps their descriptors and those of their maps, none else of ours; NULL:
 * it is for heap_keeper_open_event() only.
 * keeper_ret: owned by the caller. Returns: NULL or an error. */
struct error *heap_keeper_start(const struct heap_programs *programs,
                                struct heap_keeper **keeper_ret) MUST_CHECK;

/* Sets breakpoints in a process, which is `number` to us: heap_probes_set(). file_fd: of the file
 * that they are in. Returns: as there; ERROR_FAILED when the keeper is gone, and all breakpoints
 * with it. */
struct error *heap_keeper_set(struct heap_keeper *keeper, uint32_t number, pid_t pid, int file_fd,
                              const struct heap_probe *probes, size_t num_probes) MUST_CHECK;

/* Opens a perf event on a uprobe for one thread; breakpoints come and go with it. It goes when both
 * this side has closed its descriptor and the keeper has dropped `number`, in this order.
 * number: of the caller's choice, for many events or one. file_fd: of the file that it is in; attr:
 * config1 is filled in. fd_ret: owned by the caller. Returns: NULL; an error with the errno value
 * of perf_event_open(2); ERROR_FAILED when the keeper is gone. */
struct error *heap_keeper_open_event(struct heap_keeper *keeper, uint32_t number, pid_t tid,
                                     int file_fd, const struct perf_event_attr *attr,
                                     int *fd_ret) MUST_CHECK;

/* Takes those of a process away, some time soon. */
void heap_keeper_drop(struct heap_keeper *keeper, uint32_t number);

/* Takes all away, and returns when they are gone. */
void heap_keeper_drop_all(struct heap_keeper *keeper);

/* Tells whether somebody has killed it, and all breakpoints with it. */
bool heap_keeper_is_gone(const struct heap_keeper *keeper);

/* Takes all away and ends it. NULL is fine. */
void heap_keeper_stop(struct heap_keeper *keeper);

DEFINE_CLEANUP(heap_keeper_stop, struct heap_keeper *)

#endif
