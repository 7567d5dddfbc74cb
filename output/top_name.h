/* What a function or a file is called in a table, as pprof calls it.
 *
 * Not demangling (symbolize/ did that before the profile was written); only pprof's last resort for
 * names that no one demangled: parameters and template arguments are cut.
 * Ownership: texts go into the string table given. Threads: none.
 */
#ifndef OUTPUT_TOP_NAME_H
#define OUTPUT_TOP_NAME_H

#include <stdint.h>

#include "base/error.h"
#include "base/string_table.h"
#include "profile/stack_table.h"

/* Tells the name of a function; the id of "" when it has none.
 * name_ret: string id. Returns: NULL or error_no_memory. */
struct error *top_name_of_function(struct string_table *strings, const struct function *function,
                                   uint32_t *name_ret) MUST_CHECK;

/* Tells what stands for frames without a name: "[libfoo.so]", or "<unknown>" without a file.
 * path: string id. text_ret: string id. Returns: NULL or error_no_memory. */
struct error *top_name_of_file(struct string_table *strings, uint32_t path,
                               uint32_t *text_ret) MUST_CHECK;

/* Tells the last part of a path, without trailing slashes. num_bytes_ret: its length.
 * Returns: a pointer into `path`, or to "." or "/" when there is no last part. */
const char *top_name_base(const char *path, size_t *num_bytes_ret);

#endif
