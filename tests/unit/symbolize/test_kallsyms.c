#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "symbolize/kallsyms.h"

static struct kallsyms *parse(const char *text)
{
    struct kallsyms *kallsyms = NULL;

    assert_null(kallsyms_parse_take(strdup(text), strlen(text), &kallsyms));
    return kallsyms;
}

static void functions_reach_to_the_next_symbol(void **state)
{
    struct kallsyms *kallsyms = parse("ffffffff81000000 T _stext\n"
                                      "ffffffff81000000 T start_kernel\n"
                                      "ffffffff81000100 t helper\n"
                                      "ffffffff81000200 D data\n"
                                      "ffffffff81000300 W weak\n");
    const char *module = NULL;

    (void)state;
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000000, &module), "start_kernel");
    assert_string_equal(module, "vmlinux");
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff810000ff, NULL), "start_kernel");
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000100, NULL), "helper");
    assert_null(kallsyms_find(kallsyms, 0xffffffff81000210, NULL));
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000310, NULL), "weak");
    assert_null(kallsyms_find(kallsyms, 0xffffffff80ffffff, NULL));
    assert_null(kallsyms_find(kallsyms, 0xffffffff81100000, NULL));
    kallsyms_destroy(kallsyms);
}

static void modules_are_named_and_end_near_their_last_symbol(void **state)
{
    struct kallsyms *kallsyms = parse("ffffffffc0001000 t nft_do\t[nf_tables]\n"
                                      "ffffffffc0001100 t nft_last\t[nf_tables]\n"
                                      "ffffffffc0900000 t other\t[ext4]\n");
    const char *module = NULL;

    (void)state;
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffffc0001010, &module), "nft_do");
    assert_string_equal(module, "nf_tables");
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffffc0001120, NULL), "nft_last");
    assert_null(kallsyms_find(kallsyms, 0xffffffffc0400000, NULL));
    kallsyms_destroy(kallsyms);
}

static void restricted_file_gives_no_table(void **state)
{
    (void)state;
    assert_null(parse("0000000000000000 T _stext\n0000000000000000 T start_kernel\n"));
    assert_null(parse(""));
}

static void nonsense_lines_are_skipped(void **state)
{
    struct kallsyms *kallsyms = parse("garbage\n\nffffffff81000000\nffffffff81000000 T\n"
                                      "zzz T x\nffffffff81000010 T good\nffffffff81000020 T ");

    (void)state;
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000011, NULL), "good");
    kallsyms_destroy(kallsyms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_reach_to_the_next_symbol),
        cmocka_unit_test(modules_are_named_and_end_near_their_last_symbol),
        cmocka_unit_test(restricted_file_gives_no_table),
        cmocka_unit_test(nonsense_lines_are_skipped),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
