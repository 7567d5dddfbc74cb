/* Hash functions for in-memory tables; not cryptographic, not stable between releases.
 *
 * Threads: any. Source: MurmurHash3's 64-bit finalizer (public domain constants).
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Mixes all bits of one word. value: any. Returns: 64 well-mixed bits. */
static inline uint64_t hash_u64(uint64_t value)
{
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdULL;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ULL;
    value ^= value >> 33;
    return value;
}

/* Adds one word to a running hash. hash: the hash so far. Returns: the new hash. */
static inline uint64_t hash_combine(uint64_t hash, uint64_t value)
{
    return hash_u64(hash ^ (value + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2)));
}

/* Hashes `num_bytes` bytes at `bytes` (may be NULL when num_bytes is 0). Returns: the hash. */
uint64_t hash_bytes(const void *bytes, size_t num_bytes);

/* The same, beginning at `seed`: tables filled from hostile input hash with a seed of their own, so
 * that nobody can prepare keys that all collide. Returns: the hash. */
uint64_t hash_bytes_seeded(uint64_t seed, const void *bytes, size_t num_bytes);

/* Draws a seed that an outsider cannot guess. It must not influence any result, only which slot a
 * key lies in. Source: getrandom(2). */
uint64_t hash_seed_draw(void);

#endif
