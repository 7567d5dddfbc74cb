#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
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

/* What a kernel with modules shows: modules in no order, behind them trampolines and BPF programs,
 * in the same part of the address space. */
static const char with_modules[] = "ffffffff81000000 T _stext\n"
                                   "ffffffff81000100 T vfs_read\n"
                                   "ffffffff82000000 D data\n"
                                   "ffffffffc0a00000 t __pfx_nft_do_chain\t[nf_tables]\n"
                                   "ffffffffc0a00010 T nft_do_chain\t[nf_tables]\n"
                                   "ffffffffc0a00400 t nft_last\t[nf_tables]\n"
                                   "ffffffffc0a08000 d nft_data\t[nf_tables]\n"
                                   "ffffffffc0a03000 b nft_bss\t[nf_tables]\n"
                                   "ffffffffc0400000 t nf_ct_get\t[nf_conntrack]\n"
                                   "ffffffffc0400000 t nf_ct_alias\t[nf_conntrack]\n"
                                   "ffffffffc0400080 r __kstrtab\t[nf_conntrack]\n"
                                   "ffffffffc0300000 t ftrace_trampoline\t[__builtin__ftrace]\n"
                                   "ffffffffc0310000 t bpf_prog_6deef7357e7b4530_f\t[bpf]\n";

static void functions_of_many_modules_have_both_names(void **state)
{
    static const struct {
        uint64_t pc;
        const char *name, *module; /* NULL: none */
    } places[] = {
        {0xffffffff81000101, "vfs_read", "vmlinux"},
        {0xffffffff82000001, NULL, NULL},
        {0xffffffffc0300010, "ftrace_trampoline", "__builtin__ftrace"},
        {0xffffffffc0310010, "bpf_prog_6deef7357e7b4530_f", "bpf"},
        {0xffffffffc0400001, "nf_ct_alias", "nf_conntrack"},
        {0xffffffffc040007f, "nf_ct_alias", "nf_conntrack"},
        {0xffffffffc0400081, NULL, NULL},
        {0xffffffffc0a0000f, "__pfx_nft_do_chain", "nf_tables"},
        {0xffffffffc0a00010, "nft_do_chain", "nf_tables"},
        {0xffffffffc0a00401, "nft_last", "nf_tables"},
        {0xffffffffc0a03001, NULL, NULL},
        {0xffffffffc0a08001, NULL, NULL},
        {0xffffffffc0b00000, NULL, NULL},
    };
    struct kallsyms *kallsyms = parse(with_modules);

    (void)state;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const char *module = NULL;
        const char *name = kallsyms_find(kallsyms, places[i].pc, &module);

        if (!places[i].name) {
            assert_null(name);
            continue;
        }
        assert_non_null(name);
        assert_string_equal(name, places[i].name);
        assert_string_equal(module, places[i].module);
    }
    kallsyms_destroy(kallsyms);
}

/* kptr_restrict hides all addresses, those of modules as well. */
static void restricted_file_with_modules_gives_no_table(void **state)
{
    char *text = strdup(with_modules);

    (void)state;
    for (char *line = text; *line; line = strchr(line, '\n') + 1)
        memset(line, '0', 16);
    assert_null(parse(text));
    free(text);
}

static void nonsense_lines_are_skipped(void **state)
{
    struct kallsyms *kallsyms = parse("garbage\n\nffffffff81000000\nffffffff81000000 T\n"
                                      "zzz T x\nffffffff81000010 T good\nffffffff81000020 T ");

    (void)state;
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000011, NULL), "good");
    kallsyms_destroy(kallsyms);
}

static void order_in_the_file_does_not_matter(void **state)
{
    struct kallsyms *kallsyms = parse("ffffffff81000000 T first\n"
                                      "ffffffff81000100 T second\n"
                                      "ffffffffc0002000 t late\t[b]\n"
                                      "ffffffffc0002100 d late_data\t[b]\n"
                                      "ffffffffc0001000 t early\t[a]\n"
                                      "ffffffffc0001080 d early_data\t[a]\n"
                                      "ffffffff81000080 T between\n"
                                      "ffffffff81000100 T alias\n");
    const char *module;

    (void)state;
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff8100007f, NULL), "first");
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000080, NULL), "between");
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000101, NULL), "alias");
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffffc0001001, &module), "early");
    assert_string_equal(module, "a");
    assert_null(kallsyms_find(kallsyms, 0xffffffffc0001090, NULL));
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffffc0002001, &module), "late");
    assert_string_equal(module, "b");
    assert_null(kallsyms_find(kallsyms, 0xffffffffc0002101, NULL));
    kallsyms_destroy(kallsyms);
}

/* --- files ---------------------------------------------------------------------------------- */

#define NUM_LINES 20000

