#include "symbolize/inflate.h"

#include <elf.h>
#include <libdeflate.h>
#include <limits.h>
#include <zlib.h>
#include <zstd.h>

#include "base/clock.h"

/* What a slow and busy machine unpacks at least; libdeflate and zstd reach five times as much here.
 * They can't be interrupted: who has less time left than this promises gets zlib, in slices. */
#define BYTES_PER_MS ((uint64_t)50000)
#define SLICE_BYTES ((size_t)4 << 20)

bool inflate_is_plausible(size_t packed_bytes, uint64_t num_bytes)
{
    return num_bytes / 1100 <= packed_bytes && num_bytes <= SIZE_MAX / 4;
}

static bool is_time_enough(size_t num_bytes, uint64_t deadline_ns)
{
    uint64_t now_ns = deadline_ns ? clock_monotonic_ns() : 0;

    if (!deadline_ns)
        return true;
    return now_ns < deadline_ns && (deadline_ns - now_ns) / 1000000 > num_bytes / BYTES_PER_MS;
}

static bool inflate_at_once(const uint8_t *packed, size_t packed_bytes, uint8_t *to,
                            size_t num_bytes, enum libdeflate_result expected)
{
    struct libdeflate_decompressor *decompressor = libdeflate_alloc_decompressor();
    enum libdeflate_result result = LIBDEFLATE_BAD_DATA;

    if (decompressor)
        result =
            libdeflate_zlib_decompress(decompressor, packed, packed_bytes, to, num_bytes, NULL);
    libdeflate_free_decompressor(decompressor);
    return result == expected;
}

/* zlib counts in unsigned int: input and output are handed over in slices anyway. */
static bool inflate_in_slices(const uint8_t *packed, size_t packed_bytes, uint8_t *to,
                              size_t num_bytes, uint64_t deadline_ns)
{
    z_stream stream = {0};
    size_t num_out = 0;
    size_t num_in = 0;
    int status;

    if (inflateInit(&stream) != Z_OK)
        return false;
    do {
        size_t in = packed_bytes - num_in < SLICE_BYTES ? packed_bytes - num_in : SLICE_BYTES;
        size_t out = num_bytes - num_out < SLICE_BYTES ? num_bytes - num_out : SLICE_BYTES;

        stream.next_in = (uint8_t *)packed + num_in;
        stream.avail_in = (unsigned)in;
        stream.next_out = to + num_out;
        stream.avail_out = (unsigned)out;
        status = inflate(&stream, Z_NO_FLUSH);
        num_in += in - stream.avail_in;
        num_out += out - stream.avail_out;
    } while (status == Z_OK && clock_monotonic_ns() < deadline_ns);
    inflateEnd(&stream);
    return status == Z_STREAM_END && num_out == num_bytes;
}

static bool inflate_zstd(const uint8_t *packed, size_t packed_bytes, uint8_t *to, size_t num_bytes,
                         uint64_t deadline_ns)
{
    ZSTD_DStream *stream;
    ZSTD_inBuffer in = {.src = packed, .size = packed_bytes};
    ZSTD_outBuffer out = {.dst = to};
    size_t status;

    if (is_time_enough(num_bytes, deadline_ns)) {
        status = ZSTD_decompress(to, num_bytes, packed, packed_bytes);
        return !ZSTD_isError(status) && status == num_bytes;
    }
    stream = ZSTD_createDStream();
    if (!stream)
        return false;
    do {
        out.size = num_bytes - out.pos < SLICE_BYTES ? num_bytes : out.pos + SLICE_BYTES;
        status = ZSTD_decompressStream(stream, &out, &in);
    } while (status != 0 && !ZSTD_isError(status) && out.pos < num_bytes && out.pos == out.size &&
             clock_monotonic_ns() < deadline_ns);
    ZSTD_freeDStream(stream);
    return status == 0 && out.pos == num_bytes;
}

bool inflate_whole(uint32_t type, const uint8_t *packed, size_t packed_bytes, uint8_t *to,
                   size_t num_bytes, uint64_t deadline_ns)
{
    if (type == ELFCOMPRESS_ZSTD)
        return inflate_zstd(packed, packed_bytes, to, num_bytes, deadline_ns);
    if (type != ELFCOMPRESS_ZLIB)
        return false;
    if (!is_time_enough(num_bytes, deadline_ns))
        return inflate_in_slices(packed, packed_bytes, to, num_bytes, deadline_ns);
    return inflate_at_once(packed, packed_bytes, to, num_bytes, LIBDEFLATE_SUCCESS);
}

/* libdeflate writes front to back and stops when the next piece does not fit; the largest piece is
 * a stored block of 65535 bytes (RFC 1951 3.2.4). Its header promises nothing of the kind, so
 * test_inflate compares. */
bool inflate_start(const uint8_t *packed, size_t packed_bytes, uint8_t *to, size_t num_bytes)
{
    return inflate_at_once(packed, packed_bytes, to, num_bytes + INFLATE_SLACK_BYTES,
                           LIBDEFLATE_INSUFFICIENT_SPACE);
}
