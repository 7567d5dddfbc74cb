/* Errors carry kind, one line of message and one of hint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/cleanup.h"
#include "base/error.h"

static void formats_message_and_copies_hint(void **state)
{
    char hint[] = "do this";

    (void)state;
    CLEANUP(error_destroy) struct error *err = error_create(ERROR_USAGE, hint, "no %s", "file");
    hint[0] = 'X';
    assert_int_equal(err->kind, ERROR_USAGE);
    assert_int_equal(err->errno_value, 0);
    assert_string_equal(err->message, "no file");
    assert_string_equal(err->hint, "do this");
}

static void kind_follows_from_errno(void **state)
{
    static const struct {
        int err;
        enum error_kind kind;
    } cases[] = {
        {ENOMEM, ERROR_NO_MEMORY},       {EPERM, ERROR_PERMISSION}, {EACCES, ERROR_PERMISSION},
        {ENOENT, ERROR_NOT_FOUND},       {ESRCH, ERROR_GONE},       {ENOSYS, ERROR_UNSUPPORTED},
        {EOPNOTSUPP, ERROR_UNSUPPORTED}, {EIO, ERROR_FAILED},       {ENOSPC, ERROR_FAILED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        CLEANUP(error_destroy) struct error *err = error_from_errno(cases[i].err, NULL, "x");
        assert_int_equal(err->kind, cases[i].kind);
        assert_int_equal(err->errno_value, cases[i].err);
        assert_null(err->hint);
    }
}

static void errno_text_stands_behind_the_message(void **state)
{
    (void)state;
    CLEANUP(error_destroy) struct error *err = error_from_errno(ENOENT, NULL, "open %s", "a");
    assert_string_equal(err->message, "open a: No such file or directory");
}

static void unknown_errno_is_still_one_line(void **state)
{
    (void)state;
    CLEANUP(error_destroy) struct error *err = error_from_errno(99999, NULL, "x");
    assert_string_equal(err->message, "x: Unknown error 99999");
}

static void control_characters_cannot_break_the_line(void **state)
{
    (void)state;
    CLEANUP(error_destroy)
    struct error *err = error_create(ERROR_FAILED, "a\nb", "evil\n\033[2J%s", "\r");
    assert_string_equal(err->message, "evil??[2J?");
    assert_string_equal(err->hint, "a?b");
}

static void prefix_is_put_in_front(void **state)
{
    (void)state;
    struct error *inner = error_create(ERROR_GONE, "h", "inner");
    CLEANUP(error_destroy) struct error *err = error_prefix_take(inner, "outer %d", 1);
    assert_string_equal(err->message, "outer 1: inner");
    assert_string_equal(err->hint, "h");
    assert_int_equal(err->kind, ERROR_GONE);
    assert_null(error_prefix_take(NULL, "x"));
    assert_ptr_equal(error_prefix_take(&error_no_memory, "x"), &error_no_memory);
}

static void first_hint_wins(void **state)
{
    (void)state;
    CLEANUP(error_destroy) struct error *err = error_create(ERROR_FAILED, NULL, "m");
    err = error_with_hint(err, "first");
    err = error_with_hint(err, "second");
    assert_string_equal(err->hint, "first");
    assert_null(error_with_hint(NULL, "x"));
    assert_ptr_equal(error_with_hint(&error_no_memory, "x"), &error_no_memory);
    assert_null(error_no_memory.hint);
}

static void no_memory_survives_its_destruction(void **state)
{
    (void)state;
    error_destroy(&error_no_memory);
    error_destroy(NULL);
    assert_string_equal(error_no_memory.message, "out of memory");
    assert_int_equal(error_no_memory.kind, ERROR_NO_MEMORY);
}

static void running_out_of_descriptors_has_a_remedy(void **state)
{
    CLEANUP(error_destroy) struct error *err = error_from_errno(EMFILE, NULL, "cannot open");
    CLEANUP(error_destroy) struct error *other = error_from_errno(EMFILE, "mine", "cannot open");

    (void)state;
    assert_non_null(strstr(err->hint, "ulimit -n"));
    assert_string_equal(other->hint, "mine");
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(running_out_of_descriptors_has_a_remedy),
        cmocka_unit_test(formats_message_and_copies_hint),
        cmocka_unit_test(kind_follows_from_errno),
        cmocka_unit_test(errno_text_stands_behind_the_message),
        cmocka_unit_test(unknown_errno_is_still_one_line),
        cmocka_unit_test(control_characters_cannot_break_the_line),
        cmocka_unit_test(prefix_is_put_in_front),
        cmocka_unit_test(first_hint_wins),
        cmocka_unit_test(no_memory_survives_its_destruction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
