#include "base/hash.h"

#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

uint64_t hash_seed_draw(void)
{
    uint64_t seed;

    /* Before the entropy pool is ready (early boot) time and address space layout must do. */
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
        seed = hash_combine(clock_monotonic_ns(), (uint64_t)(uintptr_t)&seed);
    return seed;
}

uint64_t hash_bytes(const void *bytes, size_t num_bytes)
{
    return hash_bytes_seeded(0, bytes, num_bytes);
}

uint64_t hash_bytes_seeded(uint64_t seed, const void *bytes, size_t num_bytes)
{
    const unsigned char *next = bytes;
    uint64_t hash = hash_u64(seed + num_bytes + 0x9e3779b97f4a7c15ULL);

    for (; num_bytes >= sizeof(uint64_t); num_bytes -= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, next, sizeof(word));
        hash = hash_combine(hash, word);
        next += sizeof(word);
    }
    if (num_bytes) {
        uint64_t word = 0;
        memcpy(&word, next, num_bytes);
        hash = hash_combine(hash, word);
    }
    return hash;
}
