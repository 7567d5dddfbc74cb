#include "symbolize/mini_debug_info.h"

#include <lzma.h>
#include <stdlib.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "symbolize/elf_file.h"

#define MINI_MAX_BYTES ((size_t)64 << 20)
#define MINI_MAX_DECODER_BYTES ((uint64_t)128 << 20)

/* Decodes until the end of the stream. Returns: NULL or error_no_memory; num_bytes_ret is 0 for
 * damaged or too large input. */
static struct error *decode(lzma_stream *stream, char **image, size_t *num_bytes_ret)
{
    size_t capacity = 0;
    size_t num_bytes = 0;
    lzma_ret status = LZMA_OK;

    *num_bytes_ret = 0;
    while (status == LZMA_OK && num_bytes < MINI_MAX_BYTES) {
        size_t room;

        RETURN_IF_ERROR(array_reserve(image, &capacity, num_bytes + 65536, 1));
        room = capacity - num_bytes;
        stream->next_out = (uint8_t *)*image + num_bytes;
        stream->avail_out = room;
        status = lzma_code(stream, LZMA_FINISH);
        num_bytes += room - stream->avail_out;
        if (status == LZMA_BUF_ERROR)
            break;
    }
    if (status == LZMA_MEM_ERROR)
        return &error_no_memory;
    if (status == LZMA_STREAM_END)
        *num_bytes_ret = num_bytes;
    return NULL;
}

struct error *mini_debug_info_open(Elf *elf, char **image_ret, Elf **elf_ret)
{
    lzma_stream stream = LZMA_STREAM_INIT;
    CLEANUP(free) char *image = NULL;
    struct error *err;
    size_t num_bytes;

    if (!elf_file_section_bytes(elf, ".gnu_debugdata", &stream.next_in, &stream.avail_in))
        return NULL;
    if (lzma_stream_decoder(&stream, MINI_MAX_DECODER_BYTES, 0) != LZMA_OK)
        return &error_no_memory;
    err = decode(&stream, &image, &num_bytes);
    lzma_end(&stream);
    if (err)
        return err;
    if (num_bytes == 0) {
        log_info("damaged MiniDebugInfo is not used");
        return NULL;
    }
    *elf_ret = elf_memory(image, num_bytes);
    if (*elf_ret)
        *image_ret = take_ptr(image);
    return NULL;
}
