/* Interned strings: equal strings get one id; id 0 is "".
 *
 * Strings are arbitrary bytes without NUL as they came in; valid UTF-8 is made by whoever writes
 * them out (output/, with utf8_sanitize()). Ids are dense: 0..num-1 in order of first use.
 * Ownership: the table owns the copies; returned pointers live as long as the table.
 * Threads: none.
 */
#ifndef BASE_STRING_TABLE_H
#define BASE_STRING_TABLE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/hash_index.h"

struct string_table {
    struct arena arena;
    const char **strings; /* strings[id], NUL-terminated */
    size_t num_strings;   /* at least 1 after init */
    size_t capacity;
    struct hash_index index;
    uint64_t hash_seed; /* also for tables built over this one */
};

/* Makes a table that holds just "" in the caller's storage. Returns: NULL or error_no_memory. */
struct error *string_table_init(struct string_table *table) MUST_CHECK;

/* Frees all strings. A zeroed table is fine. */
void string_table_deinit(struct string_table *table);

/* Interns the NUL-terminated `string` (NULL counts as "").
 * id_ret: its id. Returns: NULL or error_no_memory. */
struct error *string_table_add(struct string_table *table, const char *string,
                               uint32_t *id_ret) MUST_CHECK;

/* Interns `num_bytes` bytes at `bytes`, cut at the first NUL. id_ret: the id. Returns: as above. */
struct error *string_table_add_bytes(struct string_table *table, const char *bytes,
                                     size_t num_bytes, uint32_t *id_ret) MUST_CHECK;

/* Interns a printf-formatted string. id_ret: the id. Returns: as above. */
struct error *string_table_addf(struct string_table *table, uint32_t *id_ret, const char *format,
                                ...) PRINTF_LIKE(3, 4) MUST_CHECK;

/* The same with a va_list, which is used up. */
struct error *string_table_vaddf(struct string_table *table, uint32_t *id_ret, const char *format,
                                 va_list args) PRINTF_LIKE(3, 0) MUST_CHECK;

/* Finds `string` without adding it. id_ret: its id. Returns: whether it is there. */
bool string_table_find(const struct string_table *table, const char *string, uint32_t *id_ret);

/* Tells the memory that the strings fill, in bytes. */
size_t string_table_bytes(const struct string_table *table);

/* Tells the string of an id; "" for an id that was never given out. Never NULL. */
const char *string_table_get(const struct string_table *table, uint32_t id);

/* Copies `string` with every byte that is not part of valid UTF-8, and every control character,
 * replaced by U+FFFD. copy_ret: heap memory owned by the caller. Returns: NULL or error_no_memory.
 * Source: Unicode 15 table 3-7 (well-formed UTF-8 byte sequences). */
struct error *utf8_sanitize(const char *string, char **copy_ret) MUST_CHECK;

#endif
