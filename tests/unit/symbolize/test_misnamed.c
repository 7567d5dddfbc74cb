/* No address gets a wrong name, whatever was stripped: every name that a stripped program gives is
 * held against its unstripped twin, at each 32nd byte of the code. */
#include <libelf.h>

#include "base/array.h"
#include "tests/unit/symbolize/fixture.h"

static const struct symbolize_options names_only = {.inlines = false};

/* What nm tells of the twin. */
struct truth {
    uint64_t start, limit;
    char name[232];
};

struct truths {
    struct truth *rows;
    size_t num, capacity;
};

static int truth_compare(const void *left, const void *right)
{
    const struct truth *a = left;
    const struct truth *b = right;
    int order = strcmp(a->name, b->name);

    return order ? order : a->start < b->start ? -1 : a->start > b->start;
}

/* Reads all symbols with a size, sorted by name. */
static void truths_read(const char *file, struct truths *truths)
{
    char command[256];
    char line[4096];
    FILE *pipe;

    snprintf(command, sizeof(command), "nm -S --defined-only %s/%s", fixture_dir, file);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof(line), pipe)) {
        struct truth row;
        unsigned long long start, size;

        if (sscanf(line, "%llx %llx %*c %231s", &start, &size, row.name) != 3)
            continue;
        row.start = start;
        row.limit = start + size;
        row.name[strcspn(row.name, "@")] = '\0';
        assert_null(array_reserve(&truths->rows, &truths->capacity, truths->num + 1, sizeof(row)));
        truths->rows[truths->num++] = row;
    }
    pclose(pipe);
    assert_true(truths->num > 1000);
    qsort(truths->rows, truths->num, sizeof(*truths->rows), truth_compare);
}

