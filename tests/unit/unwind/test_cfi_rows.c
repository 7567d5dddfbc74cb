/* Rows of our CFI reader against libdw's, over thousands of places in real files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <gelf.h>

#include "tests/unit/unwind/mutated_file.h"

struct comparison {
    size_t num_equal, num_different, num_neither;
};

static void close_module_table(struct module_table **table)
{
    module_table_destroy(*table);
}

/* Tells whether our value of a register says the same as libdw's operations. */
static bool is_same_value(const struct cfi_value *ours, unsigned reg, const Dwarf_Op *ops,
                          size_t num_ops, bool is_libdw_null)
{
    bool is_callee_saved = (1U << reg) & ARCH_CALLEE_SAVED;

    switch (ours->kind) {
    case CFI_UNSPECIFIED:
        if (reg == ARCH_REG_SP) /* libdw knows from the ABI that it is the CFA */
            return num_ops == 2 && ops[0].atom == DW_OP_call_frame_cfa &&
                   ops[1].atom == DW_OP_stack_value;
        /* libdw 0.188 takes register 0 for rbx in the ABI's rules; and what the caller may clobber
         * makes no difference. */
        return reg == ARCH_REG_IP || reg == 3 ||
               (num_ops == 0 && (is_libdw_null || !is_callee_saved));
    case CFI_UNDEFINED:
        return num_ops == 0 && !is_libdw_null;
    case CFI_SAME:
        return num_ops == 0 && is_libdw_null;
    case CFI_OFFSET:
        return num_ops >= 1 && ops[0].atom == DW_OP_call_frame_cfa &&
               (num_ops == 2 ? (int64_t)ops[1].number : 0) == ours->offset;
    case CFI_EXPR:
    case CFI_VAL_EXPR:
        return num_ops >= 1 && ops[0].atom != DW_OP_call_frame_cfa ? true : num_ops >= 2;
    default:
        return num_ops >= 1;
    }
}

static bool is_same_row(const struct cfi_row *row, Dwarf_Frame *frame)
{
    Dwarf_Op memory[3];
    Dwarf_Op *ops;
    size_t num_ops;
    bool is_signal;

    if (dwarf_frame_cfa(frame, &ops, &num_ops) != 0 || num_ops == 0)
        return false;
    if (row->cfa.kind == CFI_REGISTER &&
        !(num_ops == 1 && ops[0].atom == DW_OP_bregx && ops[0].number == row->cfa.reg &&
          (int64_t)ops[0].number2 == row->cfa.offset))
        return false;
    if (row->cfa.kind == CFI_VAL_EXPR && num_ops == 1 && ops[0].atom == DW_OP_bregx)
        return false;
    dwarf_frame_info(frame, NULL, NULL, &is_signal);
    if (is_signal != row->is_signal_frame)
        return false;
    for (unsigned reg = 0; reg < ARCH_NUM_REGS; reg++) {
        if (dwarf_frame_register(frame, (int)reg, memory, &ops, &num_ops) != 0)
            return false;
        if (!is_same_value(&row->regs[reg], reg, ops, num_ops, ops == NULL))
            return false;
    }
    return true;
}

static void compare_at(struct module *module, Dwarf_CFI *libdw_cfi, uint64_t elf_addr,
                       struct comparison *comparison)
{
    uint64_t work = 1 << 20;
    struct cfi_row row = {0};
    Dwarf_Frame *frame = NULL;
    struct unwind_rule rule = cfi_rule_find(module, elf_addr, false, &work, &row);
    bool is_ours = rule.kind == RULE_SIMPLE || rule.kind == RULE_GO || rule.kind == RULE_ROW ||
                   (rule.kind == RULE_ROOT && row.regs[ARCH_REG_IP].kind == CFI_UNDEFINED);
    bool is_theirs = dwarf_cfi_addrframe(libdw_cfi, elf_addr, &frame) == 0;

    /* Without CFI, the code at the entry point counts as root. */
    if (rule.kind == RULE_GO) /* we know from Go where it saves rbp; its CFI doesn't tell */
        row.regs[ARCH_REG_BP] = (struct cfi_value){.kind = CFI_UNSPECIFIED};
    if (!is_ours && !is_theirs)
        comparison->num_neither++;
    else if (is_ours && is_theirs && is_same_row(&row, frame))
        comparison->num_equal++;
    else {
        if (comparison->num_different++ < 5)
            print_message("differs: %s 0x%lx ours %d libdw %d\n", module->path, elf_addr, rule.kind,
                          is_theirs);
    }
    free(frame);
}

