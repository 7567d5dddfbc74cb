#include "symbolize/name_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "symbolize/symbolize.h"

struct error *name_cache_init(struct name_cache *cache, struct string_table *strings)
{
    *cache = (struct name_cache){.strings = strings};
    arena_init(&cache->arena);
    return string_table_init(&cache->raw);
}

void name_cache_deinit(struct name_cache *cache)
{
    string_table_deinit(&cache->raw);
    arena_deinit(&cache->arena);
    free(cache->readable);
    *cache = (struct name_cache){0};
}

struct error *name_cache_get(struct name_cache *cache, const char *symbol, uint32_t *id_ret)
{
    size_t old_capacity = cache->capacity;
    const char *readable;
    uint32_t raw;

    RETURN_IF_ERROR(string_table_add(&cache->raw, symbol, &raw));
    RETURN_IF_ERROR(
        array_reserve(&cache->readable, &cache->capacity, (size_t)raw + 1, sizeof(uint32_t)));
    if (cache->capacity > old_capacity)
        memset(cache->readable + old_capacity, 0,
               (cache->capacity - old_capacity) * sizeof(uint32_t));
    if (cache->readable[raw] == 0) {
        readable = symbol_demangle(&cache->arena, symbol);
        if (!readable)
            return &error_no_memory;
        RETURN_IF_ERROR(string_table_add(cache->strings, readable, &cache->readable[raw]));
    }
    *id_ret = cache->readable[raw];
    return NULL;
}
