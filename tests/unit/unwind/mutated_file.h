/* Copies of a real ELF file with broken bytes, all the way to a rule: for tests of hostile input.
 *
 * The same copies in every run. Needs cmocka.h and what it needs before it.
 */
#ifndef TESTS_MUTATED_FILE_H
#define TESTS_MUTATED_FILE_H

#include <elf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "target/module.h"
#include "unwind/cfi_rule.h"

#define MUTATED_SLOWEST_NS 100000000ULL /* of CPU time, for one look-up */

static inline uint64_t mutated_cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Looks up `num_places` places of an ELF image, `step` apart from `first` on. kinds: counts by
 * enum rule_kind, added to. Returns: the longest look-up in ns of CPU time. */
static inline uint64_t mutated_look_up(const void *image, size_t num_bytes, uint64_t first,
                                       uint64_t step, size_t num_places, unsigned *kinds)
{
    struct module_table *table = NULL;
    struct module *module = NULL;
    uint64_t longest = 0;

    assert_null(module_table_create(&table));
    assert_null(module_table_get_vdso(table, image, num_bytes, &module));
    for (size_t i = 0; i < num_places; i++) {
        uint64_t work = 2 << 20, start = mutated_cpu_ns(), took;
        struct cfi_row row = {0};
        struct unwind_rule rule = cfi_rule_find(module, first + i * step, i % 2, &work, &row);

        took = mutated_cpu_ns() - start;
        longest = took > longest ? took : longest;
        kinds[rule.kind]++;
    }
    module_table_destroy(table);
    return longest;
}

/* Finds a section of a sane ELF file by name. Returns: its header; NULL: there is none. */
static inline const Elf64_Shdr *mutated_section(const char *file, const char *name)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)(const void *)file;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(const void *)(file + header->e_shoff);
    const char *names = file + sections[header->e_shstrndx].sh_offset;

    for (unsigned i = 0; i < header->e_shnum; i++)
        if (strcmp(names + sections[i].sh_name, name) == 0)
            return &sections[i];
    return NULL;
}

/* Breaks 1 to 40 bytes of the section `name` of the file at `path` in each of `num_rounds` copies
 * and looks up 300 places of .text in each: all end soon, and most still find a rule. */
static inline void survive_mutations(const char *path, const char *name, int num_rounds)
{
    unsigned kinds[16] = {0};
    uint64_t longest = 0, seed = 88172645463325252ULL;
    char *original = NULL, *image;
    const Elf64_Shdr *section, *text;
    size_t num_bytes;

    assert_null(file_read_all(-100, path, 1 << 26, &original, &num_bytes));
    section = mutated_section(original, name);
    text = mutated_section(original, ".text");
    assert_true(section && text && !(section->sh_flags & SHF_COMPRESSED));
    image = malloc(num_bytes);
    assert_non_null(image);
    for (int round = 0; round < num_rounds; round++) {
        uint64_t took;

        memcpy(image, original, num_bytes);
        for (int i = 0; i < 1 + round % 40; i++) {
            size_t at;

            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            at = (size_t)(seed >> 20) % (round % 2 ? section->sh_size : 4096) % section->sh_size;
            image[section->sh_offset + at] = (seed >> 18) & 1 ? (char)(seed >> 10) : (char)0xff;
        }
        took = mutated_look_up(image, num_bytes, text->sh_addr, text->sh_size / 300, 300, kinds);
        longest = took > longest ? took : longest;
    }
    print_message(
        "%s of %s: longest look-up %.2f ms; simple %u, Go %u, rows %u, none %u, broken %u\n", name,
        path, (double)longest / 1e6, kinds[RULE_SIMPLE], kinds[RULE_GO], kinds[RULE_ROW],
        kinds[RULE_NO_CFI] + kinds[RULE_GO_NO_CFI], kinds[RULE_BROKEN]);
    assert_true(kinds[RULE_SIMPLE] + kinds[RULE_GO] > 1000);
    assert_true(longest < MUTATED_SLOWEST_NS);
    free(image);
    free(original);
}

#endif
