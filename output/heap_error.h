/* How far off the values of a sampled heap profile may be, by chance.
 *
 * A row says how many objects of which size its samples stand for; from that and the rate follows
 * how many samples there were and how much their number varies. Rows of memory that was not sampled
 * ([untracked] and the like) have none. Works for Go's heap profiles as well as for ours.
 * Not bias, not what the sampler cannot see. Ownership: the array is the caller's. Threads: none.
 * Source: variance of the Horvitz-Thompson estimator under Poisson sampling.
 */
#ifndef OUTPUT_HEAP_ERROR_H
#define OUTPUT_HEAP_ERROR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "profile/profile.h"

/* The error of a value, or of a sum of values: both members add up. */
struct heap_error {
    double variance;    /* of the value, in its unit squared */
    double num_samples; /* how many samples it comes from; 0: it was not sampled */
};

/* Tells whether a column's errors can be known: objects or space of a profile that was sampled by
 * space. */
bool heap_error_is_known(const struct profile *profile, size_t column);

/* Computes the error of each sample of a column for which heap_error_is_known().
 * errors_ret: heap array of the caller, one for each sample (at least one element).
 * Returns: NULL or error_no_memory. */
struct error *heap_error_compute(const struct profile *profile, size_t column,
                                 struct heap_error **errors_ret) MUST_CHECK;

/* The same for a profile from which another was subtracted (output/profile_diff.h), whose samples
 * begin at `first_base`: what both hold of one stack and thread of one process are the same
 * samples, so only those are in error by which they differ.
 * errors: of both, changed in place. Returns: NULL or error_no_memory. */
struct error *heap_error_cancel(const struct profile *profile, size_t first_base,
                                struct heap_error *errors) MUST_CHECK;

/* Tells the standard deviation of a sum as a share of it: 0.1 = 10 %. value: not 0. */
double heap_error_share(const struct heap_error *error, double value);

#endif
