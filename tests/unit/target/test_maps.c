/* Lines of /proc/PID/maps, ranges that overlap, and addresses converted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "target/maps.h"

/* Parses a copy of `text`. line: the copy, for the path. */
static bool parse(const char *text, char *line, size_t line_bytes, struct maps_line *parsed)
{
    assert_true(strlen(text) < line_bytes);
    memcpy(line, text, strlen(text) + 1);
    return maps_line_parse(line, parsed);
}

static void line_of_a_file_is_parsed(void **state)
{
    struct maps_line parsed;
    char line[256];

    (void)state;
    assert_true(parse("7f8ef5700000-7f8ef5856000 r-xp 00026000 fe:10 326269                     "
                      "/usr/lib/libc.so.6\n",
                      line, sizeof(line), &parsed));
    assert_int_equal(parsed.start, 0x7f8ef5700000);
    assert_int_equal(parsed.limit, 0x7f8ef5856000);
    assert_int_equal(parsed.prot, PROT_READ | PROT_EXEC);
    assert_int_equal(parsed.file_off, 0x26000);
    assert_int_equal(parsed.dev_major, 0xfe);
    assert_int_equal(parsed.dev_minor, 0x10);
    assert_int_equal(parsed.inode, 326269);
    assert_string_equal(parsed.path, "/usr/lib/libc.so.6");
}

static void line_of_anonymous_memory_has_no_path(void **state)
{
    struct maps_line parsed;
    char line[256];

    (void)state;
    assert_true(parse("1000-2000 rwxs 00000000 00:00 0 ", line, sizeof(line), &parsed));
    assert_string_equal(parsed.path, "");
    assert_int_equal(parsed.prot, PROT_READ | PROT_WRITE | PROT_EXEC);
    assert_true(parse("1000-2000 ---p 00000000 00:00 0", line, sizeof(line), &parsed));
    assert_int_equal(parsed.prot, 0);
}

static void paths_with_odd_bytes_are_kept(void **state)
{
    struct maps_line parsed;
    char line[256];

    (void)state;
    assert_true(parse("1000-2000 r-xp 00000000 fe:00 12   /tmp/a b  c (deleted)\n", line,
                      sizeof(line), &parsed));
    assert_string_equal(parsed.path, "/tmp/a b  c (deleted)");
    assert_true(parse("1000-2000 r-xp 00000000 fe:00 12   /tmp/new\\012line\\134 \n", line,
                      sizeof(line), &parsed));
    assert_string_equal(parsed.path, "/tmp/new\nline\\134 ");
    assert_true(parse("1000-2000 r-xp 00000000 fe:00 12   /\377\001", line, sizeof(line), &parsed));
    assert_string_equal(parsed.path, "/\377\001");
}

static void lines_that_are_none_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "\n",
        "1000",
        "1000-",
        "1000-2000",
        "2000-1000 r-xp 00000000 fe:00 12",
        "1000-1000 r-xp 00000000 fe:00 12",
        "1000-2000 r-x 00000000 fe:00 12",
        "1000-2000 r-xq 00000000 fe:00 12",
        "1000-2000 xr-p 00000000 fe:00 12",
        "1000-2000 r-xp 00000000 fe00 12",
        "1000-2000 r-xp 00000000 fe:00 ",
        "1000-2000 r-xp 00000000 fe:00 12/x",
        "10000000000000000-2 r-xp 00000000 fe:00 12",
        "1000-2000 r-xp 00000000 100000000:00 12",
        "1000-2000 r-xp 00000000 fe:00 99999999999999999999",
        "g000-2000 r-xp 00000000 fe:00 12",
    };
    char line[256];

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct maps_line parsed = {.start = 7};

        assert_false(parse(texts[i], line, sizeof(line), &parsed));
        assert_int_equal(parsed.start, 7);
    }
}

static struct vma range_of(uint64_t start, uint64_t limit, uint32_t mapping)
{
    return (struct vma){.start = start, .limit = limit, .file_off = start, .mapping = mapping};
}

