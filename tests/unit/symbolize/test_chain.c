/* symbolize_table() on programs built here: what it must name, and what it must not. */
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include "tests/unit/skip.h"
#include "tests/unit/symbolize/fixture.h"

static const struct symbolize_options with_inlines = {.inlines = true};

static const char c_source[] =
    "#include <stdlib.h>\n"                                                    /* 1 */
    "#include <string.h>\n"                                                    /* 2 */
    "static inline int add(int a, int b)\n"                                    /* 3 */
    "{\n"                                                                      /* 4 */
    "    return a * *(volatile int *)&b;\n"                                    /* 5 */
    "}\n"                                                                      /* 6 */
    "static inline int twice(int a)\n"                                         /* 7 */
    "{\n"                                                                      /* 8 */
    "    return add(a, a);\n"                                                  /* 9 */
    "}\n"                                                                      /* 10 */
    "__attribute__((noinline)) static int hidden(int a)\n"                     /* 11 */
    "{\n"                                                                      /* 12 */
    "    return twice(a);\n"                                                   /* 13 */
    "}\n"                                                                      /* 14 */
    "__attribute__((visibility(\"default\"), noinline)) int exported(int a)\n" /* 15 */
    "{\n"                                                                      /* 16 */
    "    char *p = malloc((size_t)a);\n"                                       /* 17 */
    "    return hidden(a) + (p ? (int)strlen(p) : 0);\n"                       /* 18 */
    "}\n";                                                                     /* 19 */

static int setup(void **state)
{
    if (fixture_setup(state) != 0)
        return -1;
    fixture_write("lib.c", c_source);
    fixture_build("gcc -O2 -g -fPIC -shared -Wl,--build-id lib.c -o lib.so");
    return 0;
}

/* Adds the first address of `symbol` in lib.so at which `num_inlined` + 1 functions are expected.
 */
static uint32_t add_symbol(struct fixture *fixture, const char *file, const char *symbol)
{
    return fixture_add(fixture, fixture_symbol(file, symbol));
}

static void inlined_callers_have_names_files_and_lines(void **state)
{
    struct fixture fixture;
    uint32_t location;
    char path[128];

    (void)state;
    fixture_open(&fixture, "lib.so");
    location = add_symbol(&fixture, "lib.so", "hidden");
    fixture_symbolize(&fixture, &with_inlines);
    snprintf(path, sizeof(path), "%s/lib.c", fixture_dir);
    assert_int_equal(fixture_num_lines(&fixture, location), 3);
    assert_string_equal(fixture_name(&fixture, location, 0), "add");
    assert_int_equal(fixture_line(&fixture, location, 0)->line, 5);
    assert_int_equal(fixture_function(&fixture, location, 0)->start_line, 3);
    assert_string_equal(fixture_name(&fixture, location, 1), "twice");
    assert_int_equal(fixture_line(&fixture, location, 1)->line, 9);
    assert_int_equal(fixture_function(&fixture, location, 1)->start_line, 7);
    assert_string_equal(fixture_name(&fixture, location, 2), "hidden");
    assert_string_equal(fixture_system_name(&fixture, location, 2), "hidden");
    assert_int_equal(fixture_line(&fixture, location, 2)->line, 13);
    assert_int_equal(fixture_function(&fixture, location, 2)->start_line, 11);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(fixture_path(&fixture, location, i), path);
    assert_true(stack_table_mapping(&fixture.table, 1)->has_functions);
    assert_true(stack_table_mapping(&fixture.table, 1)->has_filenames);
    assert_true(stack_table_mapping(&fixture.table, 1)->has_line_numbers);
    assert_true(stack_table_mapping(&fixture.table, 1)->has_inline_frames);
    assert_int_equal(fixture.result.num_named, 1);
    fixture_close(&fixture);
}

/* Asks for the first inlined function at a symbol of a C++ source. */
static void assert_inlined_name(const char *source, const char *symbol, const char *name,
                                const char *physical)
{
    struct fixture fixture;
    uint32_t location = 0;
    uint64_t start;

    fixture_write("member.cc", source);
    fixture_build("g++ -O2 -g -fPIC -shared member.cc -o member.so");
    fixture_open(&fixture, "member.so");
    start = fixture_symbol("member.so", symbol);
    for (uint64_t i = 0; i < 16; i++)
        fixture_add(&fixture, start + i);
    fixture_symbolize(&fixture, &(struct symbolize_options){.inlines = true});
    while (location < 15 && fixture_num_lines(&fixture, location) < 2)
        location++;
    assert_true(fixture_num_lines(&fixture, location) == 2);
    assert_string_equal(fixture_name(&fixture, location, 0), name);
    assert_string_equal(fixture_name(&fixture, location, 1), physical);
    fixture_close(&fixture);
}

