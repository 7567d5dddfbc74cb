/* Frames are remembered by process, place on the stack and return address; the newest caller wins.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "unwind/frame_memory.h"

static void caller_is_remembered_by_its_exact_frame(void **state)
{
    const struct frame_state frame = {.ip = 0x401000, .sp = 0x7ffe1000, .bp = 1};
    const struct frame_state caller = {0x402000, 0x7ffe1040, 0x7ffe1030, true};
    const struct frame_state newer = {0x403000, 0x7ffe1080, 0, false};
    struct frame_state found = {0}, other = frame;
    struct frame_memory memory = {0};

    (void)state;
    assert_null(frame_memory_init(&memory));
    assert_false(frame_memory_get(&memory, 7, &frame, &found));
    frame_memory_put(&memory, 7, &frame, &caller);
    assert_true(frame_memory_get(&memory, 7, &frame, &found));
    assert_int_equal(found.ip, caller.ip);
    assert_int_equal(found.sp, caller.sp);
    assert_int_equal(found.bp, caller.bp);
    assert_true(found.is_bp_known);

    assert_false(frame_memory_get(&memory, 8, &frame, &found));
    other.sp += 16;
    assert_false(frame_memory_get(&memory, 7, &other, &found));
    other = frame;
    other.ip++;
    assert_false(frame_memory_get(&memory, 7, &other, &found));

    frame_memory_put(&memory, 7, &frame, &newer);
    assert_true(frame_memory_get(&memory, 7, &frame, &found));
    assert_int_equal(found.ip, newer.ip);
    assert_false(found.is_bp_known);
    frame_memory_deinit(&memory);
}

/* A caller lies above, on the same stack: Go's scheduler stack leads to another one. */
static void switch_of_stacks_is_not_remembered(void **state)
{
    const struct frame_state frame = {.ip = 0x401000, .sp = 0x7ffe00001000};
    const struct frame_state callers[] = {{.ip = 0x402000, .sp = 0x7ffe00001000},
                                          {.ip = 0x402000, .sp = 0xc000012000},
                                          {.ip = 0x402000, .sp = 0x7fff90001000}};
    const struct frame_state no_call = {.ip = 0x401000};
    struct frame_memory memory = {0};
    struct frame_state found;

    (void)state;
    assert_null(frame_memory_init(&memory));
    for (size_t i = 0; i < sizeof(callers) / sizeof(callers[0]); i++) {
        frame_memory_put(&memory, 7, &frame, &callers[i]);
        assert_false(frame_memory_get(&memory, 7, &frame, &found));
    }
    frame_memory_put(&memory, 7, &no_call, &frame);
    assert_false(frame_memory_get(&memory, 7, &no_call, &found));
    frame_memory_deinit(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(caller_is_remembered_by_its_exact_frame),
        cmocka_unit_test(switch_of_stacks_is_not_remembered),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
