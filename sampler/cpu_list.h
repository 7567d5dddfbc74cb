/* Lists of CPU numbers as the kernel writes them: "0-3,8,10-11".
 *
 * Not topology, not hotplug: the list is what was online when it was read.
 * Ownership: the list owns its numbers. Threads: none.
 * Source: kernel Documentation/admin-guide/cputopology.rst (/sys/devices/system/cpu/online).
 */
#ifndef SAMPLER_CPU_LIST_H
#define SAMPLER_CPU_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

#define CPU_LIST_MAX_CPUS 65536 /* numbers at or above it are refused */

struct cpu_list {
    uint32_t *cpus; /* ascending, each once */
    size_t num_cpus;
};

/* Parses `text`, with or without blanks and a newline at its end. Ranges may overlap.
 * list_ret: owned by the caller (cpu_list_deinit()). Returns: NULL; ERROR_USAGE naming the text
 * when it is no list or an empty one; error_no_memory. */
struct error *cpu_list_parse(const char *text, struct cpu_list *list_ret) MUST_CHECK;

/* Reads the CPUs that are online now. list_ret: owned by the caller. Returns: NULL or an error. */
struct error *cpu_list_online(struct cpu_list *list_ret) MUST_CHECK;

/* Checks that all CPUs of `wanted` are online. Returns: NULL; ERROR_NOT_FOUND naming the first that
 * is offline or not there; another error when the CPUs that are online can't be told. */
struct error *cpu_list_check_online(const struct cpu_list *wanted) MUST_CHECK;

/* Tells whether `cpu` is in the list. */
bool cpu_list_has(const struct cpu_list *list, uint32_t cpu);

/* Writes the list as the kernel does, "0-3,8"; what does not fit is cut and ends in "...".
 * text: room for `text_bytes` >= 8. */
void cpu_list_format(const struct cpu_list *list, char *text, size_t text_bytes);

/* Frees the numbers. A zeroed list is fine. */
void cpu_list_deinit(struct cpu_list *list);

DEFINE_CLEANUP(cpu_list_deinit, struct cpu_list *)

#endif