/* Functions that the linker does not see: their DIEs have no linkage name. */
static void inlined_members_are_told_with_what_they_are_members_of(void **state)
{
    (void)state;
    assert_inlined_name("extern int table[];\n"
                        "namespace outer { namespace {\n"
                        "struct s { static inline int get(int i) { return table[i]; } };\n"
                        "} }\n"
                        "extern \"C\" int ask(int i) { return outer::s::get(i); }\n",
                        "ask", "outer::(anonymous namespace)::s::get", "ask");
}

/* Their DIE is in the function's, which is outside of class and namespace. */
static void lambdas_are_told_with_their_function(void **state)
{
    (void)state;
    assert_inlined_name("extern int table[];\n"
                        "namespace outer { struct s { int base; int ask(int i); }; }\n"
                        "int outer::s::ask(int i)\n"
                        "{\n    auto get = [this](int k) { return table[k + base]; };\n"
                        "    return get(i) + 1;\n}\n",
                        "_ZN5outer1s3askEi", "outer::s::ask::{lambda}::operator()",
                        "outer::s::ask");
}

static void names_only_gives_one_line(void **state)
{
    static const struct symbolize_options names_only = {.inlines = false};
    struct fixture fixture;
    uint32_t location;

    (void)state;
    fixture_open(&fixture, "lib.so");
    location = add_symbol(&fixture, "lib.so", "hidden");
    fixture_symbolize(&fixture, &names_only);
    assert_int_equal(fixture_num_lines(&fixture, location), 1);
    assert_string_equal(fixture_name(&fixture, location, 0), "hidden");
    assert_false(stack_table_mapping(&fixture.table, 1)->has_line_numbers);
    assert_false(stack_table_mapping(&fixture.table, 1)->has_inline_frames);
    fixture_close(&fixture);
}

/* The common lie: in a stripped file the nearest exported symbol covers nothing of its neighbours.
 */
static void stripped_file_names_only_what_is_covered(void **state)
{
    struct fixture fixture;
    uint32_t exported;
    uint32_t hidden;
    char name[64];
    uint64_t addr;

    (void)state;
    fixture_build("strip -o stripped.so lib.so");
    fixture_open(&fixture, "stripped.so");
    exported = add_symbol(&fixture, "lib.so", "exported");
    hidden = add_symbol(&fixture, "lib.so", "hidden");
    fixture_symbolize(&fixture, &with_inlines);
    assert_string_equal(fixture_name(&fixture, exported, 0), "exported");
    addr = fixture_symbol("lib.so", "hidden");
    snprintf(name, sizeof(name), "stripped.so+0x%llx", (unsigned long long)addr);
    assert_int_equal(fixture_num_lines(&fixture, hidden), 1);
    assert_string_equal(fixture_name(&fixture, hidden, 0), name);
    assert_int_equal(fixture.result.num_named, 1);
    assert_int_equal(fixture.result.loss.counts[LOSS_UNSYMBOLIZED], 1);
    assert_int_equal(fixture.result.worst_mapping, 1);
    assert_int_equal(fixture.result.worst_num_locations, 1);
    fixture_close(&fixture);
}

static void expect_full_chain(const char *file, const char *debug_dir, bool is_expected)
{
    struct symbolize_options options = {.inlines = true, .debug_dir = debug_dir};
    struct fixture fixture;
    uint32_t location;

    fixture_open(&fixture, file);
    location = add_symbol(&fixture, "lib.so", "hidden");
    fixture_symbolize(&fixture, &options);
    assert_int_equal(fixture_num_lines(&fixture, location), is_expected ? 3 : 1);
    if (is_expected)
        assert_string_equal(fixture_name(&fixture, location, 2), "hidden");
    fixture_close(&fixture);
}

