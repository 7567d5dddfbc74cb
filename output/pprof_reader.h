/* Reads a pprof file (gzipped or raw profile.proto) into a profile: for `report`; or only the
 * places it names: for `symbolize`.
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

/* Inflates a file's bytes when they are gzip, and checks that they are neither none nor too many.
 * inflated_ret: heap memory of the caller; NULL when the bytes are the message itself.
 * message_ret, num_message_bytes_ret: the encoded Profile, in either of the two.
 * Returns: NULL; error_no_memory; ERROR_FAILED telling what is wrong. */
struct error *pprof_inflate(const void *bytes, size_t num_bytes, const char *name,
                            uint8_t **inflated_ret, const uint8_t **message_ret,
                            size_t *num_message_bytes_ret) MUST_CHECK;

/* The places of a profile. Rows of the table are in the order of the file: mapping id 1 is its
 * first mapping, location 0 its first location. Samples are not kept, so a file with more values in
 * each than PROFILE_MAX_VALUES is read as well. */
struct pprof_places {
    struct stack_table table;
    uint64_t *weights;      /* [locations] sum of the samples' last values over it */
    uint64_t *function_ids; /* [num_functions] id in the file of each of its functions */
    uint32_t
        *function_table_ids; /* [num_functions] function id of the table; equal ones share it */
    size_t num_functions;
    uint32_t *strings; /* [num_strings] by index in the file: string id of the table */
    size_t num_strings;
};

/* Reads what a message says of places. message: from pprof_inflate(). name: for error messages.
 * places_ret: uninitialised; on success the caller's, to be given to pprof_places_deinit().
 * Returns: NULL, error_no_memory, or ERROR_FAILED telling what is wrong with the file. */
struct error *pprof_read_places(const uint8_t *message, size_t num_bytes, const char *name,
                                struct pprof_places *places_ret) MUST_CHECK;

/* Frees it. A zeroed one is fine. */
void pprof_places_deinit(struct pprof_places *places);

/* Reads the file at `path` and parses it. Returns: as above; ERROR_NOT_FOUND, ERROR_PERMISSION. */
struct error *pprof_read_file(const char *path, struct stack_table *table,
                              struct profile *profile) MUST_CHECK;

#endif
