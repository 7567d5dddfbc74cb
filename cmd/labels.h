/* Labels of samples: whose they are.
 *
 * Not those that tell a size (profile/heap.h). Ownership: the caller owns the keys; they belong to
 * one stack table. Threads: none. Source: docs/glossary.md (label).
 */
#ifndef CMD_LABELS_H
#define CMD_LABELS_H

#include <stdint.h>

#include "base/error.h"
#include "profile/stack_table.h"
#include "target/target.h"

/* Keys, string ids. */
struct label_keys {
    uint32_t pid, thread_id, thread_name, comm;
};

/* Interns the keys. Returns: NULL or error_no_memory. */
struct error *label_keys_init(struct label_keys *keys, struct stack_table *table) MUST_CHECK;

/* Interns the labels of a thread: pid, thread_id, thread_name, comm. process: NULL: unknown, then
 * the names are left out. label_set_ret: the id. Returns: NULL or error_no_memory. */
struct error *labels_of_thread(const struct label_keys *keys, struct stack_table *table,
                               const struct process *process, uint32_t pid, uint32_t tid,
                               uint32_t *label_set_ret) MUST_CHECK;

/* Interns the labels of what a process has as a whole: pid, comm. Returns: as above. */
struct error *labels_of_process(const struct label_keys *keys, struct stack_table *table,
                                const struct process *process, uint32_t *label_set_ret) MUST_CHECK;

#endif
