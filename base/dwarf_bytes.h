/* A bounded cursor over DWARF bytes: a read beyond the limit gives 0 and marks the cursor bad, so a
 * parser may read on and look once at the end.
 *
 * Beside it, two readers of single numbers for who has checked the bounds.
 *
 * Little-endian only (x86-64). Ownership: borrows the bytes. Threads: values.
 * Source: DWARF 5 section 7.6 (LEB128).
 */
#ifndef BASE_DWARF_BYTES_H
#define BASE_DWARF_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Reads 4 bytes that the caller knows to be there. */
static inline uint32_t dwarf_u32_at(const uint8_t *bytes, uint64_t offset)
{
    uint32_t value;

    memcpy(&value, bytes + offset, sizeof(value));
    return value;
}

/* Reads 8 bytes that the caller knows to be there. */
static inline uint64_t dwarf_u64_at(const uint8_t *bytes, uint64_t offset)
{
    uint64_t value;

    memcpy(&value, bytes + offset, sizeof(value));
    return value;
}

struct dwarf_bytes {
    const uint8_t *at;
    const uint8_t *limit;
    bool is_bad;
};

/* Tells how many bytes are left. */
static inline size_t dwarf_bytes_left(const struct dwarf_bytes *bytes)
{
    return (size_t)(bytes->limit - bytes->at);
}

/* Marks the cursor bad and at its end. Returns: false. */
static inline bool dwarf_bytes_fail(struct dwarf_bytes *bytes)
{
    bytes->is_bad = true;
    bytes->at = bytes->limit;
    return false;
}

/* Moves on by `count` bytes. Returns: false when there are fewer. */
static inline bool dwarf_bytes_skip(struct dwarf_bytes *bytes, uint64_t count)
{
    if (count > dwarf_bytes_left(bytes))
        return dwarf_bytes_fail(bytes);
    bytes->at += count;
    return true;
}

/* Reads an unsigned number of `width` bytes (1, 2, 4 or 8). */
static inline uint64_t dwarf_bytes_read(struct dwarf_bytes *bytes, size_t width)
{
    uint64_t value = 0;

    if (width > sizeof(value) || dwarf_bytes_left(bytes) < width) {
        dwarf_bytes_fail(bytes);
        return 0;
    }
    memcpy(&value, bytes->at, width);
    bytes->at += width;
    return value;
}

/* Reads a signed number of `width` bytes (1, 2, 4 or 8), extended to 64 bits. */
static inline uint64_t dwarf_bytes_read_signed(struct dwarf_bytes *bytes, size_t width)
{
    uint64_t value = dwarf_bytes_read(bytes, width);
    unsigned unused_bits = 64 - 8 * (unsigned)width;

    return (uint64_t)((int64_t)(value << unused_bits) >> unused_bits);
}

/* Reads an unsigned LEB128; bits beyond 64 are dropped. */
static inline uint64_t dwarf_bytes_read_uleb(struct dwarf_bytes *bytes)
{
    uint64_t value = 0;

    for (unsigned shift = 0; bytes->at < bytes->limit; shift += 7) {
        uint8_t byte = *bytes->at++;

        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    dwarf_bytes_fail(bytes);
    return 0;
}

/* Reads a signed LEB128, extended to 64 bits; bits beyond 64 are dropped. */
static inline int64_t dwarf_bytes_read_sleb(struct dwarf_bytes *bytes)
{
    uint64_t value = 0;

    for (unsigned shift = 0; bytes->at < bytes->limit;) {
        uint8_t byte = *bytes->at++;

        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
        if (!(byte & 0x80)) {
            if (shift < 64 && (byte & 0x40))
                value |= ~0ULL << shift;
            return (int64_t)value;
        }
    }
    dwarf_bytes_fail(bytes);
    return 0;
}

#endif
