/* The difference of two profiles: what `go tool pprof -diff_base` shows.
 *
 * Values are subtracted as they are, not scaled to equal durations. Functions are matched by name
 * when a table is made of it; places keep theirs. Ownership: as profiles. Threads: none.
 */
#ifndef OUTPUT_PROFILE_DIFF_H
#define OUTPUT_PROFILE_DIFF_H

#include <stdbool.h>

#include "base/error.h"
#include "profile/profile.h"

/* Takes out the samples that stand for memory without a stack: `[allocated before attach]` and
 * `[untracked]`. removed_ret: their sum in `column`. */
void profile_remove_rest(struct profile *profile, size_t column, int64_t *removed_ret);

/* Finds the column of `base` of the same type and unit as a column of `profile`.
 * column_ret: written when true is returned. Returns: false when there is none. */
bool profile_find_like(const struct profile *profile, size_t column, const struct profile *base,
                       size_t *column_ret);

/* Appends the samples of `base` with negative values. Columns are matched by type and unit; one
 * that `base` does not have stays as it is. profile: over a table of its own; it is no longer to be
 * added to by profile_add(). Returns: NULL or error_no_memory. */
struct error *profile_subtract(struct profile *profile, const struct profile *base) MUST_CHECK;

#endif