static void debuglink_is_followed_and_its_crc_checked(void **state)
{
    char debug_dir[128];

    (void)state;
    fixture_build(
        "objcopy --remove-section=.note.gnu.build-id lib.so plain.so && "
        "objcopy --only-keep-debug plain.so plain.debug && strip -o linked.so plain.so && "
        "objcopy --add-gnu-debuglink=plain.debug linked.so");
    expect_full_chain("linked.so", NULL, true);
    fixture_build("mkdir -p .debug && mv plain.debug .debug/");
    expect_full_chain("linked.so", NULL, true);
    fixture_build("printf x >> .debug/plain.debug");
    expect_full_chain("linked.so", NULL, false);
    /* Below a debug directory, under the whole path of the module. */
    fixture_build("truncate -s -1 .debug/plain.debug && mkdir -p whole$PWD && "
                  "mv .debug/plain.debug whole$PWD/ && rm -r .debug");
    expect_full_chain("linked.so", NULL, false);
    snprintf(debug_dir, sizeof(debug_dir), "%s/whole", fixture_dir);
    expect_full_chain("linked.so", debug_dir, true);
}

static void build_id_directory_is_searched_and_the_id_checked(void **state)
{
    char debug_dir[128];

    (void)state;
    snprintf(debug_dir, sizeof(debug_dir), "%s/dbg", fixture_dir);
    fixture_build(
        "strip -o byid.so lib.so && id=$(readelf -n lib.so | awk '/Build ID/{print $3}') && "
        "d=dbg/.build-id/$(echo $id | cut -c1-2) && mkdir -p $d && "
        "objcopy --only-keep-debug lib.so $d/$(echo $id | cut -c3-).debug");
    expect_full_chain("byid.so", NULL, false);
    expect_full_chain("byid.so", debug_dir, true);
    /* A file of another build under the right name. */
    fixture_build("id=$(readelf -n lib.so | awk '/Build ID/{print $3}') && "
                  "gcc -O1 -g -fPIC -shared -Wl,--build-id lib.c -o other.so && "
                  "objcopy --only-keep-debug other.so "
                  "dbg/.build-id/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-).debug");
    expect_full_chain("byid.so", debug_dir, false);
}

static void mini_debug_info_names_local_functions(void **state)
{
    struct fixture fixture;
    uint32_t hidden;
    uint32_t exported;

    (void)state;
    if (!fixture_has("xz"))
        SKIP("xz is not installed");
    fixture_build("objcopy -S --keep-symbol=hidden lib.so mini && rm -f mini.xz && xz mini && "
                  "strip -o withmini.so lib.so && "
                  "objcopy --add-section .gnu_debugdata=mini.xz withmini.so");
    fixture_open(&fixture, "withmini.so");
    hidden = add_symbol(&fixture, "lib.so", "hidden");
    exported = add_symbol(&fixture, "lib.so", "exported");
    fixture_symbolize(&fixture, &with_inlines);
    assert_string_equal(fixture_name(&fixture, hidden, 0), "hidden");
    assert_string_equal(fixture_name(&fixture, exported, 0), "exported");
    fixture_close(&fixture);
    fixture_build("head -c 300 mini.xz > cut.xz && strip -o cutmini.so lib.so && "
                  "objcopy --add-section .gnu_debugdata=cut.xz cutmini.so");
    expect_full_chain("cutmini.so", NULL, false);
}

/* Builds one.so and two.so with what they share in common.dwz, and before.so without.
 * link: where one.so says that is. */
static void build_with_dwz(const char *link)
{
    fixture_write("big.cc",
                  "#include <map>\n#include <string>\n#include <algorithm>\n#include <vector>\n"
                  "std::map<std::string, int> m; int f(int a) { return m[std::to_string(a)]; }\n"
                  "int g(std::vector<int> &v) { std::sort(v.begin(), v.end()); return v[0]; }\n");
    setenv("DWZ_LINK", link, 1);
    fixture_build("test -e before.so || { g++ -O2 -g -fPIC -shared -Wl,--build-id big.cc -o "
                  "before.so && g++ -O2 -g -fPIC -shared -Wl,--build-id -DX big.cc -o other.so; }");
    fixture_build("cp before.so one.so && cp other.so two.so && "
                  "dwz -m common.dwz $DWZ_LINK one.so two.so && "
                  "readelf -SW one.so | grep -q gnu_debugaltlink");
}

