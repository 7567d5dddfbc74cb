/* Names of kernel functions, one address at a time, told by the kernel itself.
 *
 * /proc/kallsyms can only be read from its start, 0.2 us a line: 25 ms for a handful of names. The
 * kernel's own look-up is a binary search, and printf format %ps of BPF programs makes it, so we
 * run a program of a few instructions that prints one address. It hangs on descriptors of ours, is
 * attached to nothing, and knows names even where kptr_restrict hides addresses from us: addresses
 * are what we bring along. Needs CAP_BPF and CAP_PERFMON and Linux 5.13; else read the file
 * (symbolize/kallsyms.h). Not for data symbols.
 * Ownership: the caller owns the object. Threads: none.
 * Source: bpf-helpers(7) (bpf_snprintf), kernel Documentation/core-api/printk-formats.rst.
 */
#ifndef SYMBOLIZE_KERNEL_NAMES_H
#define SYMBOLIZE_KERNEL_NAMES_H

#include <stdint.h>

#include "base/error.h"

struct kernel_names;

/* Loads the program. names_ret: owned by the caller.
 * Returns: NULL; ERROR_PERMISSION or ERROR_UNSUPPORTED (old kernel, build without BPF);
 * error_no_memory. */
struct error *kernel_names_open(struct kernel_names **names_ret) MUST_CHECK;

/* Unloads it. NULL is fine. */
void kernel_names_destroy(struct kernel_names *names);

/* Asks for the kernel function at `pc`.
 * module_ret: name of its kernel module, "bpf" for BPF programs, "vmlinux" for the kernel proper;
 * may be NULL. Returns: its name, valid as long as `names`; NULL when the kernel has no name for
 * the address, or memory is short. */
const char *kernel_names_find(struct kernel_names *names, uint64_t pc, const char **module_ret);

/* Splits in place what the kernel prints for an address: "name" or "name [module]".
 * text: becomes the name. Returns: the module as above, valid as long as `text`; NULL when it is a
 * number: there is no name. Source: kernel kernel/kallsyms.c (__sprint_symbol). */
const char *kernel_name_split(char *text);

#endif
