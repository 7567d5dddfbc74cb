#include "output/gzip.h"

#include <limits.h>
#include <zlib.h>

#include "base/array.h"
#include "base/file.h"

#define GZIP_OUT_BYTES (64U << 10)
#define GZIP_MAX_CHUNK (1U << 30) /* zlib counts in unsigned int */
#define GZIP_WINDOW_BITS \
    (15 + 16) /* zlib.h, deflateInit2: 15 bits of window, +16 for gzip framing */

struct gzip_writer {
    z_stream stream;
    int fd;
    const char *name;
    uint8_t out[GZIP_OUT_BYTES];
};

struct error *gzip_writer_create(int fd, const char *name, struct gzip_writer **writer_ret)
{
    CLEANUP(free) struct gzip_writer *writer = calloc(1, sizeof(*writer));

    if (!writer)
        return &error_no_memory;
    writer->fd = fd;
    writer->name = name;
    /* Without deflateSetHeader() zlib writes mtime 0 and no name: reproducible. */
    if (deflateInit2(&writer->stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW_BITS, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return &error_no_memory;
    writer->stream.next_out = writer->out;
    writer->stream.avail_out = GZIP_OUT_BYTES;
    *writer_ret = take_ptr(writer);
    return NULL;
}

void gzip_writer_destroy(struct gzip_writer *writer)
{
    if (!writer)
        return;
    deflateEnd(&writer->stream);
    free(writer);
}

/* Writes out what is compressed so far. */
static struct error *gzip_writer_flush(struct gzip_writer *writer)
{
    size_t num_bytes = GZIP_OUT_BYTES - writer->stream.avail_out;

    writer->stream.next_out = writer->out;
    writer->stream.avail_out = GZIP_OUT_BYTES;
    return file_write_all(writer->fd, writer->out, num_bytes, writer->name);
}

struct error *gzip_writer_add(struct gzip_writer *writer, const void *bytes, size_t num_bytes)
{
    const uint8_t *next = bytes;

    while (num_bytes > 0) {
        unsigned int chunk = num_bytes < GZIP_MAX_CHUNK ? (unsigned int)num_bytes : GZIP_MAX_CHUNK;

        writer->stream.next_in = (z_const Bytef *)next;
        writer->stream.avail_in = chunk;
        while (writer->stream.avail_in > 0) {
            if (deflate(&writer->stream, Z_NO_FLUSH) == Z_STREAM_ERROR)
                return error_create(ERROR_FAILED, NULL, "%s: zlib: %s", writer->name,
                                    writer->stream.msg ? writer->stream.msg : "stream error");
            if (writer->stream.avail_out == 0)
                RETURN_IF_ERROR(gzip_writer_flush(writer));
        }
        next += chunk;
        num_bytes -= chunk;
    }
    return NULL;
}

struct error *gzip_writer_finish(struct gzip_writer *writer)
{
    int status;

    writer->stream.next_in = NULL;
    writer->stream.avail_in = 0;
    do {
        status = deflate(&writer->stream, Z_FINISH);
        if (status == Z_STREAM_ERROR)
            return error_create(ERROR_FAILED, NULL, "%s: zlib: stream error", writer->name);
        RETURN_IF_ERROR(gzip_writer_flush(writer));
    } while (status != Z_STREAM_END);
    return NULL;
}

bool gzip_is_magic(const uint8_t *bytes, size_t num_bytes)
{
    return num_bytes >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

/* A gzip file on its way into memory. */
struct gzip_reader {
    z_stream stream;
    const char *name;
    size_t num_left; /* compressed bytes that zlib has not been given yet */
    size_t max_bytes;
    uint8_t *inflated;
    size_t num_inflated;
    size_t capacity;
};

static inline void cleanup_gzip_reader_deinit(struct gzip_reader *reader)
{
    inflateEnd(&reader->stream);
    free(reader->inflated);
}

/* Gives zlib its next input and room for output. */
static struct error *gzip_reader_feed(struct gzip_reader *reader)
{
    z_stream *stream = &reader->stream;
    size_t room;

    if (stream->avail_in == 0) {
        stream->avail_in =
            reader->num_left < GZIP_MAX_CHUNK ? (unsigned int)reader->num_left : GZIP_MAX_CHUNK;
        reader->num_left -= stream->avail_in;
    }
    if (reader->num_inflated == reader->capacity) {
        if (reader->num_inflated >= reader->max_bytes)
            return error_create(ERROR_FAILED, NULL, "%s: too large: inflates to more than %zu MB",
                                reader->name, reader->max_bytes >> 20);
        RETURN_IF_ERROR(array_reserve(&reader->inflated, &reader->capacity,
                                      reader->num_inflated + GZIP_OUT_BYTES, 1));
    }
    room = reader->capacity - reader->num_inflated;
    stream->next_out = reader->inflated + reader->num_inflated;
    stream->avail_out = room < GZIP_MAX_CHUNK ? (unsigned int)room : GZIP_MAX_CHUNK;
    return NULL;
}

/* Inflates one member. */
static struct error *gzip_reader_member(struct gzip_reader *reader)
{
    z_stream *stream = &reader->stream;

    for (;;) {
        unsigned int room;
        int status;

        RETURN_IF_ERROR(gzip_reader_feed(reader));
        if (stream->avail_in == 0)
            return error_create(ERROR_FAILED, "the file was cut: copy or record it again",
                                "%s: truncated gzip", reader->name);
        room = stream->avail_out;
        status = inflate(stream, Z_NO_FLUSH);
        reader->num_inflated += room - stream->avail_out;
        if (status == Z_STREAM_END)
            return NULL;
        if (status == Z_MEM_ERROR)
            return &error_no_memory;
        if (status != Z_OK && status != Z_BUF_ERROR)
            return error_create(ERROR_FAILED, NULL, "%s: broken gzip: %s", reader->name,
                                stream->msg ? stream->msg : "bad data");
    }
}

struct error *gzip_inflate(const uint8_t *bytes, size_t num_bytes, size_t max_bytes,
                           const char *name, uint8_t **inflated_ret, size_t *num_inflated_ret)
{
    CLEANUP(gzip_reader_deinit)
    struct gzip_reader reader = {.name = name, .num_left = num_bytes, .max_bytes = max_bytes};

    if (inflateInit2(&reader.stream, GZIP_WINDOW_BITS) != Z_OK)
        return &error_no_memory;
    reader.stream.next_in = (z_const Bytef *)bytes;
    do {
        RETURN_IF_ERROR(gzip_reader_member(&reader));
        if (inflateReset(&reader.stream) != Z_OK)
            return error_create(ERROR_FAILED, NULL, "%s: broken gzip", name);
    } while (reader.stream.avail_in > 0 || reader.num_left > 0);
    if (reader.num_inflated > max_bytes)
        return error_create(ERROR_FAILED, NULL, "%s: too large: inflates to more than %zu MB", name,
                            max_bytes >> 20);
    *inflated_ret = take_ptr(reader.inflated);
    *num_inflated_ret = reader.num_inflated;
    return NULL;
}