/* Expects one.so to be named as before.so is. */
static void expect_same_names(const char *debug_dir)
{
    struct symbolize_options options = {.inlines = true, .debug_dir = debug_dir};
    struct fixture before;
    struct fixture after;
    uint64_t addr = fixture_symbol("before.so", "_Z1gRSt6vectorIiSaIiEE");

    fixture_open(&before, "before.so");
    fixture_open(&after, "one.so");
    for (uint64_t at = 0; at < 256; at += 4) {
        uint32_t location = fixture_add(&before, addr + at);

        assert_int_equal(fixture_add(&after, addr + at), location);
    }
    fixture_symbolize(&before, &with_inlines);
    fixture_symbolize(&after, &options);
    for (uint32_t at = 0; at < 64; at++) {
        assert_int_equal(fixture_num_lines(&before, at), fixture_num_lines(&after, at));
        for (size_t j = 0; j < fixture_num_lines(&before, at); j++) {
            assert_string_equal(fixture_name(&before, at, j), fixture_name(&after, at, j));
            assert_string_equal(fixture_path(&before, at, j), fixture_path(&after, at, j));
            assert_int_equal(fixture_line(&before, at, j)->line, fixture_line(&after, at, j)->line);
        }
    }
    fixture_close(&before);
    fixture_close(&after);
}

static void shared_dwz_file_is_used(void **state)
{
    (void)state;
    if (!fixture_has("dwz"))
        SKIP("dwz is not installed");
    build_with_dwz("-r");
    expect_same_names(NULL);
}

/* As Debian's packages of debug symbols have it, unpacked somewhere. */
static void shared_dwz_file_is_found_in_debug_directories(void **state)
{
    static const char *const places[] = {"dirs/.dwz/x86/pkg.debug",
                                         "dirs/usr/lib/debug/.dwz/x86/pkg.debug", "dirs/pkg.debug"};
    char debug_dir[160];

    (void)state;
    if (!fixture_has("dwz"))
        SKIP("dwz is not installed");
    build_with_dwz("-M /usr/lib/debug/.dwz/x86/pkg.debug");
    snprintf(debug_dir, sizeof(debug_dir), "/nonexistent:%s/dirs", fixture_dir);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        setenv("PLACE", places[i], 1);
        fixture_build("rm -rf dirs && mkdir -p dirs ${PLACE%/*} && cp common.dwz $PLACE");
        expect_same_names(debug_dir);
    }
}

/* The dwz file of another build under the right name: nothing of it is believed. */
static void dwz_file_of_another_build_is_refused(void **state)
{
    struct fixture before;
    struct fixture after;
    uint64_t addr;

    (void)state;
    fixture_write("shared.cc", "#include <map>\n#include <string>\nstd::map<std::string, int> m;\n"
                               "int f(int a) { return m[std::to_string(a)]; }\n");
    fixture_build(
        "sed 's/std::map<std::string, int>/std::map<int, std::string>/; s/return .*;/"
        "m[a] = \"x\"; return 1;/' shared.cc > other.cc && "
        "for n in 1 2; do g++ -O2 -g -fPIC -shared -Wl,--build-id shared.cc -DN=$n -o s$n.so; "
        "g++ -O2 -g -fPIC -shared -Wl,--build-id other.cc -DN=$n -o o$n.so; done && "
        "cp s1.so whole.so && dwz -m good.dwz -r s1.so s2.so && dwz -m bad.dwz -r o1.so o2.so && "
        "readelf -SW s1.so | grep -q gnu_debugaltlink && mv bad.dwz good.dwz");
    addr = fixture_symbol("whole.so", "_Z1fi");
    fixture_open(&before, "whole.so");
    fixture_open(&after, "s1.so");
    for (uint64_t at = 0; at < 128; at += 4) {
        uint32_t location = fixture_add(&before, addr + at);

        assert_int_equal(fixture_add(&after, addr + at), location);
    }
    fixture_symbolize(&before, &with_inlines);
    fixture_symbolize(&after, &with_inlines);
    for (uint32_t at = 0; at < 32; at++) {
        size_t num = fixture_num_lines(&after, at);
        size_t num_before = fixture_num_lines(&before, at);

        /* Names that were in the dwz file are gone; no other one has taken their place. */
        assert_true(num <= num_before);
        for (size_t j = 0; num == num_before && j < num; j++) {
            const char *name = fixture_name(&after, at, j);

            if (!strstr(name, "+0x"))
                assert_string_equal(name, fixture_name(&before, at, j));
        }
        assert_string_equal(fixture_name(&after, at, num - 1),
                            fixture_name(&before, at, num_before - 1));
    }
    fixture_close(&before);
    fixture_close(&after);
}

static void compressed_sections_are_read(void **state)
{
    (void)state;
    fixture_build("objcopy --compress-debug-sections=zlib lib.so zlib.so && "
                  "objcopy --compress-debug-sections=zlib-gnu lib.so zgnu.so");
    expect_full_chain("zlib.so", NULL, true);
    expect_full_chain("zgnu.so", NULL, true);
    if (fixture_run("objcopy --compress-debug-sections=zstd lib.so zstd.so") == 0)
        expect_full_chain("zstd.so", NULL, true);
}

