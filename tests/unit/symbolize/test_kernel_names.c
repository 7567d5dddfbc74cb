/* The kernel asked for names, against its own file of them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "symbolize/kallsyms.h"
#include "symbolize/kernel_names.h"
#include "tests/unit/skip.h"

static struct kernel_names *names;
static struct kallsyms *kallsyms;
static char *text;

static void open_or_skip(void)
{
    struct error *err = kernel_names_open(&names);

    if (err) {
        print_message("# skipped: %s\n", err->message);
        assert_true(err->kind == ERROR_PERMISSION || err->kind == ERROR_UNSUPPORTED);
        error_destroy(err);
        skip();
    }
}

static int teardown(void **state)
{
    (void)state;
    kernel_names_destroy(names);
    kallsyms_destroy(kallsyms);
    free(text);
    names = NULL;
    kallsyms = NULL;
    text = NULL;
    return 0;
}

/* Tells whether the file has the name that was told anywhere at the address of `best`, which may be
 * another name of the same place. */
static bool is_alias(const char *told, const char *best)
{
    char best_end[600];
    const char *at = text;
    size_t length;

    snprintf(best_end, sizeof(best_end), " %s\n", best);
    at = strstr(text, best_end);
    while (at && at > text && at[-1] != '\n')
        at--;
    length = strlen(told);
    for (const char *line = at; line && !strncmp(line, at, 16); line = strchr(line, '\n') + 1)
        if (!strncmp(line + 19, told, length) && strchr("\t\n", line[19 + length]))
            return true;
    /* Aliases stand side by side: look before it, too. */
    for (const char *line = at; line && line > text && !strncmp(line, at, 16);) {
        if (!strncmp(line + 19, told, length) && strchr("\t\n", line[19 + length]))
            return true;
        for (line--; line > text && line[-1] != '\n';)
            line--;
    }
    return false;
}

static void names_are_those_of_the_file(void **state)
{
    unsigned num = 0;
    unsigned num_equal = 0;

    (void)state;
    open_or_skip();
    assert_null(kallsyms_open("/proc/kallsyms", &kallsyms));
    assert_null(file_read_all(AT_FDCWD, "/proc/kallsyms", 1 << 28, &text, NULL));
    if (!kallsyms)
        SKIP("/proc/kallsyms shows no addresses");
    for (uint64_t i = 0; i < 500; i++) {
        uint64_t pc = 0xffffffff81000000 + i * 2654435761 % 0x1000000;
        const char *modules[2];
        const char *told = kernel_names_find(names, pc, &modules[0]);
        const char *best = kallsyms_find(kallsyms, pc, &modules[1]);

        if (!told || !best)
            continue;
        num++;
        if (strcmp(told, best) == 0)
            num_equal++;
        else if (!is_alias(told, best))
            fail_msg("%lx: told %s, file %s", (unsigned long)pc, told, best);
        assert_string_equal(modules[0], "vmlinux");
        assert_string_equal(modules[1], "vmlinux");
    }
    print_message("# %u functions, %u by the same name, the others by an alias\n", num, num_equal);
}

static void names_stay(void **state)
{
    const char *first;
    char copy[600];

    (void)state;
    open_or_skip();
    first = kernel_names_find(names, 0xffffffff81000000, NULL);
    if (!first)
        SKIP("the kernel lies elsewhere");
    snprintf(copy, sizeof(copy), "%s", first);
    for (uint64_t i = 1; i < 3000; i++)
        kernel_names_find(names, 0xffffffff81000000 + i * 512, NULL);
    assert_string_equal(first, copy);
}

static void places_without_functions_have_no_name(void **state)
{
    static const uint64_t pcs[] = {0, 1, 0x400000, 0x7fffffffffff, 0x8000000000000000, UINT64_MAX};
    const char *module;

    (void)state;
    open_or_skip();
    for (size_t i = 0; i < sizeof(pcs) / sizeof(*pcs); i++)
        assert_null(kernel_names_find(names, pcs[i], &module));
}

/* As kernels with modules print them. */
static void modules_are_told_apart_from_names(void **state)
{
    static const struct {
        const char *text, *name, *module;
    } cases[] = {
        {"vfs_read", "vfs_read", "vmlinux"},
        {"nft_do_chain [nf_tables]", "nft_do_chain", "nf_tables"},
        {"nft_do_chain [nf_tables 0123456789abcdef]", "nft_do_chain", "nf_tables"},
        {"nft_do_chain [nf_tables", "nft_do_chain", "nf_tables"},
        {"bpf_prog_6deef7357e7b4530_filter [bpf]", "bpf_prog_6deef7357e7b4530_filter", "bpf"},
        {"bpf_prog_6deef7357e7b4530_filter", "bpf_prog_6deef7357e7b4530_filter", "bpf"},
        {"bpf_prog_load", "bpf_prog_load", "vmlinux"},
        {"ftrace_trampoline [__builtin__ftrace]", "ftrace_trampoline", "__builtin__ftrace"},
        {"0xffffffffc0123456", NULL, NULL},
        {"", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char printed[64];
        const char *module;

        snprintf(printed, sizeof(printed), "%s", cases[i].text);
        module = kernel_name_split(printed);
        if (!cases[i].module) {
            assert_null(module);
            continue;
        }
        assert_string_equal(printed, cases[i].name);
        assert_string_equal(module, cases[i].module);
    }
}

static void nothing_is_fine(void **state)
{
    (void)state;
    kernel_names_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(names_are_those_of_the_file, teardown),
        cmocka_unit_test_teardown(names_stay, teardown),
        cmocka_unit_test_teardown(places_without_functions_have_no_name, teardown),
        cmocka_unit_test(modules_are_told_apart_from_names),
        cmocka_unit_test(nothing_is_fine),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
