/* Broken and lying ELF files through the whole way to a rule: no crash, no hang, no flood of
 * memory. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/unwind/mutated_file.h"

#define TEXT_ADDR 0x1000
#define TEXT_BYTES 0x1000
#define EH_FRAME_ADDR 0x3000
#define FRAME_OFF (sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr))
#define SLOWEST_NS MUTATED_SLOWEST_NS

static void mutated_files_are_survived(void **state)
{
    char *original = NULL;
    size_t num_bytes;
    uint64_t longest = 0, seed = 88172645463325252ULL;
    unsigned kinds[16] = {0};
    char *image;

    (void)state;
    assert_null(file_read_all(-100, "/lib64/ld-linux-x86-64.so.2", 1 << 24, &original, &num_bytes));
    image = malloc(num_bytes);
    assert_non_null(image);
    for (int round = 0; round < 400; round++) {
        const Elf64_Ehdr *header = (const Elf64_Ehdr *)(const void *)original;
        uint64_t took;

        memcpy(image, original, num_bytes);
        for (int i = 0; i < 1 + round % 40; i++) {
            size_t at;

            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            at = (size_t)(seed >> 20) % num_bytes;
            if (seed >> 62 == 0) /* the headers are worth more tries than the rest */
                at %= 1024;
            else if (seed >> 62 == 1)
                at = (size_t)(header->e_shoff + at % (header->e_shnum * 64UL)) % num_bytes;
            image[at] = (seed >> 18) & 1 ? (char)(seed >> 10) : (char)0xff;
        }
        took = mutated_look_up(image, round % 10 == 9 ? num_bytes / 2 : num_bytes, /* cut off */
                               0x1000, 0x123, 300, kinds);
        longest = took > longest ? took : longest;
    }
    print_message("longest look-up %.2f ms; simple %u, rows %u, none %u, broken %u\n",
                  (double)longest / 1e6, kinds[RULE_SIMPLE], kinds[RULE_ROW], kinds[RULE_NO_CFI],
                  kinds[RULE_BROKEN]);
    assert_true(kinds[RULE_SIMPLE] > 1000);
    assert_true(longest < SLOWEST_NS);
    free(image);
    free(original);
}

static void mutated_cfi_of_libc_is_survived(void **state)
{
    (void)state;
    survive_mutations("/lib/x86_64-linux-gnu/libc.so.6", ".eh_frame", 100);
    survive_mutations("/lib/x86_64-linux-gnu/libc.so.6", ".eh_frame_hdr", 60);
}

static void file_without_section_headers_unwinds(void **state)
{
    char *image = NULL;
    size_t num_bytes;
    unsigned with_sections[16] = {0}, without_sections[16] = {0};
    Elf64_Ehdr *header;

    (void)state;
    assert_null(file_read_all(-100, "/lib64/ld-linux-x86-64.so.2", 1 << 24, &image, &num_bytes));
    header = (Elf64_Ehdr *)(void *)image;
    mutated_look_up(image, num_bytes, 0x1000, 0x123, 300, with_sections);
    header->e_shoff = 0;
    header->e_shnum = 0;
    header->e_shstrndx = 0;
    mutated_look_up(image, num_bytes, 0x1000, 0x123, 300, without_sections);
    assert_true(with_sections[RULE_SIMPLE] > 200);
    assert_memory_equal(with_sections, without_sections, sizeof(with_sections));
    free(image);
}