static void split_debug_info_is_found(void **state)
{
    (void)state;
    fixture_build("gcc -O2 -g -gsplit-dwarf -fPIC -shared lib.c -o split.so");
    struct fixture fixture;
    uint32_t location;

    fixture_open(&fixture, "split.so");
    location = add_symbol(&fixture, "split.so", "hidden");
    fixture_symbolize(&fixture, &with_inlines);
    assert_int_equal(fixture_num_lines(&fixture, location), 3);
    fixture_close(&fixture);
    /* Without the .dwo file the line and the symbol remain. */
    fixture_build("rm -f *.dwo");
    fixture_open(&fixture, "split.so");
    location = add_symbol(&fixture, "split.so", "hidden");
    fixture_symbolize(&fixture, &with_inlines);
    assert_int_equal(fixture_num_lines(&fixture, location), 1);
    assert_string_equal(fixture_name(&fixture, location, 0), "hidden");
    assert_int_equal(fixture_line(&fixture, location, 0)->line, 5);
    fixture_close(&fixture);
}

/* Expects the whole inline chain somewhere in `hidden`, or nowhere more than the symbol. */
static void expect_split_chain(const char *file, const char *debug_dir, bool is_expected)
{
    struct symbolize_options options = {.inlines = true, .debug_dir = debug_dir};
    struct fixture fixture;
    uint64_t addr = fixture_symbol(file, "hidden");
    size_t num_whole = 0;

    fixture_open(&fixture, file);
    for (uint64_t at = 0; at < 12; at++)
        fixture_add(&fixture, addr + at);
    fixture_symbolize(&fixture, &options);
    assert_string_equal(fixture_name(&fixture, 0, fixture_num_lines(&fixture, 0) - 1), "hidden");
    for (uint32_t at = 0; at < fixture.table.num_locations; at++) {
        size_t num = fixture_num_lines(&fixture, at);

        if (num != 3)
            continue;
        assert_string_equal(fixture_name(&fixture, at, 2), "hidden");
        num_whole++;
        assert_string_equal(fixture_name(&fixture, at, 0), "add");
        assert_int_equal(fixture_line(&fixture, at, 0)->line, 5);
        assert_string_equal(fixture_name(&fixture, at, 1), "twice");
        assert_int_equal(fixture_line(&fixture, at, 1)->line, 9);
        assert_int_equal(fixture_line(&fixture, at, 2)->line, 13);
    }
    assert_int_equal(num_whole > 0, is_expected);
    fixture_close(&fixture);
}

/* Packages as binutils and LLVM make them, of the compilers' units; and files that were moved. */
static void packaged_and_moved_split_debug_info_is_found(void **state)
{
    static const struct {
        const char *compiler, *packager;
    } kinds[] = {{"gcc -gdwarf-4", "dwp"},
                 {"gcc -gdwarf-5", "llvm-dwp-14"},
                 {"clang -gdwarf-4", "dwp"},
                 {"clang -gdwarf-5", "llvm-dwp-14"}};
    char debug_dir[128];

    (void)state;
    snprintf(debug_dir, sizeof(debug_dir), "%s/moved", fixture_dir);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char command[512];

        snprintf(command, sizeof(command),
                 "rm -rf *.dwo *.dwp moved; %s -O2 -g -gsplit-dwarf -fPIC -c lib.c -o split.o && "
                 "gcc -shared split.o -o split.so && %s -e split.so -o kept.dwp && mkdir moved && "
                 "mv *.dwo moved/",
                 kinds[i].compiler, kinds[i].packager);
        fixture_build(command);
        expect_split_chain("split.so", NULL, false);
        expect_split_chain("split.so", debug_dir, true);
        fixture_build("rm moved/*.dwo && mv kept.dwp split.so.dwp");
        expect_split_chain("split.so", NULL, true);
        fixture_build("mv split.so.dwp moved/");
        expect_split_chain("split.so", debug_dir, true);
    }
}

