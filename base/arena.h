/* Memory that is only ever freed all at once: strings, table rows, symbol records.
 *
 * Ownership: the arena owns all blocks. Threads: none.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first; NULL when empty */
    size_t total_bytes;         /* memory held, for bounds */
};

/* Makes an empty arena in the caller's storage; allocates nothing. */
void arena_init(struct arena *arena);

/* Frees everything. A zeroed arena is fine. */
void arena_deinit(struct arena *arena);

/* Gives `num_bytes` bytes aligned for any object, uninitialised.
 * Returns: the memory, or NULL when there is none (the caller returns &error_no_memory). */
void *arena_alloc(struct arena *arena, size_t num_bytes);

/* Copies `num_bytes` bytes and a NUL behind them into the arena. Returns: the copy, or NULL. */
char *arena_copy(struct arena *arena, const void *bytes, size_t num_bytes);

#endif
