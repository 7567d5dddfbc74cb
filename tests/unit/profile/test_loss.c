/* Losses: every kind has a name, every key is its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "profile/loss.h"

static void every_kind_has_a_name_and_a_unique_key(void **state)
{
    (void)state;
    for (int i = 0; i < LOSS_NUM_KINDS; i++) {
        const char *key = loss_key((enum loss_kind)i);
        assert_true(strlen(loss_name((enum loss_kind)i)) > 0);
        assert_true(strlen(key) > 0);
        assert_int_equal(strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(key));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(key, loss_key((enum loss_kind)j));
    }
    assert_string_equal(loss_name(LOSS_NUM_KINDS), "");
    assert_string_equal(loss_key((enum loss_kind) - 1), "");
    assert_string_equal(loss_key(LOSS_NO_UNWIND_INFO), "no_unwind_info");
}

static void adding_saturates(void **state)
{
    struct loss loss = {.counts = {[LOSS_LOST] = 3, [LOSS_JIT] = UINT64_MAX - 1}};
    struct loss more = {.counts = {[LOSS_LOST] = 4, [LOSS_JIT] = 5, [LOSS_MERGED] = 1}};

    (void)state;
    loss_add(&loss, &more);
    assert_int_equal(loss.counts[LOSS_LOST], 7);
    assert_int_equal(loss.counts[LOSS_MERGED], 1);
    assert_true(loss.counts[LOSS_JIT] == UINT64_MAX);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_a_name_and_a_unique_key),
        cmocka_unit_test(adding_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
