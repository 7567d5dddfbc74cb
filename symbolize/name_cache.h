/* Raw symbol -> string id of its readable name, each demangled once.
 *
 * Ownership: the cache owns copies of the raw names; it borrows the string table. Threads: none.
 */
#ifndef SYMBOLIZE_NAME_CACHE_H
#define SYMBOLIZE_NAME_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/string_table.h"

struct name_cache {
    struct string_table *strings; /* borrowed: where readable names go */
    struct string_table raw;
    uint32_t *readable; /* by id in raw; 0 = not made yet */
    size_t capacity;
    struct arena arena; /* scratch of the demangler */
};

/* Makes an empty cache in the caller's storage. Returns: NULL or error_no_memory. */
struct error *name_cache_init(struct name_cache *cache, struct string_table *strings) MUST_CHECK;

/* Frees the cache; the strings stay. A zeroed cache is fine. */
void name_cache_deinit(struct name_cache *cache);

/* Tells the readable name of a linker symbol (symbol_demangle()).
 * id_ret: its id in the string table. Returns: NULL or error_no_memory. */
struct error *name_cache_get(struct name_cache *cache, const char *symbol,
                             uint32_t *id_ret) MUST_CHECK;

#endif
