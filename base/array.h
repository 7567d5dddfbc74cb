/* Growing arrays: one checked function behind every `items, num_items, capacity` triple.
 *
 *     struct error *err = array_reserve(&list->items, &list->capacity, list->num_items + 1,
 * sizeof(*list->items));
 *
 * Not a container type: the owner keeps pointer, count and capacity in its own struct and frees the
 * pointer. Threads: none.
 */
#ifndef BASE_ARRAY_H
#define BASE_ARRAY_H

#include <stddef.h>

#include "base/error.h"

/* Makes room for at least `num_needed` items of `item_bytes` each; grows by doubling.
 * items: address of the pointer to the items (any object pointer type; passed as void *).
 * capacity: address of the number of items there is room for; updated on success.
 * Returns: NULL, or error_no_memory (also when the size would overflow); then nothing changed. */
struct error *array_reserve(void *items, size_t *capacity, size_t num_needed,
                            size_t item_bytes) MUST_CHECK;

/* Binary search: tells the number of the first of `num_items` sorted items that does not come
 * before what is looked for; num_items when all do.
 * at: name of a variable, the number of an item. comes_before: expression about item `at`.
 *
 *     size_t first = array_search(list->num, at, list->items[at].start < wanted);
 */
#define array_search(num_items, at, comes_before)          \
    ({                                                     \
        size_t search_low_ = 0;                            \
        size_t search_high_ = (num_items);                 \
        while (search_low_ < search_high_) {               \
            size_t at = (search_low_ + search_high_) >> 1; \
            if (comes_before)                              \
                search_low_ = at + 1;                      \
            else                                           \
                search_high_ = at;                         \
        }                                                  \
        search_low_;                                       \
    })

#endif
