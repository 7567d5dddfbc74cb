/* The addresses that somebody asks for: sorted, so that a reader of debug info can tell in no time
 * which parts of it matter, and skip the others.
 *
 * Ownership: borrowed array. Threads: values.
 */
#ifndef SYMBOLIZE_DWARF_PLACES_H
#define SYMBOLIZE_DWARF_PLACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/array.h"

struct dwarf_places {
    const uint64_t *addrs; /* ascending, no doubles */
    size_t num;
};

/* Tells the number of the first place at or behind `elf_addr`; places.num when there is none. */
static inline size_t dwarf_places_from(struct dwarf_places places, uint64_t elf_addr)
{
    return array_search(places.num, at, places.addrs[at] < elf_addr);
}

/* Tells whether any place is in [start, limit). first_ret: the first such place. */
static inline bool dwarf_places_within(struct dwarf_places places, uint64_t start, uint64_t limit,
                                       size_t *first_ret)
{
    *first_ret = dwarf_places_from(places, start);
    return *first_ret < places.num && places.addrs[*first_ret] < limit;
}

#endif
