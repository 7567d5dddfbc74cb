/* Interned strings: one id each, dense, id 0 is the empty string. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/string_table.h"

static void id_zero_is_the_empty_string(void **state)
{
    struct string_table table;
    uint32_t id = 9;

    (void)state;
    assert_null(string_table_init(&table));
    assert_int_equal(table.num_strings, 1);
    assert_null(string_table_add(&table, "", &id));
    assert_int_equal(id, 0);
    id = 9;
    assert_null(string_table_add(&table, NULL, &id));
    assert_int_equal(id, 0);
    assert_string_equal(string_table_get(&table, 0), "");
    assert_string_equal(string_table_get(&table, 12345), "");
    string_table_deinit(&table);
}

static void equal_strings_share_an_id(void **state)
{
    struct string_table table;
    uint32_t id;
    char text[32];

    (void)state;
    assert_null(string_table_init(&table));
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 1; i < 20000; i++) {
            snprintf(text, sizeof(text), "string %u", i);
            assert_null(string_table_add(&table, text, &id));
            assert_int_equal(id, i);
        }
    }
    assert_int_equal(table.num_strings, 20000);
    assert_string_equal(string_table_get(&table, 777), "string 777");
    string_table_deinit(&table);
}

static void a_prefix_is_another_string(void **state)
{
    struct string_table table;
    uint32_t whole;
    uint32_t part;
    uint32_t cut;

    (void)state;
    assert_null(string_table_init(&table));
    assert_null(string_table_add_bytes(&table, "abcdef", 6, &whole));
    assert_null(string_table_add_bytes(&table, "abcdef", 3, &part));
    assert_null(string_table_add_bytes(&table, "abc\0def", 7, &cut));
    assert_int_not_equal(whole, part);
    assert_int_equal(part, cut);
    assert_string_equal(string_table_get(&table, part), "abc");
    string_table_deinit(&table);
}

static void formats_short_and_long_strings(void **state)
{
    struct string_table table;
    uint32_t id;
    char text[2000];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_null(string_table_init(&table));
    assert_null(string_table_addf(&table, &id, "%s+0x%x", "lib.so", 0x1a2b));
    assert_string_equal(string_table_get(&table, id), "lib.so+0x1a2b");
    for (size_t length = 250; length < 260; length++) {
        assert_null(string_table_addf(&table, &id, "%.*s", (int)length, text));
        assert_int_equal(strlen(string_table_get(&table, id)), length);
    }
    assert_null(string_table_addf(&table, &id, "%s", text));
    assert_string_equal(string_table_get(&table, id), text);
    string_table_deinit(&table);
}

static void zeroed_table_can_be_freed(void **state)
{
    struct string_table table = {0};

    (void)state;
    string_table_deinit(&table);
    string_table_deinit(&table);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(id_zero_is_the_empty_string),
        cmocka_unit_test(equal_strings_share_an_id),
        cmocka_unit_test(a_prefix_is_another_string),
        cmocka_unit_test(formats_short_and_long_strings),
        cmocka_unit_test(zeroed_table_can_be_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
