/* /proc/kallsyms: the kernel's own symbol table, text symbols only.
 *
 * The kernel makes the file while it is read, 0.2 us a line, so it is read no further than the
 * highest address asked for needs. It gives no sizes: a function reaches to the next symbol of any
 * kind, and never far over a page behind the last one of its module.
 * Ownership: the caller owns the table. Threads: none.
 * Source: Linux kernel/kallsyms.c (s_show), Documentation/admin-guide/sysctl/kernel.rst
 * (kptr_restrict).
 */
#ifndef SYMBOLIZE_KALLSYMS_H
#define SYMBOLIZE_KALLSYMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct kallsyms;

/* Opens the file at `path` ("/proc/kallsyms"); kallsyms_find() reads it.
 * kallsyms_ret: owned by the caller; NULL when no symbol has an address (the file is restricted).
 * Returns: NULL or an error naming the path. */
struct error *kallsyms_open(const char *path, struct kallsyms **kallsyms_ret) MUST_CHECK;

/* The same with the text of the file in memory; lines that make no sense are skipped.
 * text: num_bytes bytes; heap memory, consumed and changed in every case.
 * kallsyms_ret: as above. Returns: NULL or error_no_memory. */
struct error *kallsyms_parse_take(char *text, size_t num_bytes,
                                  struct kallsyms **kallsyms_ret) MUST_CHECK;

/* Frees the table. NULL is fine. */
void kallsyms_destroy(struct kallsyms *kallsyms);

/* Finds the kernel function at `pc`.
 * module_ret: name of its kernel module, "vmlinux" for the kernel proper; may be NULL.
 * Returns: its name, valid as long as the table; NULL when no text symbol covers it, or when memory
 * ran out on the way there. */
const char *kallsyms_find(struct kallsyms *kallsyms, uint64_t pc, const char **module_ret);

#endif
