/* Callchains: bounded; every reason has a text and at most one loss. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "profile/callchain.h"

static void pushing_stops_at_the_limit(void **state)
{
    struct callchain *chain = calloc(1, sizeof(*chain));

    (void)state;
    for (uint64_t i = 0; i < CALLCHAIN_MAX_FRAMES + 10; i++)
        callchain_push(chain, i, 1, REASON_NONE);
    assert_int_equal(chain->num_frames, CALLCHAIN_MAX_FRAMES);
    assert_int_equal(chain->frames[CALLCHAIN_MAX_FRAMES - 1].pc, CALLCHAIN_MAX_FRAMES - 1);
    free(chain);
}

static void every_reason_has_a_text_in_brackets(void **state)
{
    (void)state;
    assert_string_equal(frame_reason_name(REASON_NONE), "");
    assert_string_equal(frame_reason_name(REASON_NUM), "");
    for (int i = REASON_NONE + 1; i < REASON_NUM; i++) {
        const char *name = frame_reason_name((enum frame_reason)i);
        assert_int_equal(name[0], '[');
        assert_int_equal(name[strlen(name) - 1], ']');
        for (int j = 0; j < i; j++)
            assert_string_not_equal(name, frame_reason_name((enum frame_reason)j));
    }
}

static void incomplete_chains_count_as_a_loss_of_their_own(void **state)
{
    int num_losses = 0;

    (void)state;
    for (int i = 0; i < REASON_NUM; i++) {
        enum loss_kind loss = frame_reason_loss((enum frame_reason)i);
        if (loss == LOSS_NUM_KINDS)
            continue;
        num_losses++;
        for (int j = 0; j < i; j++)
            assert_int_not_equal(loss, frame_reason_loss((enum frame_reason)j));
    }
    assert_int_equal(num_losses, 8);
    assert_int_equal(frame_reason_loss(REASON_NONE), LOSS_NUM_KINDS);
    assert_int_equal(frame_reason_loss(REASON_KERNEL), LOSS_NUM_KINDS);
    assert_int_equal(frame_reason_loss(REASON_TRUNCATED), LOSS_TRUNCATED);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushing_stops_at_the_limit),
        cmocka_unit_test(every_reason_has_a_text_in_brackets),
        cmocka_unit_test(incomplete_chains_count_as_a_loss_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
