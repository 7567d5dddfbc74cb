#include "base/string_table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/hash.h"

struct error *string_table_init(struct string_table *table)
{
    uint32_t empty_id;

    *table = (struct string_table){0};
    arena_init(&table->arena);
    hash_index_init(&table->index);
    table->hash_seed = hash_seed_draw();
    struct error *err = string_table_add_bytes(table, "", 0, &empty_id);
    if (err)
        string_table_deinit(table);
    return err;
}

void string_table_deinit(struct string_table *table)
{
    arena_deinit(&table->arena);
    hash_index_deinit(&table->index);
    free(table->strings);
    *table = (struct string_table){0};
}

static bool find_bytes(const struct string_table *table, uint64_t hash, const char *bytes,
                       size_t num_bytes, uint32_t *id_ret)
{
    struct hash_index_cursor cursor = hash_index_first(&table->index, hash);
    uint32_t id;

    while (hash_index_next(&table->index, &cursor, &id)) {
        const char *string = table->strings[id];
        /* `bytes` holds no NUL: strncmp stops at a shorter string, and the byte behind tells a
         * longer one. */
        if (strncmp(string, bytes, num_bytes) == 0 && string[num_bytes] == '\0') {
            *id_ret = id;
            return true;
        }
    }
    return false;
}

struct error *string_table_add_bytes(struct string_table *table, const char *bytes,
                                     size_t num_bytes, uint32_t *id_ret)
{
    uint32_t id;

    if (!bytes) {
        bytes = "";
        num_bytes = 0;
    }
    num_bytes = strnlen(bytes, num_bytes);
    uint64_t hash = hash_bytes_seeded(table->hash_seed, bytes, num_bytes);
    if (find_bytes(table, hash, bytes, num_bytes, id_ret))
        return NULL;

    if (table->num_strings >= UINT32_MAX)
        return &error_no_memory;
    RETURN_IF_ERROR(array_reserve(&table->strings, &table->capacity, table->num_strings + 1,
                                  sizeof(*table->strings)));
    const char *copy = arena_copy(&table->arena, bytes, num_bytes);
    if (!copy)
        return &error_no_memory;
    id = (uint32_t)table->num_strings;
    RETURN_IF_ERROR(hash_index_insert(&table->index, hash, id));
    table->strings[id] = copy;
    table->num_strings++;
    *id_ret = id;
    return NULL;
}

struct error *string_table_add(struct string_table *table, const char *string, uint32_t *id_ret)
{
    return string_table_add_bytes(table, string, string ? strlen(string) : 0, id_ret);
}

struct error *string_table_vaddf(struct string_table *table, uint32_t *id_ret, const char *format,
                                 va_list args)
{
    char buffer[256];
    va_list again;

    va_copy(again, args);
    int length = vsnprintf(buffer, sizeof(buffer), format, args);
    CLEANUP(free) char *text = NULL;
    if (length >= 0 && (size_t)length >= sizeof(buffer)) {
        text = malloc((size_t)length + 1);
        if (text)
            vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    if (length < 0 || ((size_t)length >= sizeof(buffer) && !text))
        return &error_no_memory;
    return string_table_add_bytes(table, text ? text : buffer, (size_t)length, id_ret);
}

struct error *string_table_addf(struct string_table *table, uint32_t *id_ret, const char *format,
                                ...)
{
    va_list args;

    va_start(args, format);
    struct error *err = string_table_vaddf(table, id_ret, format, args);
    va_end(args);
    return err;
}

bool string_table_find(const struct string_table *table, const char *string, uint32_t *id_ret)
{
    size_t num_bytes = strlen(string);

    return find_bytes(table, hash_bytes_seeded(table->hash_seed, string, num_bytes), string,
                      num_bytes, id_ret);
}

size_t string_table_bytes(const struct string_table *table)
{
    return table->arena.total_bytes + table->num_strings * sizeof(*table->strings) +
           hash_index_bytes(&table->index);
}

const char *string_table_get(const struct string_table *table, uint32_t id)
{
    return id < table->num_strings ? table->strings[id] : "";
}