/* Makes a file of NUM_LINES functions, 16 bytes each. path: room for 64 bytes. */
static int write_lines(char *path, const char *last_lines)
{
    int fd = memfd_create("kallsyms", 0);
    FILE *stream = fdopen(dup(fd), "w");

    for (unsigned i = 0; i < NUM_LINES; i++)
        fprintf(stream, "%lx T function_%u\n", 0xffffffff81000000 + i * 16UL, i);
    fputs(last_lines, stream);
    fclose(stream);
    lseek(fd, 0, SEEK_SET);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static void reads_no_further_than_asked(void **state)
{
    char path[64];
    int fd = write_lines(path, "ffffffff81000000 T a\nffffffffc0000000 t m\t[mod]\n");
    struct kallsyms *kallsyms;
    const char *module;

    (void)state;
    assert_null(kallsyms_open(path, &kallsyms));
    close(fd);
    for (unsigned i = 0; i < NUM_LINES - 1; i += 7) {
        char name[32];

        snprintf(name, sizeof(name), "function_%u", i);
        assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000000 + i * 16UL + 3, NULL), name);
        /* The better name at the end of the file would win, had it been read. */
        if (i < NUM_LINES / 2)
            assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000001, NULL), "function_0");
    }
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffffc0000010, &module), "m");
    assert_string_equal(module, "mod");
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff81000001, NULL), "a");
    kallsyms_destroy(kallsyms);
}

static void restricted_file_is_not_read_to_its_end(void **state)
{
    int fd = memfd_create("kallsyms", 0);
    FILE *stream = fdopen(dup(fd), "w");
    struct kallsyms *kallsyms;
    char path[64];

    (void)state;
    for (unsigned i = 0; i < NUM_LINES; i++)
        fprintf(stream, "%016x T function_%u\n", 0, i);
    fputs("ffffffff81000000 T visible\n", stream);
    fclose(stream);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_null(kallsyms_open(path, &kallsyms));
    assert_null(kallsyms);
    close(fd);
}

static void endless_lines_are_skipped(void **state)
{
    char *lines = malloc(300001);
    struct kallsyms *kallsyms;
    char path[64];
    int fd;

    (void)state;
    memset(lines, 'x', 300000);
    memcpy(lines + 299970, "\nffffffff82000000 T behind\n", 28);
    lines[299997] = '\0';
    fd = write_lines(path, lines);
    free(lines);
    assert_null(kallsyms_open(path, &kallsyms));
    close(fd);
    assert_string_equal(kallsyms_find(kallsyms, 0xffffffff82000001, NULL), "behind");
    kallsyms_destroy(kallsyms);
}

static void missing_file_is_an_error(void **state)
{
    struct kallsyms *kallsyms;
    struct error *err = kallsyms_open("/nonexistent/kallsyms", &kallsyms);

    (void)state;
    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_NOT_FOUND);
    error_destroy(err);
}

/* Finds by a plain scan what is at or next below `pc`. */
static uint64_t scan(const char *text, uint64_t pc)
{
    uint64_t best = 0;

    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        uint64_t at = strtoull(line, NULL, 16);

        if (at <= pc && at > best)
            best = at;
    }
    return best;
}

/* The running kernel, asked up and down: each name stands in the file at the address found by
 * looking at every line. */
static void agrees_with_a_plain_scan(void **state)
{
    struct kallsyms *kallsyms = NULL;
    char *text = NULL;
    unsigned num = 0;

    (void)state;
    assert_null(kallsyms_open("/proc/kallsyms", &kallsyms));
    assert_null(file_read_all(AT_FDCWD, "/proc/kallsyms", 1 << 28, &text, NULL));
    for (uint64_t i = 0; kallsyms && i < 64; i++) {
        uint64_t pc = 0xffffffff81000000 + i * 2654435761 % 0x1200000;
        const char *name = kallsyms_find(kallsyms, pc, NULL);
        char line[600];
        bool is_there = false;

        if (!name)
            continue;
        for (const char *type = "TtWw"; *type && !is_there; type++) {
            snprintf(line, sizeof(line), "%lx %c %s", (unsigned long)scan(text, pc), *type, name);
            is_there = strstr(text, line) != NULL;
        }
        if (!is_there)
            fail_msg("%lx is not %s", (unsigned long)pc, name);
        num++;
    }
    print_message("# %u functions\n", num);
    kallsyms_destroy(kallsyms);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_reach_to_the_next_symbol),
        cmocka_unit_test(modules_are_named_and_end_near_their_last_symbol),
        cmocka_unit_test(restricted_file_gives_no_table),
        cmocka_unit_test(functions_of_many_modules_have_both_names),
        cmocka_unit_test(restricted_file_with_modules_gives_no_table),
        cmocka_unit_test(nonsense_lines_are_skipped),
        cmocka_unit_test(order_in_the_file_does_not_matter),
        cmocka_unit_test(reads_no_further_than_asked),
        cmocka_unit_test(restricted_file_is_not_read_to_its_end),
        cmocka_unit_test(endless_lines_are_skipped),
        cmocka_unit_test(missing_file_is_an_error),
        cmocka_unit_test(agrees_with_a_plain_scan),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
