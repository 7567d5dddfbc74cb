/* An open-addressing index from 64-bit hashes to 32-bit item numbers: the one hash table of the
 * program. The items themselves live in an array of the owner; the owner compares them.
 *
 *     struct hash_index_cursor cursor = hash_index_first(&index, hash);
 *     while (hash_index_next(&index, &cursor, &item))
 *         if (items[item] equals the key)
 *             return item;                             found
 *     err = hash_index_insert(&index, hash, num_items); new item number
 *
 * Not a general map: no removal of one entry (clear all instead). Keeps its load below 2/3.
 * Ownership: the index owns its slots only. Threads: none.
 */
#ifndef BASE_HASH_INDEX_H
#define BASE_HASH_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct hash_index_slot {
    uint32_t
        hash_high; /* upper half of the hash: avoids most comparisons and all rehashing reads */
    uint32_t hash_low;
    uint32_t item_plus_one; /* 0 = free */
};

struct hash_index {
    struct hash_index_slot *slots; /* NULL until the first insertion */
    size_t num_slots;              /* a power of two, or 0 */
    size_t num_used;
};

struct hash_index_cursor {
    uint64_t hash;
    size_t position;
};

/* Makes an empty index in the caller's storage; allocates nothing. */
void hash_index_init(struct hash_index *index);

/* Frees the slots; the index may be initialised again. */
void hash_index_deinit(struct hash_index *index);

/* Removes all entries, keeps the memory. */
void hash_index_clear(struct hash_index *index);

/* Starts a look-up of `hash`. Returns: the cursor for hash_index_next(). */
struct hash_index_cursor hash_index_first(const struct hash_index *index, uint64_t hash);

/* Steps to the next item whose full 64-bit hash equals the one looked up.
 * item_ret: the item number, written only when true is returned. Returns: false when there is none.
 */
bool hash_index_next(const struct hash_index *index, struct hash_index_cursor *cursor,
                     uint32_t *item_ret);

/* Adds item number `item` under `hash`; does not look for duplicates.
 * Returns: NULL, or error_no_memory (the index is unchanged then). */
struct error *hash_index_insert(struct hash_index *index, uint64_t hash, uint32_t item) MUST_CHECK;

/* Makes room for `num_items` items in all: so many insertions cannot fail.
 * Returns: NULL, or error_no_memory (the index is unchanged then). */
struct error *hash_index_reserve(struct hash_index *index, size_t num_items) MUST_CHECK;

/* Tells the memory held, in bytes. */
size_t hash_index_bytes(const struct hash_index *index);

#endif