/* Expects the inlined member function somewhere in the other one. */
static void expect_member_chain(const char *compiler, const char *step)
{
    struct fixture fixture;
    uint64_t addr = fixture_symbol("types.so", "_ZNK5shape4areaEi");
    size_t num_whole = 0;

    fixture_open(&fixture, "types.so");
    for (uint64_t at = 0; at < 12; at++)
        fixture_add(&fixture, addr + at);
    fixture_symbolize(&fixture, &with_inlines);
    for (uint32_t at = 0; at < fixture.table.num_locations; at++) {
        if (fixture_num_lines(&fixture, at) != 2)
            continue;
        num_whole++;
        assert_string_equal(fixture_name(&fixture, at, 0), "shape::twice");
        assert_int_equal(fixture_line(&fixture, at, 0)->line, 4);
        assert_string_equal(fixture_name(&fixture, at, 1), "shape::area");
        assert_int_equal(fixture_line(&fixture, at, 1)->line, 6);
    }
    if (num_whole == 0)
        fail_msg("no inlined function: %s: %s", compiler, step);
    fixture_close(&fixture);
}

/* Types that have units, and in .dwo files sections, of their own are no obstacle; nor are sections
 * that are compressed, the index of a package among them. */
static void code_beside_type_units_is_named(void **state)
{
    static const struct {
        const char *compiler, *packager;
    } kinds[] = {{"g++ -gdwarf-4 -g -O2 -fdebug-types-section", "dwp"},
                 {"g++ -gdwarf-5 -g -O2 -fdebug-types-section", "llvm-dwp-14"},
                 {"clang++ -gdwarf-4 -g -O2 -fdebug-types-section", "dwp"},
                 {"clang++ -gdwarf-5 -g -O2 -fdebug-types-section", "llvm-dwp-14"}};
    static const char *const steps[] = {
        "rm -f *.dwo *.dwp; $COMPILE -fPIC -shared types.cc -o types.so",
        "$COMPILE -gsplit-dwarf -fPIC -c types.cc -o types.o && gcc -shared types.o -o types.so",
        "$PACK -e types.so -o kept.dwp && mv types.dwo kept.dwo && "
        "objcopy --compress-debug-sections=zlib-gnu kept.dwo types.dwo",
        "rm *.dwo && cp kept.dwp types.so.dwp",
        "objcopy --compress-debug-sections=zlib kept.dwp types.so.dwp",
        "objcopy --compress-debug-sections=zlib-gnu kept.dwp types.so.dwp",
    };

    (void)state;
    fixture_write("types.cc", "struct shape {\n  int v;\n  int area(int k) const;\n"
                              "  inline int twice(int k) const { return v * k / 3; }\n};\n"
                              "int shape::area(int k) const { return twice(k) + v; }\n");
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        setenv("COMPILE", kinds[i].compiler, 1);
        setenv("PACK", kinds[i].packager, 1);
        for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
            fixture_build(steps[j]);
            expect_member_chain(kinds[i].compiler, steps[j]);
        }
    }
}

static void plt_stubs_are_named(void **state)
{
    static const char *const flags[] = {"-Wl,-z,lazy", "-Wl,-z,now",
                                        "-Wl,-z,lazy,-z,ibtplt -fcf-protection"};

    (void)state;
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        struct fixture fixture;
        char command[256];
        char text[64];
        size_t num_malloc = 0;

        snprintf(command, sizeof(command), "gcc -O2 -fPIC -shared %s lib.c -o plt.so", flags[i]);
        fixture_build(command);
        fixture_open(&fixture, "plt.so");
        /* .init, the PLTs and .text lie together: look at all of their 8-byte steps. */
        snprintf(text, sizeof(text), "exported");
        for (uint64_t at = fixture_symbol("plt.so", "_init"); at < fixture_symbol("plt.so", text);
             at += 8)
            fixture_add(&fixture, at);
        fixture_symbolize(&fixture, &with_inlines);
        for (uint32_t at = 0; at < fixture.table.num_locations; at++)
            num_malloc += !strcmp(fixture_name(&fixture, at, 0), "malloc@plt");
        assert_true(num_malloc >= 1);
        fixture_close(&fixture);
    }
}

