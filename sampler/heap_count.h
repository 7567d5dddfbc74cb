/* The heap engine where BPF is refused: one call of an allocator in so many, by perf events alone.
 *
 * A perf event on a uprobe is taken for one thread, so each thread of the target needs its own: a
 * hit gets dearer with each, and they go away slowly. Hence the limit of threads, and the choice of
 * few functions (malloc, calloc, realloc, operator new). What comes of it is worse than sampling by
 * bytes: one large allocation is as likely seen as one small, so sums of bytes err widely; nothing
 * is known of frees; new threads are found some time after they started.
 *
 * Its events are opened, and closed last, by the keeper (sampler/heap_keeper.h).
 *
 * Part of sampler/heap.h, behind its interface. Ownership: the caller owns the engine. Threads:
 * one.
 * Source: perf_event_open(2), kernel Documentation/trace/uprobetracer.rst, docs/adr/0024.
 */
#ifndef SAMPLER_HEAP_COUNT_H
#define SAMPLER_HEAP_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "profile/sample.h"
#include "sampler/heap.h"
#include "sampler/probe_site.h"

#define HEAP_COUNT_INTERVAL 127 /* no multiple of what programs repeat */
#define HEAP_COUNT_MAX_THREADS 16

struct heap_count;

/* Makes an engine without processes, and tries on ourselves whether it works. stack_bytes: of user
 * stack to copy. costs_ret: what a hit costs here, of a thread alone. count_ret: owned by the
 * caller. Returns: NULL; ERROR_UNSUPPORTED; ERROR_PERMISSION. */
struct error *heap_count_create(uint32_t stack_bytes, struct heap_costs *costs_ret,
                                struct heap_count **count_ret) MUST_CHECK;

/* Takes everything away. NULL is fine. */
void heap_count_destroy(struct heap_count *count);

/* Sets events on the sites of one module in all threads of a process. As heap_sampler_probe();
 * ERROR_UNSUPPORTED when it has more threads than HEAP_COUNT_MAX_THREADS together with those that
 * are watched already. */
struct error *heap_count_probe(struct heap_count *count, pid_t pid, int module_fd,
                               const struct heap_site *sites, size_t num_sites) MUST_CHECK;

/* Takes the events of a process away. */
void heap_count_forget(struct heap_count *count, pid_t pid);

/* Takes all events away, and returns when they are gone. */
void heap_count_let_go(struct heap_count *count);

/* Tells an epoll descriptor that is readable when there is something to drain. */
int heap_count_wait_fd(const struct heap_count *count);

/* Turns sampling on or off; off, calls are still counted. Starts off. */
void heap_count_set_sampling(struct heap_count *count, bool is_on);

/* Tells how many calls there are to a sample. */
uint64_t heap_count_interval(const struct heap_count *count);

/* About doubles that. */
void heap_count_double_interval(struct heap_count *count);

/* Hands over samples up to time `limit_ns`, in order of time for each thread; looks for threads
 * that started or ended, now and then. Returns: how many samples. */
size_t heap_count_drain(struct heap_count *count, uint64_t limit_ns, event_handler_fn *handler,
                        void *context);

/* Reads the counts: calls are exact but for threads not seen, bytes an estimate. */
void heap_count_counts(const struct heap_count *count, struct heap_counts *counts_ret);

#endif
