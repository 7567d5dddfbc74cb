/* Flat and cumulative values by function: the numbers of `go tool pprof -top`.
 *
 * Flat = value of samples whose innermost leaf function it is; cum = value of samples in which it
 * occurs at all (counted once per sample, recursion included).
 * The texts of nodes are added to the string table of the profile's stack table; nothing else
 * changes. Ownership: rows are heap memory of the caller. Threads: none.
 */
#ifndef OUTPUT_TOP_H
#define OUTPUT_TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "output/heap_error.h"
#include "profile/profile.h"

struct top_row {
    uint32_t name; /* string id of the function name (equal names are one row, as in pprof) */
    int64_t flat;
    int64_t cum;
};

/* Computes one row for each function name, largest flat first (cum, then name break ties).
 * column: value column. rows_ret: heap array of the caller (NULL when empty). num_rows_ret: length.
 * Returns: NULL or error_no_memory. */
struct error *top_compute(const struct profile *profile, size_t column, struct top_row **rows_ret,
                          size_t *num_rows_ret) MUST_CHECK;

enum top_order {
    TOP_BY_FLAT,
    TOP_BY_CUM,
    TOP_BY_GROWTH, /* signed: of a difference, what grew most first */
    TOP_BY_CUM_GROWTH,
};

struct top_options {
    enum top_order order;
    size_t max_rows;                 /* 0: all */
    const struct heap_error *errors; /* of each sample, borrowed; NULL: not shown */
    bool is_difference;              /* of profile_subtract(): the samples from first_base on are
                                      * those of the base, whose total is 100 % as in pprof */
    size_t first_base;
};

/* Prints header and table as `go tool pprof -top` (or -top -cum) does. Rows under 0.5 % of the
 * total are left out and counted, as there. With errors, two more columns tell them.
 * options: NULL: all zero. Returns: NULL or an error when `stream` can't be written. */
struct error *top_print(const struct profile *profile, size_t column,
                        const struct top_options *options, FILE *stream) MUST_CHECK;

/* Tells the column that is shown unless asked otherwise: the default type, else the last. */
size_t top_default_column(const struct profile *profile);

/* Finds a column by its type's name or number, as pprof's -sample_index does ("inuse_space" also
 * finds "space"). column_ret: written when true is returned. Returns: false when there is none. */
bool top_find_column(const struct profile *profile, const char *name, size_t *column_ret);

/* Writes a value with its unit scaled as pprof does ("1.50s", "512kB", "42").
 * text: room for `text_bytes` bytes, always NUL-terminated. */
void top_format_value(int64_t value, const char *unit, char *text, size_t text_bytes);

#endif
