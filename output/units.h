/* Numbers for people, exactly as pprof prints them: units scaled, percentages to two digits.
 *
 * Ownership: strings returned are static or the caller's own. Threads: any.
 * Source: behaviour of `go tool pprof -top`, compared with it in the tests.
 */
#ifndef OUTPUT_UNITS_H
#define OUTPUT_UNITS_H

#include <stddef.h>
#include <stdint.h>

#define UNIT_VALUE_BYTES 64   /* enough for any formatted value with a unit of pprof's */
#define UNIT_PERCENT_BYTES 32 /* enough for any percentage, also of 1 ns */

/* Converts a value to another unit of the same family (memory, time, GCU).
 * to_unit: "auto" takes the largest unit in which the value is 1 or more; a unit of another family
 * takes the family's default. scaled_ret: the value in the unit returned, set in any case.
 * Returns: the unit's short name; `to_unit` when `from_unit` is of no family, "" when that is not
 * worth printing ("count", "auto"). */
const char *unit_scale(int64_t value, const char *from_unit, const char *to_unit,
                       double *scaled_ret);

/* Writes a value in a unit, "1.50s". text: room for `text_bytes` bytes, always NUL-terminated. */
void unit_format(int64_t value, const char *from_unit, const char *to_unit, char *text,
                 size_t text_bytes);

/* Writes value/total as a percentage padded to 6 characters, " 1.25%". text: as above. */
void unit_format_percent(int64_t value, int64_t total, char text[UNIT_PERCENT_BYTES]);

#endif