/* Makes an ELF image whose .eh_frame has one FDE for the text, with the given program. */
static uint8_t *make_image(const uint8_t *program, size_t program_bytes, size_t *num_bytes_ret)
{
    static const uint8_t cie[] = {0x14, 0,    0,  0, 0,    0,    0, 0, 1,    'z', 'R', 0,
                                  1,    0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1,   0,   0};
    static const char names[] = "\0.eh_frame\0.names";
    size_t fde_bytes = 17 + program_bytes, frame_bytes = sizeof(cie) + fde_bytes;
    size_t headers_at = (FRAME_OFF + frame_bytes + sizeof(names) + 7) & ~(size_t)7;
    uint8_t *image = calloc(1, headers_at + 3 * sizeof(Elf64_Shdr));
    uint8_t *fde = image + FRAME_OFF + sizeof(cie);
    Elf64_Ehdr *header = (Elf64_Ehdr *)(void *)image;
    Elf64_Phdr *segment = (Elf64_Phdr *)(void *)(image + sizeof(*header));
    Elf64_Shdr *sections = (Elf64_Shdr *)(void *)(image + headers_at);
    uint32_t length = (uint32_t)fde_bytes - 4, cie_distance = sizeof(cie) + 4,
             text_bytes = TEXT_BYTES;
    int32_t start = TEXT_ADDR - (EH_FRAME_ADDR + (int32_t)sizeof(cie) + 8);

    memcpy(header->e_ident, "\177ELF\2\1\1", 7);
    header->e_type = ET_DYN;
    header->e_machine = EM_X86_64;
    header->e_version = 1;
    header->e_ehsize = 64;
    header->e_shentsize = sizeof(Elf64_Shdr);
    header->e_shnum = 3;
    header->e_shstrndx = 2;
    header->e_shoff = headers_at;
    header->e_phoff = sizeof(*header);
    header->e_phnum = 1;
    header->e_phentsize = sizeof(*segment);
    *segment = (Elf64_Phdr){.p_type = PT_LOAD,
                            .p_flags = PF_R | PF_X,
                            .p_vaddr = TEXT_ADDR,
                            .p_filesz = headers_at,
                            .p_memsz = headers_at};
    memcpy(image + FRAME_OFF, cie, sizeof(cie));
    memcpy(fde, &length, 4);
    memcpy(fde + 4, &cie_distance, 4);
    memcpy(fde + 8, &start, 4);
    memcpy(fde + 12, &text_bytes, 4);
    memcpy(fde + 17, program, program_bytes);
    memcpy(fde + fde_bytes, names, sizeof(names));
    sections[1] = (Elf64_Shdr){.sh_name = 1,
                               .sh_type = SHT_PROGBITS,
                               .sh_flags = SHF_ALLOC,
                               .sh_addr = EH_FRAME_ADDR,
                               .sh_offset = FRAME_OFF,
                               .sh_size = frame_bytes};
    sections[2] = (Elf64_Shdr){.sh_name = 11,
                               .sh_type = SHT_STRTAB,
                               .sh_offset = FRAME_OFF + frame_bytes,
                               .sh_size = sizeof(names)};
    *num_bytes_ret = headers_at + 3 * sizeof(Elf64_Shdr);
    return image;
}

static unsigned kind_of_program(const uint8_t *program, size_t program_bytes)
{
    unsigned kinds[16] = {0};
    size_t num_bytes;
    uint8_t *image = make_image(program, program_bytes, &num_bytes);

    assert_true(mutated_look_up(image, num_bytes, TEXT_ADDR + TEXT_BYTES - 1, 0, 1, kinds) <
                SLOWEST_NS);
    free(image);
    for (unsigned kind = 0; kind < 16; kind++)
        if (kinds[kind])
            return kind;
    return 16;
}

static void crafted_programs_end_at_once(void **state)
{
    /* DW_CFA_undefined of register 0x7ffffff: 3 s and 1 GB in libdw 0.188 */
    static const uint8_t huge_register[] = {0x07, 0xff, 0xff, 0xff, 0x3f};
    /* the CFA is an expression, then only its register is changed */
    static const uint8_t register_of_expression[] = {0x0f, 1, 0x9c, 0x0d, 7};
    static const uint8_t restore_nothing[] = {0x0b};
    static const uint8_t expression_overrun[] = {0x0f, 0x7f, 0x77};
    static const uint8_t cut_operand[] = {0x0c, 0x87};
    uint8_t *flood = malloc(1 << 20);

    (void)state;
    assert_int_equal(kind_of_program(huge_register, 0), RULE_SIMPLE);
    assert_int_equal(kind_of_program(huge_register, sizeof(huge_register)), RULE_SIMPLE);
    assert_int_equal(kind_of_program(register_of_expression, sizeof(register_of_expression)),
                     RULE_BROKEN);
    assert_int_equal(kind_of_program(restore_nothing, sizeof(restore_nothing)), RULE_BROKEN);
    assert_int_equal(kind_of_program(expression_overrun, sizeof(expression_overrun)), RULE_BROKEN);
    assert_int_equal(kind_of_program(cut_operand, sizeof(cut_operand)), RULE_BROKEN);
    assert_non_null(flood);
    memset(flood, 0x0a, 10000); /* remember_state: 18 s and all memory in libdw 0.188 */
    assert_int_equal(kind_of_program(flood, 10000), RULE_BROKEN);
    memset(flood, 0, 1 << 20); /* a program that is too long */
    assert_int_equal(kind_of_program(flood, 1 << 20), RULE_BROKEN);
    free(flood);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutated_files_are_survived),
        cmocka_unit_test(mutated_cfi_of_libc_is_survived),
        cmocka_unit_test(file_without_section_headers_unwinds),
        cmocka_unit_test(crafted_programs_end_at_once),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
