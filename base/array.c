#include "base/array.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_MIN_ITEMS 8

struct error *array_reserve(void *items, size_t *capacity, size_t num_needed, size_t item_bytes)
{
    if (num_needed <= *capacity)
        return NULL;

    size_t new_capacity = *capacity < ARRAY_MIN_ITEMS ? ARRAY_MIN_ITEMS : *capacity;
    while (new_capacity < num_needed) {
        if (new_capacity > SIZE_MAX / 2)
            return &error_no_memory;
        new_capacity *= 2;
    }
    /* Above PTRDIFF_MAX malloc refuses anyway; saying so here keeps sanitizers quiet. */
    if (!item_bytes || new_capacity > PTRDIFF_MAX / item_bytes)
        return &error_no_memory;

    /* `items` is the address of some object pointer: memcpy is the way to read it that the aliasing
     * rules allow (C17 6.5). */
    void *old_items;
    memcpy(&old_items, items, sizeof(old_items));
    void *new_items = realloc(old_items, new_capacity * item_bytes);
    if (!new_items)
        return &error_no_memory;
    memcpy(items, &new_items, sizeof(new_items));
    *capacity = new_capacity;
    return NULL;
}