/* Runs a shell command. Returns: its wait status. */
static int run_command(const char *command)
{
    FILE *pipe = popen(command, "r");

    assert_non_null(pipe);
    return pclose(pipe);
}

static void compare_file(const char *path, size_t num_places, bool use_debug_frame)
{
    __attribute__((cleanup(close_module_table))) struct module_table *table = NULL;
    struct comparison comparison = {0};
    struct module *module;
    Dwarf *dwarf = NULL;
    Dwarf_CFI *libdw_cfi;
    uint64_t state = 88172645463325252ULL;

    assert_null(module_table_create(&table));
    assert_null(module_table_open_path(table, path, &module));
    if (!module->elf) {
        print_message("not here: %s\n", path);
        return;
    }
    if (use_debug_frame) {
        dwarf = dwarf_begin_elf(module->elf, DWARF_C_READ, NULL);
        assert_non_null(dwarf);
    }
    libdw_cfi = use_debug_frame ? dwarf_getcfi(dwarf) : dwarf_getcfi_elf(module->elf);
    assert_non_null(libdw_cfi);
    for (size_t i = 0; i < module->num_segments; i++) {
        const struct module_segment *segment = &module->segments[i];

        for (size_t n = 0; segment->is_executable && n < num_places; n++) {
            state ^= state << 13; /* Marsaglia's xorshift: the same places in every run */
            state ^= state >> 7;
            state ^= state << 17;
            compare_at(module, libdw_cfi, segment->elf_addr + state % segment->file_bytes,
                       &comparison);
        }
    }
    print_message("%s: %zu equal, %zu different, %zu without CFI\n", path, comparison.num_equal,
                  comparison.num_different, comparison.num_neither);
    assert_int_equal(comparison.num_different, 0);
    assert_true(comparison.num_equal > num_places / 4);
    if (use_debug_frame)
        dwarf_end(dwarf);
    else
        dwarf_cfi_end(libdw_cfi);
}

static void rows_of_libc_equal_libdw(void **state)
{
    (void)state;
    compare_file("/lib/x86_64-linux-gnu/libc.so.6", 20000, false);
}

static void rows_of_libcrypto_equal_libdw(void **state)
{
    (void)state;
    compare_file("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", 20000, false);
}

static void rows_of_this_test_equal_libdw(void **state)
{
    (void)state;
    compare_file("/proc/self/exe", 2000, false);
}

static void rows_of_ld_so_equal_libdw(void **state)
{
    (void)state;
    compare_file("/lib64/ld-linux-x86-64.so.2", 10000, false);
}

static void rows_of_go_debug_frame_equal_libdw_and_broken_ones_are_survived(void **state)
{
    char directory[] = "/tmp/cprofiler-test-cfi-XXXXXX";
    char command[512];

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(command, sizeof(command),
             "cd %s && printf 'package main\nfunc main() { println(1) }\n' >main.go && "
             "HOME=%s GOFLAGS=-mod=mod go build -o main main.go",
             directory, directory);
    if (run_command(command) == 0) {
        char path[512];

        snprintf(path, sizeof(path), "%s/main", directory);
        compare_file(path, 5000, true);
        snprintf(command, sizeof(command), "objcopy --decompress-debug-sections %s/main",
                 directory);
        assert_int_equal(run_command(command), 0);
        survive_mutations(path, ".debug_frame", 100); /* built once for both */
    } else {
        print_message("no go here\n");
    }
    snprintf(command, sizeof(command), "chmod -R u+w %s; rm -rf %s", directory, directory);
    assert_int_equal(run_command(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_libc_equal_libdw),
        cmocka_unit_test(rows_of_libcrypto_equal_libdw),
        cmocka_unit_test(rows_of_this_test_equal_libdw),
        cmocka_unit_test(rows_of_ld_so_equal_libdw),
        cmocka_unit_test(rows_of_go_debug_frame_equal_libdw_and_broken_ones_are_survived),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
