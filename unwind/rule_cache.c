#include "unwind/rule_cache.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct rule_cache_entry) == 32, "two entries to a cache line");

struct error *rule_cache_init(struct rule_cache *cache)
{
    cache->entries = calloc((size_t)1 << RULE_CACHE_BITS, sizeof(*cache->entries));
    return cache->entries ? NULL : &error_no_memory;
}

void rule_cache_deinit(struct rule_cache *cache)
{
    free(cache->entries);
    cache->entries = NULL;
}

void rule_cache_clear(struct rule_cache *cache)
{
    memset(cache->entries, 0, ((size_t)1 << RULE_CACHE_BITS) * sizeof(*cache->entries));
}
