/* A pprof file that gets names: what it says stays byte by byte as it was written, by whatever
 * tool; only locations get other lines, their mappings flags, and behind the functions and strings
 * there are come new ones.
 *
 * So samples, labels, comments, and fields that we do not know survive, and their order does.
 * Not a way to change anything else. The file is hostile: see output/pprof_reader.h.
 * Ownership: the caller owns the patch. Threads: none.
 * Source: google/pprof proto/profile.proto; protobuf documentation, "Encoding".
 */
#ifndef OUTPUT_PPROF_PATCH_H
#define OUTPUT_PPROF_PATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "profile/stack_table.h"

struct pprof_patch;

/* Reads the bytes of a file. bytes: outlive the patch. name: of the file, for error messages,
 * copied. patch_ret: owned by the caller. Returns: NULL, error_no_memory, or ERROR_FAILED telling
 * what is wrong with the file. */
struct error *pprof_patch_open(const void *bytes, size_t num_bytes, const char *name,
                               struct pprof_patch **patch_ret) MUST_CHECK;

/* Frees it. NULL is fine. */
void pprof_patch_destroy(struct pprof_patch *patch);

DEFINE_CLEANUP(pprof_patch_destroy, struct pprof_patch *)

/* Tells the table with the places of the file: mappings and locations in its order. The caller may
 * set lines and the mappings' has_* flags, and add functions and strings. Borrowed. */
struct stack_table *pprof_patch_table(struct pprof_patch *patch);

/* Tells what each location stands for: the sum of the samples' last values. Borrowed. */
const uint64_t *pprof_patch_weights(const struct pprof_patch *patch);

/* Counts the locations whose lines are others than those in the file. */
size_t pprof_patch_num_changed(const struct pprof_patch *patch);

/* Writes the file with the changes of the table, gzipped; new strings are made valid UTF-8. name:
 * of the file written, for error messages. Returns: NULL or an error; then what was written is
 * worthless. */
struct error *pprof_patch_write(struct pprof_patch *patch, int fd, const char *name) MUST_CHECK;

#endif