/* Checks that the ranges are sorted, apart, and not empty. */
static void check_order(const struct maps *maps)
{
    for (size_t i = 0; i < maps->num_vmas; i++) {
        assert_true(maps->vmas[i].start < maps->vmas[i].limit);
        if (i > 0)
            assert_true(maps->vmas[i - 1].limit <= maps->vmas[i].start);
    }
}

static void insertion_cuts_what_it_overlaps(void **state)
{
    struct maps *maps;
    struct vma vma = range_of(0x1000, 0x9000, 1);
    uint32_t generation;

    (void)state;
    assert_null(maps_create(&maps));
    generation = maps->generation;
    assert_null(maps_insert(maps, &vma));
    assert_int_equal(maps->generation, generation);
    vma = range_of(0x3000, 0x5000, 2);
    assert_null(maps_insert(maps, &vma));
    assert_int_not_equal(maps->generation, generation);
    assert_int_equal(maps->num_vmas, 3);
    assert_int_equal(maps_find(maps, 0x2fff)->mapping, 1);
    assert_int_equal(maps_find(maps, 0x3000)->mapping, 2);
    assert_int_equal(maps_find(maps, 0x5000)->mapping, 1);
    assert_int_equal(maps_find(maps, 0x5000)->file_off, 0x5000);
    assert_null(maps_find(maps, 0x9000));
    assert_null(maps_find(maps, 0xfff));
    vma = range_of(0x2000, 0xa000, 3);
    assert_null(maps_insert(maps, &vma));
    check_order(maps);
    assert_int_equal(maps->num_vmas, 2);
    assert_int_equal(maps_find(maps, 0x1fff)->mapping, 1);
    assert_int_equal(maps_find(maps, 0x9fff)->mapping, 3);
    maps_put(maps);
}

static void random_insertions_agree_with_a_plain_array(void **state)
{
    enum { NUM_PAGES = 64 };
    uint32_t truth[NUM_PAGES] = {0};
    struct maps *maps;

    (void)state;
    srandom(7);
    assert_null(maps_create(&maps));
    for (uint32_t round = 1; round < 3000; round++) {
        uint64_t start = (uint64_t)random() % NUM_PAGES;
        uint64_t limit = start + 1 + (uint64_t)random() % (NUM_PAGES - start);
        struct vma vma = range_of(start, limit, round);

        assert_null(maps_insert(maps, &vma));
        for (uint64_t page = start; page < limit; page++)
            truth[page] = round;
        check_order(maps);
        for (uint64_t page = 0; page < NUM_PAGES; page++) {
            const struct vma *found = maps_find(maps, page);

            assert_int_equal(found ? found->mapping : 0, truth[page]);
            if (found)
                assert_int_equal(found->file_off, found->start);
        }
    }
    maps_put(maps);
}

static void shared_maps_are_copied_before_a_change(void **state)
{
    struct maps *parent, *child;
    struct vma vma = range_of(0x1000, 0x2000, 1);

    (void)state;
    assert_null(maps_create(&parent));
    assert_null(maps_insert(parent, &vma));
    child = maps_get(parent);
    assert_null(maps_unshare(&child));
    assert_ptr_not_equal(child, parent);
    assert_int_not_equal(child->generation, parent->generation);
    vma.mapping = 2;
    assert_null(maps_insert(child, &vma));
    assert_int_equal(maps_find(parent, 0x1000)->mapping, 1);
    assert_int_equal(maps_find(child, 0x1000)->mapping, 2);
    maps_put(parent);
    parent = child;
    assert_null(maps_unshare(&child));
    assert_ptr_equal(child, parent);
    maps_put(child);
}

