/* Reads a pprof file (gzipped or raw profile.proto) into a profile: for `report`.
 *
 * Accepts what Go, node and Rust really write (no mapping, address 0, all-zero samples, equal
 * stacks); the file is hostile: sizes, ids and counts are checked, memory is bounded. Ownership:
 * fills storage of the caller. Threads: none. Source: google/pprof proto/profile.proto.
 */
#ifndef OUTPUT_PPROF_READER_H
#define OUTPUT_PPROF_READER_H

#include <stddef.h>

#include "base/error.h"
#include "profile/profile.h"

#define PPROF_READER_MAX_BYTES (1ULL << 30) /* inflated size refused beyond this */

/* Parses `num_bytes` bytes. name: of the file, for error messages.
 * table, profile: uninitialised; on success initialised and owned by the caller, else untouched.
 * Returns: NULL, or ERROR_FAILED telling what is wrong with the file. */
struct error *pprof_read_bytes(const void *bytes, size_t num_bytes, const char *name,
                               struct stack_table *table, struct profile *profile) MUST_CHECK;

/* Reads the file at `path` and parses it. Returns: as above; ERROR_NOT_FOUND, ERROR_PERMISSION. */
struct error *pprof_read_file(const char *path, struct stack_table *table,
                              struct profile *profile) MUST_CHECK;

#endif
