#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "output/units.h"

static void assert_formatted(int64_t value, const char *from, const char *to, const char *expected)
{
    char text[UNIT_VALUE_BYTES];

    unit_format(value, from, to, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void assert_percent(int64_t value, int64_t total, const char *expected)
{
    char text[UNIT_PERCENT_BYTES];

    unit_format_percent(value, total, text);
    assert_string_equal(text, expected);
}

static void times_are_scaled(void **state UNUSED)
{
    assert_formatted(1500000000, "nanoseconds", "auto", "1.50s");
    assert_formatted(999, "ns", "auto", "999ns");
    assert_formatted(1000, "ns", "auto", "1us");
    assert_formatted(20000000, "nanoseconds", "s", "0.02s");
    assert_formatted(90, "Minutes", "auto", "90");
    assert_formatted(7200, "secs", "auto", "2hrs");
    assert_formatted(-1500, "ms", "auto", "-1.50s");
}

static void bytes_are_scaled(void **state UNUSED)
{
    assert_formatted(512 << 10, "bytes", "auto", "512kB");
    assert_formatted(1536, "B", "auto", "1.50kB");
    assert_formatted(100, "bytes", "auto", "100B");
    assert_formatted(3, "MB", "kB", "3072kB");
}

static void counts_have_no_unit_and_others_keep_theirs(void **state UNUSED)
{
    assert_formatted(42, "count", "auto", "42");
    assert_formatted(42, "count", "count", "42");
    assert_formatted(42, "cycles", "cycles", "42cycles");
    assert_formatted(42, "cycles", "auto", "42");
    assert_formatted(5, "", "auto", "5");
}

static void zero_has_no_unit(void **state UNUSED)
{
    assert_formatted(0, "nanoseconds", "auto", "0");
    assert_formatted(1, "nanoseconds", "hrs", "0");
    assert_formatted(INT64_MIN, "count", "auto", "-9223372036854775808");
}

static void short_room_is_respected(void **state UNUSED)
{
    char text[4];

    unit_format(123456789, "count", "auto", text, sizeof(text));
    assert_string_equal(text, "123");
}

static void percentages_keep_two_digits(void **state UNUSED)
{
    assert_percent(1, 3, "33.33%");
    assert_percent(1, 100, " 1.00%");
    assert_percent(1, 300, " 0.33%");
    assert_percent(1, 30000, "0.0033%");
    assert_percent(1, 100000000, "1e-06%");
    assert_percent(0, 100, "    0%");
    assert_percent(5, 0, "    0%");
    assert_percent(9999, 10000, "  100%");
    assert_percent(-50, 100, "50.00%");
    assert_percent(INT64_MAX, 1, "922337203685477580800.00%");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_scaled),
        cmocka_unit_test(bytes_are_scaled),
        cmocka_unit_test(counts_have_no_unit_and_others_keep_theirs),
        cmocka_unit_test(zero_has_no_unit),
        cmocka_unit_test(short_room_is_respected),
        cmocka_unit_test(percentages_keep_two_digits),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