/* Tells whether a symbol of that name covers the address in the twin. */
static bool truths_have(const struct truths *truths, const char *name, uint64_t elf_addr)
{
    size_t low = 0, high = truths->num;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(truths->rows[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < truths->num && !strcmp(truths->rows[low].name, name); low++)
        if (elf_addr >= truths->rows[low].start && elf_addr < truths->rows[low].limit)
            return true;
    return false;
}

/* The text section of a module. */
static void text_range(const struct fixture *fixture, uint64_t *start_ret, uint64_t *limit_ret)
{
    Elf *elf = fixture->module->elf;
    Elf_Scn *scn = NULL;
    size_t names;

    *start_ret = *limit_ret = 0;
    assert_int_equal(elf_getshdrstrndx(elf, &names), 0);
    while ((scn = elf_nextscn(elf, scn))) {
        const Elf64_Shdr *shdr = elf64_getshdr(scn);

        if (strcmp(elf_strptr(elf, names, shdr->sh_name), ".text") == 0) {
            *start_ret = shdr->sh_addr;
            *limit_ret = shdr->sh_addr + shdr->sh_size;
        }
    }
    assert_true(*start_ret < *limit_ret);
}

/* Names every 32nd byte of .text and checks each name. min_named: that many must get one. Functions
 * without a size are the twin's to name. */
static void expect_only_true_names(const char *file, const char *twin, const struct truths *truths,
                                   size_t min_named)
{
    struct fixture stripped, full;
    uint64_t start, limit;
    size_t num_named = 0;

    fixture_open(&stripped, file);
    fixture_open(&full, twin);
    text_range(&full, &start, &limit);
    for (uint64_t at = start; at < limit; at += 32)
        assert_int_equal(fixture_add(&stripped, at), fixture_add(&full, at));
    fixture_symbolize(&stripped, &names_only);
    fixture_symbolize(&full, &names_only);
    for (uint32_t i = 0; i < stripped.table.num_locations; i++) {
        uint64_t elf_addr = stripped.table.locations[i].key.pc;
        char name[512];

        snprintf(name, sizeof(name), "%s", fixture_system_name(&stripped, i, 0));
        if (!name[0])
            continue;
        num_named++;
        name[strcspn(name, "@")] = '\0';
        if (!truths_have(truths, name, elf_addr) &&
            strcmp(fixture_system_name(&stripped, i, 0), fixture_system_name(&full, i, 0)) != 0)
            fail_msg("%s: 0x%llx is called %s, it is %s", file, (unsigned long long)elf_addr, name,
                     fixture_name(&full, i, 0));
    }
    assert_true(num_named >= min_named);
    assert_true(full.result.num_named > full.result.num_locations / 2);
    fixture_close(&stripped);
    fixture_close(&full);
}

/* strip leaves .dynsym; strip -x leaves global symbols, assembler functions without a size among
 * them, and takes their neighbours away. */
static void expect_all_variants(const char *twin)
{
    struct truths truths = {0};
    char command[256];

    truths_read(twin, &truths);
    expect_only_true_names(twin, twin, &truths, 1000);
    snprintf(command, sizeof(command), "strip -o stripped %s && strip -x -o nolocals %s", twin,
             twin);
    fixture_build(command);
    expect_only_true_names("stripped", twin, &truths, 1000);
    expect_only_true_names("nolocals", twin, &truths, 1000);
    free(truths.rows);
}

/* The C library: hand-written assembler, IFUNCs, aliases; its twin is made from its debug file. */
static void c_library_has_no_wrong_name(void **state)
{
    (void)state;
    fixture_build("so=$(ldd /bin/sh | awk '/libc.so.6/ { print $3 }') && "
                  "id=$(readelf -n $so | awk '/Build ID/ { print $3 }') && "
                  "rest=${id#??} && eu-unstrip -o libc.whole $so "
                  "/usr/lib/debug/.build-id/${id%$rest}/$rest.debug && "
                  "objcopy -R .note.gnu.build-id -R .gnu_debuglink -R .gnu_debugaltlink "
                  "--strip-debug libc.whole libc.twin");
    expect_all_variants("libc.twin");
}

/* C++ with its library inside and its global functions exported. */
static void cplusplus_program_has_no_wrong_name(void **state)
{
    (void)state;
    fixture_write("big.cc", "#include <iostream>\n#include <map>\n#include <regex>\n"
                            "static int __attribute__((noinline)) hidden(int a) { return a * a; }\n"
                            "int main(int n, char **v) {\n"
                            "  std::map<std::string, int> m; std::regex r(\"a+b\");\n"
                            "  m[v[0]] = hidden(n); std::cout << std::regex_match(v[0], r);\n"
                            "  return m.size(); }\n");
    fixture_build("g++ -O1 -static-libstdc++ -static-libgcc -rdynamic -Wl,--build-id=none big.cc "
                  "-o big.twin");
    expect_all_variants("big.twin");
}

/* Assembler code without a size before a function that strip -x takes the name from: CFI tells
 * where the other one begins. */
static void symbol_without_a_size_ends_at_the_next_function(void **state)
{
    struct fixture fixture;
    uint32_t bare, hidden;

    (void)state;
    fixture_write("bare.c",
                  "asm(\".text\\n.globl bare\\n.type bare, @function\\nbare: nop\\nret\\n\");\n"
                  "__attribute__((noinline)) static int hidden(int a) { return a * a; }\n"
                  "int shown(int a) { return hidden(a) + 1; }\n");
    fixture_build(
        "gcc -O1 -fno-toplevel-reorder -fPIC -shared -Wl,--build-id=none bare.c -o bare.twin && "
        "strip -x -o bare.so bare.twin && nm bare.so | grep -q bare && ! nm bare.so | grep hidden");
    assert_true(fixture_symbol("bare.twin", "bare") < fixture_symbol("bare.twin", "hidden"));
    fixture_open(&fixture, "bare.so");
    bare = fixture_add(&fixture, fixture_symbol("bare.twin", "bare") + 1);
    hidden = fixture_add(&fixture, fixture_symbol("bare.twin", "hidden") + 1);
    fixture_symbolize(&fixture, &names_only);
    assert_string_equal(fixture_name(&fixture, bare, 0), "bare");
    assert_non_null(strstr(fixture_name(&fixture, hidden, 0), "bare.so+0x"));
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c_library_has_no_wrong_name),
        cmocka_unit_test(cplusplus_program_has_no_wrong_name),
        cmocka_unit_test(symbol_without_a_size_ends_at_the_next_function),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
