/* Processes by number: a pid that comes again is somebody else, and what was dropped stays so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sampler/heap_processes.h"

static uint32_t number_of(struct heap_processes *processes, pid_t pid)
{
    uint32_t number;

    assert_null(heap_processes_get(processes, pid, &number));
    return number;
}

static void a_process_keeps_its_number(void **state)
{
    struct heap_processes processes = {0};
    uint32_t first = number_of(&processes, 100);
    uint32_t second = number_of(&processes, 101);

    (void)state;
    assert_int_not_equal(first, 0);
    assert_int_not_equal(first, second);
    assert_int_equal(number_of(&processes, 100), first);
    assert_int_equal(number_of(&processes, 101), second);
    heap_processes_deinit(&processes);
}

static void a_pid_that_comes_again_is_somebody_else(void **state)
{
    struct heap_processes processes = {0};
    uint32_t first = number_of(&processes, 100);
    uint32_t kept = number_of(&processes, 200);

    (void)state;
    assert_int_equal(heap_processes_remove(&processes, 100, true), first);
    assert_int_equal(heap_processes_remove(&processes, 100, true), 0);
    assert_int_not_equal(number_of(&processes, 100), first);
    assert_true(heap_processes_is_dropped(&processes, first));
    assert_false(heap_processes_is_dropped(&processes, number_of(&processes, 100)));
    assert_int_equal(heap_processes_remove(&processes, 200, false), kept);
    assert_false(heap_processes_is_dropped(&processes, kept));
    heap_processes_deinit(&processes);
}

static void thousands_come_and_go(void **state)
{
    struct heap_processes processes = {0};

    (void)state;
    for (pid_t pid = 1; pid <= 5000; pid++) {
        uint32_t number = number_of(&processes, pid);

        assert_false(heap_processes_is_dropped(&processes, number));
        assert_int_equal(heap_processes_remove(&processes, pid, pid % 3 == 0), number);
    }
    for (uint32_t number = 1; number <= 5000; number++)
        assert_int_equal(heap_processes_is_dropped(&processes, number), number % 3 == 0);
    assert_int_equal(processes.num_processes, 0);
    heap_processes_deinit(&processes);
}

static void numbers_that_were_never_given_are_not_dropped(void **state)
{
    struct heap_processes processes = {0};

    (void)state;
    assert_false(heap_processes_is_dropped(&processes, 1));
    assert_false(heap_processes_is_dropped(&processes, UINT64_MAX));
    number_of(&processes, 1);
    assert_false(heap_processes_is_dropped(&processes, 0));
    assert_false(heap_processes_is_dropped(&processes, 64));
    heap_processes_deinit(&processes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_keeps_its_number),
        cmocka_unit_test(a_pid_that_comes_again_is_somebody_else),
        cmocka_unit_test(thousands_come_and_go),
        cmocka_unit_test(numbers_that_were_never_given_are_not_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