static void stripped_go_program_is_named_by_its_own_table(void **state)
{
    struct fixture fixture;
    uint64_t addr;
    size_t num_main = 0;

    (void)state;
    if (!fixture_has("go"))
        SKIP("go is not installed");
    fixture_write("g.go", "package main\n\nimport \"os\"\n\nfunc leaf(n int) int {\n\ts := 0\n"
                          "\tfor i := 0; i < n; i++ {\n\t\ts += i * i % 7\n\t}\n\treturn s\n}\n\n"
                          "func mid(n int) int { return leaf(n) + 1 }\n\n"
                          "//go:noinline\nfunc outer(n int) int { return mid(n) }\n\n"
                          "func main() { os.Exit(outer(len(os.Args)) & 1) }\n");
    fixture_build(
        "GOFLAGS= GOCACHE=${GOCACHE:-$PWD/gocache} go build -o go.full g.go && "
        "GOFLAGS= GOCACHE=${GOCACHE:-$PWD/gocache} go build -ldflags '-s -w' -o go.stripped g.go");
    addr = fixture_symbol("go.full", "main.outer");
    fixture_open(&fixture, "go.stripped");
    for (uint64_t at = 0; at < 64; at += 2)
        fixture_add(&fixture, addr + at);
    fixture_symbolize(&fixture, &with_inlines);
    for (uint32_t at = 0; at < fixture.table.num_locations; at++) {
        size_t num = fixture_num_lines(&fixture, at);

        if (num != 3)
            continue;
        num_main++;
        assert_string_equal(fixture_name(&fixture, at, 0), "main.leaf");
        assert_string_equal(fixture_name(&fixture, at, 1), "main.mid");
        assert_string_equal(fixture_name(&fixture, at, 2), "main.outer");
        assert_int_equal(fixture_line(&fixture, at, 1)->line, 13);
        assert_int_equal(fixture_line(&fixture, at, 2)->line, 16);
        assert_int_equal(fixture_path(&fixture, at, 0)[0], '/');
    }
    assert_true(num_main > 3);
    fixture_close(&fixture);
}

static void vdso_is_named(void **state)
{
    const char *image = (const char *)getauxval(AT_SYSINFO_EHDR);
    struct fixture fixture = {0};
    struct mapping mapping = {
        .start = 0x7fff00000000, .limit = 0x7fff00002000, .kind = MAPPING_VDSO};
    size_t num_named;

    (void)state;
    if (!image)
        SKIP("there is no vdso");
    assert_null(stack_table_init(&fixture.table));
    assert_null(target_create(&fixture.table, &fixture.target));
    assert_null(
        module_table_get_vdso(target_modules(fixture.target), image, 8192, &fixture.module));
    assert_null(string_table_add(&fixture.table.strings, "[vdso]", &mapping.path));
    mapping.module = fixture.module->id;
    assert_null(stack_table_add_mapping(&fixture.table, &mapping, &fixture.mappings[0]));
    fixture.num_mappings = 1;
    for (uint64_t at = 0; at < 0x2000; at += 16)
        fixture_add(&fixture, mapping.start + at);
    fixture_symbolize(&fixture, &with_inlines);
    num_named = 0;
    for (uint32_t at = 0; at < fixture.table.num_locations; at++)
        num_named += strstr(fixture_name(&fixture, at, 0), "clock_gettime") != NULL;
    assert_true(num_named > 0);
    fixture_close(&fixture);
}

/* Where kallsyms is restricted, the frame is honest about it. */
static void kernel_addresses_are_named_or_restricted(void **state)
{
    struct mapping mapping = {.start = 0xffffffff80000000,
                              .limit = UINT64_MAX,
                              .kind = MAPPING_KERNEL,
                              .module = MAPPING_NO_MODULE};
    struct fixture fixture = {0};
    unsigned long long address = 0;
    FILE *file = popen("awk '$3 == \"vfs_read\" { print $1 }' /proc/kallsyms", "r");
    uint32_t location;

    (void)state;
    assert_non_null(file);
    if (fscanf(file, "%llx", &address) != 1)
        address = 0;
    pclose(file);
    assert_null(stack_table_init(&fixture.table));
    assert_null(target_create(&fixture.table, &fixture.target));
    assert_null(stack_table_add_mapping(&fixture.table, &mapping, &fixture.mappings[0]));
    fixture.num_mappings = 1;
    location = fixture_add(&fixture, address ? address + 1 : 0xffffffff81000001);
    fixture_symbolize(&fixture, &with_inlines);
    assert_string_equal(fixture_name(&fixture, location, 0), address ? "vfs_read" : "[kernel]");
    if (address)
        assert_string_equal(fixture_path(&fixture, location, 0), "vmlinux");
    assert_true(stack_table_mapping(&fixture.table, 1)->has_functions);
    assert_false(stack_table_mapping(&fixture.table, 1)->has_filenames);
    fixture_close(&fixture);
}

