/* Compressed sections: whole, their beginning only, damaged, and late. */
#include <elf.h>
#include <zlib.h>
#include <zstd.h>

#include "base/clock.h"
#include "symbolize/inflate.h"
#include "tests/unit/symbolize/fixture.h"

#define NUM_BYTES ((size_t)1 << 20)

/* Bytes that compress somewhat, with stretches that do not (stored blocks). */
static uint8_t *make_bytes(void)
{
    uint8_t *bytes = malloc(NUM_BYTES);
    uint32_t state = 1;

    assert_non_null(bytes);
    for (size_t i = 0; i < NUM_BYTES; i++) {
        state = state * 1664525 + 1013904223;
        bytes[i] = (i >> 17) % 2 ? (uint8_t)(state >> 24) : (uint8_t)(i % 251 * (state >> 31));
    }
    return bytes;
}

static uint8_t *pack(const uint8_t *bytes, int level, size_t *num_ret)
{
    uLongf num = compressBound(NUM_BYTES);
    uint8_t *packed = malloc(num);

    assert_non_null(packed);
    assert_int_equal(compress2(packed, &num, bytes, NUM_BYTES, level), Z_OK);
    *num_ret = num;
    return packed;
}

static void the_beginning_equals_that_of_the_whole(void **state)
{
    uint8_t *bytes = make_bytes();
    uint8_t *to = malloc(NUM_BYTES + INFLATE_SLACK_BYTES);

    (void)state;
    assert_non_null(to);
    for (int level = 0; level <= 9; level += 3) {
        size_t num;
        uint8_t *packed = pack(bytes, level, &num);

        for (size_t wanted = 1; wanted + INFLATE_SLACK_BYTES < NUM_BYTES; wanted = wanted * 3 + 7) {
            memset(to, 0x55, NUM_BYTES + INFLATE_SLACK_BYTES);
            assert_true(inflate_start(packed, num, to, wanted));
            assert_memory_equal(to, bytes, wanted);
        }
        free(packed);
    }
    free(to);
    free(bytes);
}

static void whole_sections_are_inflated_with_and_without_a_deadline(void **state)
{
    uint64_t soon = clock_monotonic_ns() + 3600000000000; /* enough for one go */
    uint8_t *bytes = make_bytes();
    uint8_t *to = malloc(NUM_BYTES);
    size_t num;
    uint8_t *packed = pack(bytes, 6, &num);

    (void)state;
    assert_non_null(to);
    assert_true(inflate_whole(ELFCOMPRESS_ZLIB, packed, num, to, NUM_BYTES, 0));
    assert_memory_equal(to, bytes, NUM_BYTES);
    assert_true(inflate_whole(ELFCOMPRESS_ZLIB, packed, num, to, NUM_BYTES, soon));
    assert_false(inflate_whole(ELFCOMPRESS_ZLIB, packed, num / 2, to, NUM_BYTES, 0));
    assert_false(inflate_whole(ELFCOMPRESS_ZLIB, packed, num, to, NUM_BYTES - 1, 0));
    assert_false(inflate_whole(77, packed, num, to, NUM_BYTES, 0));
    free(packed);
    num = ZSTD_compressBound(NUM_BYTES);
    packed = malloc(num);
    assert_non_null(packed);
    num = ZSTD_compress(packed, num, bytes, NUM_BYTES, 3);
    assert_true(inflate_whole(ELFCOMPRESS_ZSTD, packed, num, to, NUM_BYTES, 0));
    assert_memory_equal(to, bytes, NUM_BYTES);
    assert_false(inflate_whole(ELFCOMPRESS_ZSTD, packed, num / 2, to, NUM_BYTES, 0));
    assert_false(inflate_whole(ELFCOMPRESS_ZSTD, packed, num, to, NUM_BYTES - 1, 0));
    free(packed);
    free(to);
    free(bytes);
}

/* A deadline in the past: the first slice is unpacked, then no more. */
static void a_deadline_stops_within_a_section(void **state)
{
    size_t num_bytes = (size_t)64 << 20;
    uLongf num = compressBound(num_bytes);
    uint8_t *bytes = calloc(1, num_bytes);
    uint8_t *packed = malloc(num);

    (void)state;
    assert_non_null(bytes);
    assert_non_null(packed);
    assert_int_equal(compress2(packed, &num, bytes, num_bytes, 1), Z_OK);
    assert_false(inflate_whole(ELFCOMPRESS_ZLIB, packed, num, bytes, num_bytes, 1));
    assert_false(inflate_whole(ELFCOMPRESS_ZSTD, packed, num, bytes, num_bytes, 1));
    free(packed);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_beginning_equals_that_of_the_whole),
        cmocka_unit_test(whole_sections_are_inflated_with_and_without_a_deadline),
        cmocka_unit_test(a_deadline_stops_within_a_section),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
