#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_MIN_BLOCK_BYTES ((size_t)4 << 10)
#define ARENA_MAX_BLOCK_BYTES ((size_t)256 << 10)

struct arena_block {
    struct arena_block *next;
    size_t num_used;
    size_t capacity;
    alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *arena)
{
    *arena = (struct arena){0};
}

void arena_deinit(struct arena *arena)
{
    struct arena_block *block = arena->blocks;

    while (block) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    *arena = (struct arena){0};
}

static struct arena_block *arena_add_block(struct arena *arena, size_t num_bytes)
{
    /* Blocks grow with the arena, so that a small table stays small and a large one costs few calls
     * of malloc. */
    size_t capacity = arena->total_bytes;
    if (capacity < ARENA_MIN_BLOCK_BYTES)
        capacity = ARENA_MIN_BLOCK_BYTES;
    if (capacity > ARENA_MAX_BLOCK_BYTES)
        capacity = ARENA_MAX_BLOCK_BYTES;
    if (capacity < num_bytes)
        capacity = num_bytes;

    struct arena_block *block = malloc(sizeof(*block) + capacity);
    if (!block)
        return NULL;
    block->num_used = 0;
    block->capacity = capacity;
    arena->total_bytes += sizeof(*block) + capacity;
    if (arena->blocks && num_bytes > ARENA_MAX_BLOCK_BYTES) {
        /* A block for one big object is full at once: keep the half-empty one in front. */
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
    }
    return block;
}

/* Takes `num_bytes` at the given alignment: strings need none, which saves a third of their space.
 */
static void *arena_take(struct arena *arena, size_t num_bytes, size_t align)
{
    if (num_bytes > PTRDIFF_MAX / 2)
        return NULL;

    struct arena_block *block = arena->blocks;
    size_t offset = 0;
    if (block)
        offset = (block->num_used + align - 1) & ~(align - 1);
    if (!block || offset > block->capacity || num_bytes > block->capacity - offset) {
        block = arena_add_block(arena, num_bytes);
        if (!block)
            return NULL;
        offset = 0;
    }
    block->num_used = offset + num_bytes;
    return block->bytes + offset;
}

void *arena_alloc(struct arena *arena, size_t num_bytes)
{
    return arena_take(arena, num_bytes, alignof(max_align_t));
}

char *arena_copy(struct arena *arena, const void *bytes, size_t num_bytes)
{
    if (num_bytes == SIZE_MAX)
        return NULL;
    char *copy = arena_take(arena, num_bytes + 1, 1);
    if (!copy)
        return NULL;
    if (num_bytes)
        memcpy(copy, bytes, num_bytes);
    copy[num_bytes] = '\0';
    return copy;
}
