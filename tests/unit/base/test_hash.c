/* Hashes: depend on every byte, on the length and on the seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"

static void depends_on_every_byte_and_the_length(void **state)
{
    unsigned char bytes[41] = {0};

    (void)state;
    for (size_t length = 0; length <= 40; length++) {
        uint64_t hash = hash_bytes(bytes, length);
        assert_true(hash != hash_bytes(bytes, length + 1));
        for (size_t i = 0; i < length; i++) {
            bytes[i] ^= 1;
            assert_true(hash != hash_bytes(bytes, length));
            bytes[i] ^= 1;
        }
    }
    assert_true(hash_bytes(NULL, 0) == hash_bytes("", 0));
}

static void depends_on_the_seed(void **state)
{
    (void)state;
    assert_true(hash_bytes_seeded(1, "abc", 3) != hash_bytes_seeded(2, "abc", 3));
    assert_true(hash_bytes_seeded(0, "abc", 3) == hash_bytes("abc", 3));
    assert_true(hash_seed_draw() != hash_seed_draw());
}

static void low_bits_spread(void **state)
{
    unsigned counts[64] = {0};

    (void)state;
    for (uint64_t i = 0; i < 64000; i++)
        counts[hash_u64(i << 12) & 63]++;
    for (size_t i = 0; i < 64; i++)
        assert_in_range(counts[i], 800, 1200);
}

static void combining_is_ordered(void **state)
{
    (void)state;
    assert_true(hash_combine(hash_combine(0, 1), 2) != hash_combine(hash_combine(0, 2), 1));
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(depends_on_every_byte_and_the_length),
        cmocka_unit_test(depends_on_the_seed),
        cmocka_unit_test(low_bits_spread),
        cmocka_unit_test(combining_is_ordered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
