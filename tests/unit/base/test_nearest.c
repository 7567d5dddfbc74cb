/* The nearest name to a misspelt word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/nearest.h"

static void finds_the_nearest_name(void **state)
{
    static const char *const names[] = {"record", "report", "help", NULL};

    (void)state;
    assert_string_equal(nearest_name("recrod", names), "record");
    assert_string_equal(nearest_name("rep", names), "report");
}

static void finds_nothing_where_nothing_is_near(void **state)
{
    static const char *const names[] = {"record", "report", "help", NULL};
    static const char *const none[] = {NULL};
    char long_word[200] = {0};

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(long_word); i++)
        long_word[i] = 'r';
    assert_null(nearest_name("x", names));
    assert_null(nearest_name("/usr/bin/python3", names));
    assert_null(nearest_name("", names));
    assert_null(nearest_name(long_word, names));
    assert_null(nearest_name("record", none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_nearest_name),
        cmocka_unit_test(finds_nothing_where_nothing_is_near),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
