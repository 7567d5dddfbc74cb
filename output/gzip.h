/* gzip, both ways: a stream of bytes into a file descriptor, and a file's bytes back.
 *
 * Written files carry no time and no name, so equal input gives equal bytes.
 * Not for anything but whole gzip files. Ownership: see each function. Threads: none.
 * Source: RFC 1952, zlib manual.
 */
#ifndef OUTPUT_GZIP_H
#define OUTPUT_GZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

struct gzip_writer;

/* Starts a gzip file in `fd`, which stays the caller's. name: of the file, for error messages,
 * borrowed. writer_ret: owned by the caller. Returns: NULL or error_no_memory. */
struct error *gzip_writer_create(int fd, const char *name,
                                 struct gzip_writer **writer_ret) MUST_CHECK;

/* Frees a writer, finished or not; NULL is fine. */
void gzip_writer_destroy(struct gzip_writer *writer);

/* Adds bytes. Returns: NULL, or an error when `fd` can't be written. */
struct error *gzip_writer_add(struct gzip_writer *writer, const void *bytes,
                              size_t num_bytes) MUST_CHECK;

/* Ends the file: trailer and all that was still buffered. Nothing may be added after it.
 * Returns: as above. */
struct error *gzip_writer_finish(struct gzip_writer *writer) MUST_CHECK;

DEFINE_CLEANUP(gzip_writer_destroy, struct gzip_writer *)

/* Tells whether bytes begin as a gzip file does. */
bool gzip_is_magic(const uint8_t *bytes, size_t num_bytes);

/* Inflates a gzip file of one or more members (RFC 1952 2.2: they are concatenated).
 * max_bytes: inflated size beyond which it is refused. name: of the file, for error messages.
 * inflated_ret: heap memory of the caller. num_inflated_ret: its length in bytes.
 * Returns: NULL; error_no_memory; ERROR_FAILED "truncated gzip", "broken gzip", "too large". */
struct error *gzip_inflate(const uint8_t *bytes, size_t num_bytes, size_t max_bytes,
                           const char *name, uint8_t **inflated_ret,
                           size_t *num_inflated_ret) MUST_CHECK;

#endif