/* The segments of node 20: three executable ones, their addresses unlike their offsets. */
static struct module_segment node_segments[] = {
    {0, 0x8ff000, 0x400000, 0x8ff000, false},
    {0x8ff140, 0x1000, 0x1000140, 0x1000, true},
    {0x900140, 0x15ff000, 0x1200140, 0x15ff000, true},
    {0x1f00000, 0x200, 0x3000000, 0x200, true},
};

static void bias_follows_the_segment_of_the_mapping(void **state)
{
    struct module module = {.segments = node_segments, .num_segments = 4};
    uint64_t bias, elf_addr;

    (void)state;
    /* The second X segment begins in the page in which the first ends. */
    assert_true(module_mapping_bias(&module, 0x7f0000000000, 0x7f0000002000, 0x8ff000, &bias));
    assert_int_equal(0x7f0000000140 - bias, 0x1000140);
    assert_true(module_mapping_bias(&module, 0x7f0000000000, 0x7f0001600000, 0x900000, &bias));
    assert_int_equal(0x7f0000000140 - bias, 0x1200140);
    /* V8 maps a slice of its text a second time. */
    assert_true(module_mapping_bias(&module, 0x5000000, 0x5100000, 0xa00000, &bias));
    assert_int_equal(0x5000000 - bias, 0x1200140 + (0xa00000 - 0x900140));
    assert_true(module_mapping_bias(&module, 0x10000, 0x11000, 0x1f00000, &bias));
    assert_int_equal(0x10000 - bias, 0x3000000);
    assert_false(module_mapping_bias(&module, 0x10000, 0x11000, 0x9000000, &bias));
    assert_true(module_file_off_to_elf_addr(&module, 0x900150, &elf_addr));
    assert_int_equal(elf_addr, 0x1200150);
    assert_false(module_file_off_to_elf_addr(&module, 0x9000000, &elf_addr));
}

static void bias_of_a_non_pie_is_zero(void **state)
{
    struct module_segment segments[] = {{0, 0x500, 0x400000, 0x500, false},
                                        {0x1000, 0x200, 0x401000, 0x200, true}};
    struct module module = {.segments = segments, .num_segments = 2};
    uint64_t bias = 1;

    (void)state;
    assert_true(module_mapping_bias(&module, 0x401000, 0x402000, 0x1000, &bias));
    assert_int_equal(bias, 0);
}

static void profile_pc_converts_as_the_vma_does(void **state)
{
    struct module module = {.segments = node_segments, .num_segments = 4};
    struct mapping mapping = {
        .start = 0x7f0000000000, .limit = 0x7f0001600000, .file_off = 0x900000};
    struct vma vma = {
        .start = 0x600000000000, .limit = 0x600001600000, .file_off = 0x900000, .module = &module};
    uint64_t pc = 0x600000123456, elf_addr;

    (void)state;
    assert_true(module_mapping_bias(&module, vma.start, vma.limit, vma.file_off, &vma.bias));
    vma.profile_shift = mapping.start - vma.start;
    assert_true(mapping_elf_addr(&mapping, &module, vma_profile_pc(&vma, pc), &elf_addr));
    assert_int_equal(elf_addr, vma_elf_addr(&vma, pc));
    assert_false(mapping_elf_addr(&mapping, &module, mapping.limit, &elf_addr));
    assert_false(mapping_elf_addr(&mapping, NULL, mapping.start, &elf_addr));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_of_a_file_is_parsed),
        cmocka_unit_test(line_of_anonymous_memory_has_no_path),
        cmocka_unit_test(paths_with_odd_bytes_are_kept),
        cmocka_unit_test(lines_that_are_none_are_refused),
        cmocka_unit_test(insertion_cuts_what_it_overlaps),
        cmocka_unit_test(random_insertions_agree_with_a_plain_array),
        cmocka_unit_test(shared_maps_are_copied_before_a_change),
        cmocka_unit_test(bias_follows_the_segment_of_the_mapping),
        cmocka_unit_test(bias_of_a_non_pie_is_zero),
        cmocka_unit_test(profile_pc_converts_as_the_vma_does),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