static void every_location_gets_a_line_of_its_own(void **state)
{
    struct mapping mapping = {.start = 0x1000,
                              .limit = 0x9000,
                              .kind = MAPPING_ANON,
                              .pid = 1,
                              .module = MAPPING_NO_MODULE};
    struct frame_key reason = {.reason = REASON_TRUNCATED};
    struct frame_key unknown = {.pc = 0x4242};
    struct fixture fixture = {0};
    struct frame_key anon;
    uint32_t locations[4];

    (void)state;
    assert_null(stack_table_init(&fixture.table));
    assert_null(target_create(&fixture.table, &fixture.target));
    assert_null(stack_table_add_mapping(&fixture.table, &mapping, &fixture.mappings[0]));
    anon = (struct frame_key){.pc = 0x1234, .mapping = fixture.mappings[0]};
    assert_null(stack_table_add_location(&fixture.table, &reason, &locations[0]));
    assert_null(stack_table_add_location(&fixture.table, &unknown, &locations[1]));
    assert_null(stack_table_add_location(&fixture.table, &anon, &locations[2]));
    anon.pc = 0x1238;
    assert_null(stack_table_add_location(&fixture.table, &anon, &locations[3]));
    fixture_symbolize(&fixture, &with_inlines);
    assert_string_equal(fixture_name(&fixture, locations[0], 0), "[truncated]");
    assert_string_equal(fixture_name(&fixture, locations[1], 0), "[unknown]+0x4242");
    assert_string_equal(fixture_name(&fixture, locations[2], 0), "[jit]+0x1234");
    assert_string_equal(fixture_name(&fixture, locations[3], 0), "[jit]+0x1238");
    assert_int_equal(fixture.result.num_locations, 3);
    assert_int_equal(fixture.result.num_named, 0);
    fixture_close(&fixture);
}

static void expired_time_limit_names_synthetically_and_counts(void **state)
{
    static const struct symbolize_options short_time = {.inlines = true, .timeout_ns = 1};
    struct fixture fixture;
    uint32_t location;

    (void)state;
    fixture_open(&fixture, "lib.so");
    location = add_symbol(&fixture, "lib.so", "hidden");
    fixture_symbolize(&fixture, &short_time);
    assert_int_equal(fixture_num_lines(&fixture, location), 1);
    assert_int_equal(fixture.result.loss.counts[LOSS_SYMBOL_TIMEOUT], 1);
    assert_int_equal(fixture.result.num_named, 0);
    fixture_close(&fixture);
}

static void known_locations_are_left_alone(void **state)
{
    struct fixture fixture;
    uint32_t first;
    uint32_t second;
    uint32_t function;

    (void)state;
    fixture_open(&fixture, "lib.so");
    first = add_symbol(&fixture, "lib.so", "hidden");
    fixture_symbolize(&fixture, &with_inlines);
    function = fixture_line(&fixture, first, 0)->function;
    second = add_symbol(&fixture, "lib.so", "exported");
    fixture_symbolize(&fixture, &with_inlines);
    assert_int_equal(fixture_line(&fixture, first, 0)->function, function);
    assert_string_equal(fixture_name(&fixture, second, fixture_num_lines(&fixture, second) - 1),
                        "exported");
    assert_int_equal(fixture.result.num_named, 2);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inlined_callers_have_names_files_and_lines),
        cmocka_unit_test(inlined_members_are_told_with_what_they_are_members_of),
        cmocka_unit_test(lambdas_are_told_with_their_function),
        cmocka_unit_test(names_only_gives_one_line),
        cmocka_unit_test(stripped_file_names_only_what_is_covered),
        cmocka_unit_test(debuglink_is_followed_and_its_crc_checked),
        cmocka_unit_test(build_id_directory_is_searched_and_the_id_checked),
        cmocka_unit_test(mini_debug_info_names_local_functions),
        cmocka_unit_test(shared_dwz_file_is_used),
        cmocka_unit_test(shared_dwz_file_is_found_in_debug_directories),
        cmocka_unit_test(dwz_file_of_another_build_is_refused),
        cmocka_unit_test(compressed_sections_are_read),
        cmocka_unit_test(split_debug_info_is_found),
        cmocka_unit_test(packaged_and_moved_split_debug_info_is_found),
        cmocka_unit_test(code_beside_type_units_is_named),
        cmocka_unit_test(plt_stubs_are_named),
        cmocka_unit_test(stripped_go_program_is_named_by_its_own_table),
        cmocka_unit_test(vdso_is_named),
        cmocka_unit_test(kernel_addresses_are_named_or_restricted),
        cmocka_unit_test(every_location_gets_a_line_of_its_own),
        cmocka_unit_test(expired_time_limit_names_synthetically_and_counts),
        cmocka_unit_test(known_locations_are_left_alone),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
