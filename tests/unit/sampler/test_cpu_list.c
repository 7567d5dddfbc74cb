/* CPU lists: as the kernel writes them, and as nobody should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sampler/cpu_list.h"

static void assert_list(const char *text, const uint32_t *cpus, size_t num_cpus)
{
    struct cpu_list list;

    assert_null(cpu_list_parse(text, &list));
    assert_int_equal(list.num_cpus, num_cpus);
    assert_memory_equal(list.cpus, cpus, num_cpus * sizeof(*cpus));
    cpu_list_deinit(&list);
}

static void reads_numbers_and_ranges(void **state)
{
    (void)state;
    assert_list("0\n", (const uint32_t[]){0}, 1);
    assert_list("0-1\n", (const uint32_t[]){0, 1}, 2);
    assert_list("3,0-1", (const uint32_t[]){0, 1, 3}, 3);
    assert_list("1-3,2-4 \n", (const uint32_t[]){1, 2, 3, 4}, 4);
    assert_list("65535", (const uint32_t[]){65535}, 1);
}

static void refuses_what_is_no_list(void **state)
{
    static const char *const texts[] = {"",    "\n", "a",     "1-",    "-1",
                                        "2-1", "1,", "1,,2",  "1 2",   "65536",
                                        "0x1", "1;", "0-9-9", "1-2-3", "99999999999"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct cpu_list list;
        struct error *err = cpu_list_parse(texts[i], &list);

        assert_non_null(err);
        assert_int_equal(err->kind, ERROR_USAGE);
        error_destroy(err);
    }
}

static void assert_formatted(const char *text, size_t text_bytes, const char *want)
{
    struct cpu_list list;
    char out[64];

    assert_null(cpu_list_parse(text, &list));
    cpu_list_format(&list, out, text_bytes);
    assert_string_equal(out, want);
    cpu_list_deinit(&list);
}

static void writes_lists_as_the_kernel_does(void **state)
{
    (void)state;
    assert_formatted("3,2,1,8", 64, "1-3,8");
    assert_formatted("0", 64, "0");
    assert_formatted("0,2,4-5", 64, "0,2,4-5");
    assert_formatted("1000-2000,3000,4000,5000", 16, "1000-2000...");
    assert_formatted("1000-2000", 8, "...");
}

static void knows_its_members(void **state)
{
    struct cpu_list list;

    (void)state;
    assert_null(cpu_list_parse("1,3-5,900", &list));
    for (uint32_t cpu = 0; cpu < 1000; cpu++)
        assert_int_equal(cpu_list_has(&list, cpu),
                         cpu == 1 || (cpu >= 3 && cpu <= 5) || cpu == 900);
    cpu_list_deinit(&list);
    assert_false(cpu_list_has(&list, 0));
}

static void checks_that_cpus_are_online(void **state)
{
    struct cpu_list list;
    struct error *err;

    (void)state;
    assert_null(cpu_list_online(&list));
    assert_null(cpu_list_check_online(&list));
    cpu_list_deinit(&list);
    assert_null(cpu_list_parse("65535", &list));
    err = cpu_list_check_online(&list);
    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_NOT_FOUND);
    assert_non_null(strstr(err->message, "65535"));
    error_destroy(err);
    cpu_list_deinit(&list);
}

static void finds_the_cpus_that_are_online(void **state)
{
    struct cpu_list list;

    (void)state;
    assert_null(cpu_list_online(&list));
    assert_true(list.num_cpus >= 1);
    for (size_t i = 1; i < list.num_cpus; i++)
        assert_true(list.cpus[i] > list.cpus[i - 1]);
    cpu_list_deinit(&list);
    cpu_list_deinit(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_numbers_and_ranges),
        cmocka_unit_test(refuses_what_is_no_list),
        cmocka_unit_test(finds_the_cpus_that_are_online),
        cmocka_unit_test(writes_lists_as_the_kernel_does),
        cmocka_unit_test(knows_its_members),
        cmocka_unit_test(checks_that_cpus_are_online),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
