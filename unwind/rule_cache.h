/* A direct-mapped cache of unwind rules by (pc, generation of the address space).
 *
 * 16384 entries of 32 bytes: 512 KB, hit by 88-99 % of all frames (unwinding.md 3). An entry also
 * remembers which row of the maps held the pc, as a hint. Nothing is cached for a pc outside every
 * mapping, since such a mapping may show up later.
 * Ownership: the cache owns its entries. Threads: none.
 */
#ifndef UNWIND_RULE_CACHE_H
#define UNWIND_RULE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "unwind/cfi_rule.h"

#define RULE_CACHE_BITS 14

struct rule_cache_entry {
    uint64_t pc;
    uint32_t generation;
    uint32_t vma_hint;       /* index into maps->vmas at the time; check before use */
    struct unwind_rule rule; /* RULE_EMPTY: the entry is free */
};

struct rule_cache {
    struct rule_cache_entry *entries;
};

/* Makes an empty cache. Returns: NULL or error_no_memory. */
struct error *rule_cache_init(struct rule_cache *cache) MUST_CHECK;

/* Frees the entries. A zeroed cache is fine. */
void rule_cache_deinit(struct rule_cache *cache);

/* Forgets all entries. */
void rule_cache_clear(struct rule_cache *cache);

/* Tells the only place where (pc, generation) may be; the caller looks whether it is there, and
 * writes it when it is not. */
static inline struct rule_cache_entry *rule_cache_slot(const struct rule_cache *cache, uint64_t pc,
                                                       uint32_t generation)
{
    uint64_t key = pc ^ ((uint64_t)generation << 40);

    /* Fibonacci hashing: the upper bits of the product depend on all bits of the key. */
    return &cache->entries[(key * 0x9e3779b97f4a7c15ULL) >> (64 - RULE_CACHE_BITS)];
}

/* Tells whether a slot holds the rule of (pc, generation). */
static inline bool rule_cache_holds(const struct rule_cache_entry *entry, uint64_t pc,
                                    uint32_t generation)
{
    return entry->pc == pc && entry->generation == generation && entry->rule.kind != RULE_EMPTY;
}

#endif
