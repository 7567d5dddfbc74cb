#include "base/hash.h"

#include <string.h>

uint64_t hash_bytes(const void *bytes, size_t num_bytes)
{
    const unsigned char *next = bytes;
    uint64_t hash = hash_u64(num_bytes + 0x9e3779b97f4a7c15ULL);

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
