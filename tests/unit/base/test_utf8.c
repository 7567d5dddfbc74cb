/* Any bytes become valid UTF-8 without control characters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/string_table.h"

#define FFFD "\xef\xbf\xbd"

static void check(const char *string, const char *expected)
{
    CLEANUP(free) char *copy = NULL;

    assert_null(utf8_sanitize(string, &copy));
    assert_string_equal(copy, expected);
}

static void valid_text_stays(void **state)
{
    (void)state;
    check("", "");
    check(NULL, "");
    check("plain /usr/lib/x.so", "plain /usr/lib/x.so");
    check("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    check("\xc2\xa0\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80",
          "\xc2\xa0\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80");
}

static void each_bad_byte_is_replaced(void **state)
{
    (void)state;
    check("a\xff"
          "b",
          "a" FFFD "b");
    check("\x80\xbf", FFFD FFFD);
    check("\xc3", FFFD); /* cut at the end */
    check("\xe2\x82", FFFD FFFD);
    check("\xf0\x9f\x98", FFFD FFFD FFFD);
    check("\xc3(", FFFD "(");
}

static void overlong_forms_surrogates_and_beyond_are_bad(void **state)
{
    (void)state;
    check("\xc0\xaf", FFFD FFFD);
    check("\xc1\xbf", FFFD FFFD);
    check("\xe0\x9f\xbf", FFFD FFFD FFFD);
    check("\xed\xa0\x80", FFFD FFFD FFFD);
    check("\xf0\x8f\xbf\xbf", FFFD FFFD FFFD FFFD);
    check("\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD);
    check("\xf5\x80\x80\x80", FFFD FFFD FFFD FFFD);
}

static void control_characters_are_replaced(void **state)
{
    (void)state;
    check("a\nb\tc\033[2J\x7f", "a" FFFD "b" FFFD "c" FFFD "[2J" FFFD);
    check("\xc2\x9b"
          "2J",
          FFFD "2J"); /* C1: CSI */
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_text_stays),
        cmocka_unit_test(each_bad_byte_is_replaced),
        cmocka_unit_test(overlong_forms_surrogates_and_beyond_are_bad),
        cmocka_unit_test(control_characters_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
