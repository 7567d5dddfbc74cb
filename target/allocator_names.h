/* The names of functions that allocate and free: one table of roots and one of prefixes.
 *
 * A new allocator is a prefix, and some rows for what it has beside the usual. Threads: any.
 * Source: as of target/allocator.h.
 */
#ifndef TARGET_ALLOCATOR_NAMES_H
#define TARGET_ALLOCATOR_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "target/allocator.h"

#define ALLOCATOR_MAX_PREFIXES 16

/* What a name tells. */
struct allocator_name {
    enum allocator_role role;
    enum allocator_family family;
    uint32_t prefix; /* of ALLOCATOR_OWN: which, 0 to ALLOCATOR_MAX_PREFIXES - 1; else 0 */
    bool is_malloc;  /* the one called malloc but for its prefix */
};

/* Looks a name up, as it stands in a symbol table (C++ names are mangled); none is as long as
 * ALLOCATOR_NAME_BYTES. name_ret: written on success only. Returns: false when it is none of an
 * allocator. */
bool allocator_name_find(const char *name, struct allocator_name *name_ret);

#endif
