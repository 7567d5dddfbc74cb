/* Option tables: every kind of value, every way to write it, every way to get it wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "cmd/options.h"

struct settings {
    bool flag;
    const char *text;
    const char *optional;
    unsigned long number;
    double seconds;
    unsigned long long bytes;
    struct option_list list;
};

static const struct option_row rows[] = {
    {'f', "flag", OPTION_FLAG, offsetof(struct settings, flag), NULL, "a flag", .can_negate = true},
    {'t', "text", OPTION_STRING, offsetof(struct settings, text), "TEXT", "a text", .max = 0},
    {0, "optional", OPTION_OPTIONAL, offsetof(struct settings, optional), "X", "maybe", .max = 0},
    {'n', "number", OPTION_UINT, offsetof(struct settings, number), "N", "a number", .min = 1,
     .max = 100, .range_reason = "a hundred is plenty"},
    {'d', "seconds", OPTION_SECONDS, offsetof(struct settings, seconds), "S", "time", .max = 0},
    {'b', "bytes", OPTION_BYTES, offsetof(struct settings, bytes), "B", "size", .max = 0},
    {'l', "list", OPTION_LIST, offsetof(struct settings, list), "L", "list", .max = 0},
    {.long_name = NULL},
};
static const struct command command = {.name = "try", .options = rows};

static struct error *parse(struct settings *settings, bool stop_at_word, int *first, char **argv)
{
    int argc = 0;

    memset(settings, 0, sizeof(*settings));
    while (argv[argc])
        argc++;
    return options_parse(&command, argc, argv, stop_at_word, settings, first);
}

#define ARGV(...)                        \
    (char *[])                           \
    {                                    \
        (char *)"try", __VA_ARGS__, NULL \
    }

static void accepts_every_kind_of_value(void **state)
{
    struct settings settings;
    int first;

    (void)state;
    assert_null(parse(&settings, false, &first,
                      ARGV("-f", "--text", "a", "--optional", "-n7", "--seconds=2m", "-b", "64M",
                           "-l", "x", "--list=y", "word")));
    assert_true(settings.flag);
    assert_string_equal(settings.text, "a");
    assert_string_equal(settings.optional, "");
    assert_int_equal(settings.number, 7);
    assert_true(settings.seconds == 120);
    assert_int_equal(settings.bytes, 64 << 20);
    assert_int_equal(settings.list.num_values, 2);
    assert_int_equal(first, 12);
}

static void joins_short_flags_and_negates_long_ones(void **state)
{
    struct settings settings;
    int first;

    (void)state;
    assert_null(parse(&settings, false, &first, ARGV("-fn", "5", "--no-flag", "--optional=v")));
    assert_false(settings.flag);
    assert_int_equal(settings.number, 5);
    assert_string_equal(settings.optional, "v");
}

static void stops_at_the_first_word_of_a_command(void **state)
{
    struct settings settings;
    int first;

    (void)state;
    assert_null(parse(&settings, true, &first, ARGV("-n", "5", "ls", "-f", "--nonsense")));
    assert_int_equal(first, 3);
    assert_false(settings.flag);
    assert_null(parse(&settings, true, &first, ARGV("--", "-f")));
    assert_int_equal(first, 2);
    assert_false(settings.flag);
}

static void gathers_words_between_options(void **state)
{
    struct settings settings;
    char **argv = ARGV("one", "-f", "two", "-n", "3", "--", "-four");
    int first;

    (void)state;
    assert_null(parse(&settings, false, &first, argv));
    assert_int_equal(first, 5);
    assert_string_equal(argv[5], "one");
    assert_string_equal(argv[6], "two");
    assert_string_equal(argv[7], "-four");
    assert_true(settings.flag);
}

static void refuses(char **argv, const char *in_message, const char *in_hint)
{
    struct settings settings;
    int first;
    CLEANUP(error_destroy) struct error *err = parse(&settings, false, &first, argv);

    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_USAGE);
    assert_non_null(strstr(err->message, in_message));
    if (in_hint)
        assert_non_null(strstr(err->hint, in_hint));
}

static void refuses_what_is_wrong_and_says_what_to_type(void **state)
{
    (void)state;
    refuses(ARGV("--numbr", "5"), "--numbr", "--number");
    refuses(ARGV("-x"), "-x", "--help");
    refuses(ARGV("-n", "101"), "not within 1 to 100", "a hundred is plenty");
    refuses(ARGV("-n", "0"), "not within", NULL);
    refuses(ARGV("-n", "-1"), "whole number", NULL);
    refuses(ARGV("-n", "5x"), "whole number", NULL);
    refuses(ARGV("-n", "99999999999999999999999"), "whole number", NULL);
    refuses(ARGV("-n"), "wants a value", NULL);
    refuses(ARGV("-d", "0"), "time above 0", NULL);
    refuses(ARGV("-d", "nan"), "time above 0", NULL);
    refuses(ARGV("-d", "1x"), "time above 0", NULL);
    refuses(ARGV("-b", "0"), "size above 0", NULL);
    refuses(ARGV("-b", "99999999999G"), "size above 0", NULL);
    refuses(ARGV("--flag=yes"), "takes no value", NULL);
    refuses(ARGV("--text", "--"), "wants a value", NULL);
    refuses(ARGV("--text="), "a value", NULL);
}

static void bounds_repeated_options(void **state)
{
    char *argv[2 + 2 * (OPTION_LIST_MAX + 1)] = {(char *)"try"};

    (void)state;
    for (int i = 0; i <= OPTION_LIST_MAX; i++) {
        argv[1 + 2 * i] = (char *)"-l";
        argv[2 + 2 * i] = (char *)"v";
    }
    refuses(argv, "more than 64", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_every_kind_of_value),
        cmocka_unit_test(joins_short_flags_and_negates_long_ones),
        cmocka_unit_test(stops_at_the_first_word_of_a_command),
        cmocka_unit_test(gathers_words_between_options),
        cmocka_unit_test(refuses_what_is_wrong_and_says_what_to_type),
        cmocka_unit_test(bounds_repeated_options),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
