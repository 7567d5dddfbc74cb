#include "base/hash_index.h"

#include <stdlib.h>
#include <string.h>

#define HASH_INDEX_MIN_SLOTS 16

void hash_index_init(struct hash_index *index)
{
    *index = (struct hash_index){0};
}

void hash_index_deinit(struct hash_index *index)
{
    free(index->slots);
    *index = (struct hash_index){0};
}

void hash_index_clear(struct hash_index *index)
{
    if (index->slots)
        memset(index->slots, 0, index->num_slots * sizeof(*index->slots));
    index->num_used = 0;
}

struct hash_index_cursor hash_index_first(const struct hash_index *index, uint64_t hash)
{
    size_t mask = index->num_slots - 1; /* no slots: hash_index_next() does not look at it */

    return (struct hash_index_cursor){.hash = hash, .position = (size_t)hash & mask};
}

bool hash_index_next(const struct hash_index *index, struct hash_index_cursor *cursor,
                     uint32_t *item_ret)
{
    if (!index->num_slots)
        return false;

    size_t mask = index->num_slots - 1;
    uint32_t hash_high = (uint32_t)(cursor->hash >> 32);
    uint32_t hash_low = (uint32_t)cursor->hash;
    /* Ends: the load is below 2/3, so a free slot exists. */
    for (;;) {
        const struct hash_index_slot *slot = &index->slots[cursor->position];
        if (!slot->item_plus_one)
            return false;
        cursor->position = (cursor->position + 1) & mask;
        if (slot->hash_low == hash_low && slot->hash_high == hash_high) {
            *item_ret = slot->item_plus_one - 1;
            return true;
        }
    }
}

static void slots_put(struct hash_index_slot *slots, size_t mask, struct hash_index_slot slot)
{
    size_t position = slot.hash_low & mask;

    /* hash_low alone chooses the slot while there are fewer than 2^32 of them; items are numbered
     * by 32 bits, so more slots than that would be of no use but for the load limit. */
    if (mask > UINT32_MAX)
        position = (((uint64_t)slot.hash_high << 32) | slot.hash_low) & mask;
    while (slots[position].item_plus_one)
        position = (position + 1) & mask;
    slots[position] = slot;
}

static struct error *hash_index_resize(struct hash_index *index, size_t num_slots)
{
    struct hash_index_slot *slots = calloc(num_slots, sizeof(*slots));
    if (!slots)
        return &error_no_memory;

    for (size_t i = 0; i < index->num_slots; i++) {
        if (index->slots[i].item_plus_one)
            slots_put(slots, num_slots - 1, index->slots[i]);
    }
    free(index->slots);
    index->slots = slots;
    index->num_slots = num_slots;
    return NULL;
}

struct error *hash_index_reserve(struct hash_index *index, size_t num_items)
{
    size_t num_slots = index->num_slots ? index->num_slots : HASH_INDEX_MIN_SLOTS;

    if (num_items > UINT32_MAX) /* more than items can be numbered */
        return &error_no_memory;
    while (num_items * 3 > num_slots * 2)
        num_slots *= 2;
    return num_slots == index->num_slots ? NULL : hash_index_resize(index, num_slots);
}

struct error *hash_index_insert(struct hash_index *index, uint64_t hash, uint32_t item)
{
    if (item == UINT32_MAX)
        return &error_no_memory; /* item_plus_one cannot hold it */
    if ((index->num_used + 1) * 3 > index->num_slots * 2)
        RETURN_IF_ERROR(hash_index_reserve(index, index->num_used + 1));

    struct hash_index_slot slot = {
        .hash_high = (uint32_t)(hash >> 32),
        .hash_low = (uint32_t)hash,
        .item_plus_one = item + 1,
    };
    slots_put(index->slots, index->num_slots - 1, slot);
    index->num_used++;
    return NULL;
}

size_t hash_index_bytes(const struct hash_index *index)
{
    return index->num_slots * sizeof(*index->slots);
}
