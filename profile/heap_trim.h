/* Frames of the allocator itself at the leaf of a heap profile's stacks: operator new, and what
 * lies between malloc and the first function of the program or of a library that wanted memory.
 *
 * By name, so after symbolization. strdup, xmalloc, std::allocator and other wrappers are the
 * program's and stay. Ownership: changes profile and table in place. Threads: none.
 */
#ifndef PROFILE_HEAP_TRIM_H
#define PROFILE_HEAP_TRIM_H

#include <stdbool.h>

#include "base/error.h"
#include "profile/profile.h"

/* Tells whether a function of this name is an allocator's entry: malloc and its kin in all known
 * spellings, operator new, Rust's __rust_alloc, alloc::alloc and global allocators.
 * name: demangled, with or without parameters. */
bool heap_is_allocator(const char *name);

/* Cuts the frames of allocators off the leaf end of all stacks of the profile, and adds up samples
 * that are alike then. Of a location with inlined lines, those up to the outermost one of an
 * allocator go; it then has a twin with the others (REASON_TRIMMED). A stack of nothing else stays
 * as it is. Other profiles and the live set keep their stacks, so it may be called at each
 * snapshot. Returns: NULL or error_no_memory (some stacks may be cut then, sums are right). */
struct error *heap_trim_allocator(struct profile *profile) MUST_CHECK;

/* The same for a profile of page faults, where the allocator is at work when it is sampled: all
 * frames up to the outermost allocator's go, and of what faults outside of one, memset and memcpy
 * at the leaf. Returns: as above. */
struct error *heap_trim_growth(struct profile *profile) MUST_CHECK;

#endif
