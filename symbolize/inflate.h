/* Unpacking of compressed ELF sections: zlib and zstd, whole or only their beginning.
 *
 * Both formats can only be read from the start, but reading may stop early: who needs only the
 * first units of a .debug_info does not pay for the others. Ownership: the caller's buffers.
 * Threads: none. Source: gabi "Section Compression"; RFC 1950; libdeflate.h, zlib.h, zstd.h.
 */
#ifndef SYMBOLIZE_INFLATE_H
#define SYMBOLIZE_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef ELFCOMPRESS_ZSTD
#define ELFCOMPRESS_ZSTD 2 /* gabi, after glibc 2.36's elf.h */
#endif

/* Room that inflate_start() needs behind the last byte that is wanted. */
#define INFLATE_SLACK_BYTES ((size_t)65536 + 512)

/* Tells whether a section of that compressed size may inflate to num_bytes: deflate reaches 1032:1,
 * zstd in practice as well; do not reserve what cannot come. */
bool inflate_is_plausible(size_t packed_bytes, uint64_t num_bytes);

/* Unpacks a whole section.
 * type: ELFCOMPRESS_ZLIB or ELFCOMPRESS_ZSTD. to: room for exactly num_bytes. deadline_ns:
 * CLOCK_MONOTONIC, 0 = none. Returns: false for damaged input, another size, or when it is late. */
bool inflate_whole(uint32_t type, const uint8_t *packed, size_t packed_bytes, uint8_t *to,
                   size_t num_bytes, uint64_t deadline_ns);

/* Unpacks the first num_bytes of a zlib stream that holds more than
 * num_bytes + INFLATE_SLACK_BYTES. to: room for that sum; bytes behind num_bytes are undefined.
 * Returns: false for damaged input. */
bool inflate_start(const uint8_t *packed, size_t packed_bytes, uint8_t *to, size_t num_bytes);

#endif
