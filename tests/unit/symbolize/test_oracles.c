/* Chains of functions, files and lines against addr2line -fi (binutils 2.40), on programs of
 * several compilers, with and without link-time optimization: at least 99 % of the addresses equal,
 * or different by a fault of addr2line that is known, and of which llvm-symbolizer is the witness:
 * its chain is ours, frame by frame. The figures stand in docs/symbols.md. */
#include "tests/unit/symbolize/dwarf_witness.h"
#include "tests/unit/symbolize/oracle.h"

#define MAX_ADDRESSES 2000
#define ADDR2LINE "addr2line -a -f -i"
#define LLVM_SYMBOLIZER \
    "llvm-symbolizer-14 --functions=linkage --inlines --no-demangle --verbose -a"

/* What addr2line gets wrong; found by holding it against DWARF and machine code. */
enum fault {
    /* An innermost function that has no linkage name and is not C (of an anonymous namespace, a
     * lambda, Go's) gets the name of the ELF symbol around it, that is, of the physical function.
     */
    FAULT_NAME,
    /* Ranges by DW_FORM_rnglistx (clang's DWARF 5) are not read. Of the chain remains what is
     * around the innermost function that has but one range; file and line are right. */
    FAULT_RANGES,
    /* A line program's first file is taken from entry 0 of a DWARF 5 table, where the file register
     * starts at 1. Often the same file; gcc -flto has "<artificial>" in entry 0. */
    FAULT_FIRST_FILE,
    /* Units whose ranges begin by DW_RLE_base_addressx (DWARF 5 of Go 1.25 and newer) are not read
     * at all, nor what only .debug_aranges knows to be in one of DWARF 2, which has but one range:
     * there is the ELF symbol and nothing else. */
    FAULT_UNIT,
    FAULT_NUM,
};

static const char *const fault_names[FAULT_NUM] = {"name", "ranges", "first file", "unit"};

/* The addresses of a program by what became of them. */
struct tally {
    size_t num;       /* in functions: the padding between them belongs to none */
    size_t num_equal; /* as addr2line */
    size_t num_llvm;  /* as llvm-symbolizer */
    size_t num_both;
    size_t num_faults[FAULT_NUM]; /* known ones of addr2line, witnessed; an address may show two */
    size_t num_faulty;            /* addresses with such faults */
    size_t num_details;           /* as llvm-symbolizer, but symbol or first line of a function */
};

/* Writes every step-th address of .text to the file "addresses" and adds it to the fixture. */
static size_t add_addresses(struct fixture *fixture)
{
    const char *path = fixture->module->path;
    unsigned long long start = 0;
    unsigned long long size = 0;
    char command[256];
    char text[256];
    uint64_t step;
    size_t num = 0;
    FILE *file;

    snprintf(
        command, sizeof(command),
        "readelf -SW %s | sed 's/^ *\\[ *[0-9]*\\]//' | awk '$1 == \".text\" { print $3, $5 }'",
        path);
    file = popen(command, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%llx %llx", &start, &size), 2);
    pclose(file);
    step = size / MAX_ADDRESSES > 16 ? size / MAX_ADDRESSES : 16;
    snprintf(text, sizeof(text), "%s/addresses", fixture_dir);
    file = fopen(text, "w");
    assert_non_null(file);
    for (uint64_t at = 0; at < size; at += step, num++) {
        fprintf(file, "0x%llx\n", start + (unsigned long long)at);
        assert_int_equal(fixture_add(fixture, start + at), num);
    }
    fclose(file);
    return num;
}

/* Padding: nothing covers it, so it has no name of ours, nor of llvm-symbolizer when there is a
 * line; addr2line names it after the symbol before it. */
static bool is_padding(const struct answer *llvm, const struct answer *ours)
{
    return ours->num_frames == 1 && strstr(ours->frames[0].name, "+0x") && llvm->num_frames == 1 &&
           (llvm->frames[0].line == 0 || !strcmp(llvm->frames[0].name, "??"));
}

/* Tells how many of the innermost functions addr2line cannot see. */
static size_t num_unreadable(const struct witness *dwarf)
{
    size_t num = 0;

    while (num < dwarf->num_frames && dwarf->frames[dwarf->num_frames - 1 - num].is_rnglistx)
        num++;
    return num;
}

/* Tells which faults make addr2line's answer of ours, by what the DWARF has there.
 * Returns: a bit for each, 0 when no faults do. */
static unsigned find_faults(const struct answer *theirs, const struct answer *ours,
                            const struct witness *dwarf)
{
    size_t num_lost = ours->num_frames - theirs->num_frames;
    const struct frame *physical = &ours->frames[ours->num_frames - 1];
    const struct frame *first = &theirs->frames[0];
    unsigned faults = num_lost > 0 ? 1U << FAULT_RANGES : 0;

    if (theirs->num_frames == 0 || theirs->num_frames > ours->num_frames)
        return 0;
    if (theirs->num_frames == 1 && !first->path[0] && names_equal(first->name, physical->name))
        return dwarf->version == 5 || dwarf->version == 2 ? 1U << FAULT_UNIT : 0;
    if (num_lost > 0 && num_lost != num_unreadable(dwarf))
        return 0;
    for (size_t i = 1; i < theirs->num_frames; i++) {
        if (!frames_equal(&theirs->frames[i], &ours->frames[i + num_lost]))
            return 0;
    }
    if (first->line != ours->frames[0].line)
        return 0;
    if (!paths_equal(first->path, ours->frames[0].path) && !dwarf->is_first_file)
        return 0;
    if (!paths_equal(first->path, ours->frames[0].path))
        faults |= 1U << FAULT_FIRST_FILE;
    if (names_equal(first->name, ours->frames[num_lost].name))
        return faults;
    if (!names_equal(first->name, physical->name) || dwarf->num_frames != ours->num_frames ||
        dwarf->frames[theirs->num_frames - 1].has_linkage_name)
        return 0;
    return faults | 1U << FAULT_NAME;
}

/* Symbols of inlined functions (that of the physical one is from the symbol table) and first lines,
 * which we tell when they are in the file of the frame. */
static bool details_equal(const struct answer *theirs, const struct answer *ours)
{
    for (size_t i = 0; i < ours->num_frames; i++) {
        const struct frame *a = &theirs->frames[i];
        const struct frame *b = &ours->frames[i];

        if (b->start_line > 0 && a->start_line > 0 && a->start_line != b->start_line)
            return false;
        if (i + 1 < ours->num_frames && b->symbol[0] && strcmp(a->symbol, b->symbol) != 0)
            return false;
    }
    return true;
}

static void count_address(struct tally *tally, const struct answer *binutils,
                          const struct answer *llvm, const struct witness *dwarf,
                          const struct answer *ours)
{
    bool is_equal = answers_equal(binutils, ours);
    bool is_llvm = answers_equal(llvm, ours);
    unsigned faults = is_llvm && !is_equal ? find_faults(binutils, ours, dwarf) : 0;
    bool has_details = !is_llvm || details_equal(llvm, ours);

    tally->num++;
    tally->num_equal += is_equal;
    tally->num_llvm += is_llvm;
    tally->num_both += is_equal && is_llvm;
    tally->num_faulty += faults != 0;
    tally->num_details += !has_details;
    for (unsigned i = 0; i < FAULT_NUM; i++)
        tally->num_faults[i] += faults >> i & 1;
    if ((is_equal || faults) && has_details)
        return;
    if (tally->num - tally->num_equal - tally->num_faulty + tally->num_details > 3)
        return;
    answer_print("addr2line", binutils);
    answer_print("llvm", llvm);
    answer_print("ours", ours);
}

static void print_tally(const struct tally *tally)
{
    print_message("%zu addresses: as addr2line %.1f %%, as llvm-symbolizer %.1f %%, neither %zu;",
                  tally->num, 100.0 * (double)tally->num_equal / (double)tally->num,
                  100.0 * (double)tally->num_llvm / (double)tally->num,
                  tally->num + tally->num_both - tally->num_equal - tally->num_llvm);
    for (unsigned i = 0; i < FAULT_NUM; i++) {
        if (tally->num_faults[i] > 0)
            print_message(" %s %zu", fault_names[i], tally->num_faults[i]);
    }
    print_message(" unexplained %zu, details %zu\n",
                  tally->num - tally->num_equal - tally->num_faulty, tally->num_details);
}

/* Asks for all locations of a fixture, whose addresses ascend. */
static struct witness *ask_dwarf(const struct fixture *fixture, size_t num)
{
    uint64_t *addrs = calloc(num + 1, sizeof(*addrs));
    struct witness *witnesses;

    assert_non_null(addrs);
    for (size_t i = 0; i < num; i++)
        addrs[i] = fixture->table.locations[i].key.pc;
    witnesses = witness_read(fixture->module->path, addrs, num);
    free(addrs);
    return witnesses;
}

/* Compares all chains of one program with the oracles. */
static void compare(const char *file)
{
    static const struct symbolize_options options = {.inlines = true};
    struct answer *ours = calloc(1, sizeof(*ours));
    struct tally tally = {0};
    struct answer *binutils;
    struct answer *llvm;
    struct witness *dwarf;
    struct fixture fixture;
    size_t num;

    assert_non_null(ours);
    fixture_open(&fixture, file);
    num = add_addresses(&fixture);
    fixture_symbolize(&fixture, &options);
    binutils = oracle_ask(ADDR2LINE, file, num);
    llvm = oracle_ask(LLVM_SYMBOLIZER, file, num);
    dwarf = ask_dwarf(&fixture, num);
    for (uint32_t i = 0; i < num; i++) {
        answer_of_location(&fixture, i, ours);
        if (!is_padding(&llvm[i], ours))
            count_address(&tally, &binutils[i], &llvm[i], &dwarf[i], ours);
        answer_clear(ours);
    }
    print_tally(&tally);
    answers_free(binutils, num);
    answers_free(llvm, num);
    free(dwarf);
    free(ours);
    fixture_close(&fixture);
    assert_true(tally.num * 2 > num);
    assert_true((tally.num_equal + tally.num_faulty) * 100 >= tally.num * 99);
    assert_true(tally.num_details * 100 <= tally.num);
}

static const char c_source[] =
    "#include <stdio.h>\n#include <stdlib.h>\n"
    "int far_quarter(int a);\nint far_walk(const int *v, int n, int (*f)(int));\n"
    "static inline int add(int a, int b) { return a * 3 + b; }\n"
    "static inline int twice(int a)\n{\n    return add(a, a) ^ add(a, 1);\n}\n"
    "static int cmp(const void *a, const void *b) { return twice(*(int *)a) - twice(*(int *)b); }\n"
    "__attribute__((noinline)) static int work(int *v, int n)\n{\n    int s = 0;\n"
    "    for (int i = 0; i < n; i++) {\n        if (v[i] % 7 == 0)\n            abort();\n"
    "        s += twice(v[i]);\n    }\n    qsort(v, (size_t)n, sizeof(*v), cmp);\n    return "
    "s;\n}\n"
    "struct node { struct node *next; int v; };\n"
    "int walk(struct node *h)\n{\n    int s = 0;\n    for (; h; h = h->next)\n        s += "
    "twice(h->v);\n"
    "    return s;\n}\n"
    "static int tap(int a) { return twice(far_quarter(a)); }\n"
    "int main(int argc, char **argv)\n{\n    int v[100];\n    struct node n = {0, argc};\n"
    "    for (int i = 0; i < 100; i++)\n        v[i] = i * 7 + 1;\n"
    "    printf(\"%d %d %d %s\\n\", work(v, 100), walk(&n), far_walk(v, 100, tap),\n        "
    "argv[0]);\n    return 0;\n}\n";

static const char cc_source[] =
    "#include <algorithm>\n#include <cstdio>\n#include <map>\n#include <string>\n#include "
    "<vector>\n#include \"far.h\"\n"
    "namespace geo { namespace detail {\n"
    "template <class T> static inline T sq(T v) { return v * v + (v ? 1 : 2); }\n"
    "struct Point { double x, y; double norm() const { return sq(x) + sq(y); } };\n"
    "static inline int classify(const Point &p)\n{\n    if (p.norm() > 10)\n        return 1;\n"
    "    return sq((int)p.x) % 3;\n}\n}\n"
    "class Shape { public: virtual ~Shape() {} virtual int area(int n); std::vector<detail::Point> "
    "pts; };\n"
    "int Shape::area(int n)\n{\n    int s = 0;\n    for (auto &p : pts)\n        s += "
    "detail::classify(p) * n;\n"
    "    std::sort(pts.begin(), pts.end(), [](const detail::Point &a, const detail::Point &b) {\n"
    "        return a.norm() < b.norm(); });\n    return s;\n}\n}\n"
    "namespace { int hidden(std::map<std::string, int> &m, int n)\n{\n    int s = 0;\n"
    "    for (int i = 0; i < n; i++)\n        m[std::to_string(i * 7 % 13)] += i;\n"
    "    for (auto &kv : m)\n        s += kv.second;\n    return s;\n} }\n"
    "int main(int argc, char **argv)\n{\n    geo::Shape s;\n    std::map<std::string, int> m;\n"
    "    for (int i = 0; i < 100; i++)\n        s.pts.push_back({i * 1.5, i * 0.5});\n"
    "    try {\n        if (argc > 5)\n            throw std::string(argv[0]);\n"
    "    } catch (std::string &e) {\n        puts(e.c_str());\n    }\n"
    "    far::Counter c{argc + 1, {argv, argv + argc}};\n"
    "    printf(\"%d %d %d\\n\", s.area(argc), hidden(m, argc * 100), c.total());\n}\n";

/* A second unit: what link-time optimization moves between units. */
static const char c_far_source[] =
    "static inline int half(int a) { return a / 2 + (a & 1); }\n"
    "int far_quarter(int a)\n{\n    return half(half(a) ^ 5);\n}\n"
    "__attribute__((noinline)) int far_walk(const int *v, int n, int (*f)(int))\n{\n"
    "    int s = 0;\n\n    for (int i = 0; i < n; i++)\n        s += f(far_quarter(v[i]));\n"
    "    return s;\n}\n";

static const char cc_far_source[] =
    "#include <algorithm>\n#include <string>\n#include \"far.h\"\n"
    "namespace far {\n"
    "int Counter::weigh(const std::string &s) const\n{\n"
    "    return std::count_if(s.begin(), s.end(), [this](char c) { return c % base == 0; });\n}\n"
    "int Counter::total() const\n{\n    int sum = 0;\n"
    "    for (const std::string &s : names)\n        sum += weigh(s);\n    return sum;\n}\n}\n";

static const char cc_far_header[] =
    "#include <string>\n#include <vector>\nnamespace far {\nstruct Counter {\n    int base;\n"
    "    std::vector<std::string> names;\n    int weigh(const std::string &s) const;\n"
    "    int total() const;\n};\n}\n";

static int setup(void **state)
{
    char cache[80];

    if (fixture_setup(state) != 0)
        return -1;
    snprintf(cache, sizeof(cache), "%s/gocache", fixture_dir);
    if (setenv("GOCACHE", cache, 0) != 0 || setenv("GOFLAGS", "", 1) != 0)
        return -1;
    fixture_write("t.c", c_source);
    fixture_write("t.cc", cc_source);
    fixture_write("far.c", c_far_source);
    fixture_write("far.cc", cc_far_source);
    fixture_write("far.h", cc_far_header);
    return 0;
}

/* sources: in the directory, absolute or not, as the compiler is to see them. */
static void compare_built(const char *compiler, const char *flags, const char *sources)
{
    char command[512];

    snprintf(command, sizeof(command), "%s %s -o program %s", compiler, flags, sources);
    fixture_build(command);
    print_message("%s %s: ", compiler, flags);
    compare("program");
}

#define C_SOURCES "$PWD/t.c $PWD/far.c"
#define CC_SOURCES "$PWD/t.cc $PWD/far.cc"

static void chains_of_gcc_equal_the_oracles(void **state)
{
    (void)state;
    compare_built("gcc", "-O2 -g", C_SOURCES);
    compare_built("gcc", "-O2 -g -gdwarf-4", "t.c far.c");
    compare_built("gcc", "-O2 -g -gdwarf-2 -gstrict-dwarf", "t.c far.c");
    compare_built("gcc", "-O2 -g -flto", C_SOURCES);
}

static void chains_of_clang_equal_the_oracles(void **state)
{
    (void)state;
    compare_built("clang-14", "-O2 -g", C_SOURCES);
    compare_built("clang-14", "-O2 -g -gdwarf-4", "t.c far.c");
    compare_built("clang-14", "-O2 -g -flto -fuse-ld=lld", C_SOURCES);
    compare_built("clang-14", "-O2 -g -gdwarf-4 -flto=thin -fuse-ld=lld", C_SOURCES);
}

static void chains_of_gplusplus_equal_the_oracles(void **state)
{
    (void)state;
    compare_built("g++", "-O2 -g", CC_SOURCES);
    compare_built("g++", "-O2 -g -gdwarf-4", "t.cc far.cc");
    compare_built("g++", "-O2 -g -gdwarf-2 -gstrict-dwarf", "t.cc far.cc");
    compare_built("g++", "-O2 -g -flto", CC_SOURCES);
}

static void chains_of_clangplusplus_equal_the_oracles(void **state)
{
    (void)state;
    compare_built("clang++-14", "-O2 -g", CC_SOURCES);
    compare_built("clang++-14", "-O2 -g -gdwarf-4", "t.cc far.cc");
    compare_built("clang++-14", "-O2 -g -flto -fuse-ld=lld", CC_SOURCES);
    compare_built("clang++-14", "-O2 -g -gdwarf-4 -flto=thin -fuse-ld=lld", CC_SOURCES);
}

/* Two crates without std, of which link-time optimization takes seconds. */
static const char rs_far_source[] =
    "#![no_std]\n"
    "pub struct Sum { pub total: u64 }\n"
    "impl Sum {\n"
    "    #[inline(never)]\n"
    "    pub fn add(&mut self, items: &[u32]) -> u64 {\n"
    "        self.total += items.iter().filter(|x| **x % 3 != 0).map(|x| "
    "square(*x)).sum::<u64>();\n"
    "        self.total\n"
    "    }\n"
    "}\n"
    "pub fn square(x: u32) -> u64 { u64::from(x) * u64::from(x) + 1 }\n";

static const char rs_lto_source[] =
    "#![no_std]\n"
    "#![no_main]\n"
    "use core::fmt::Write;\n"
    "extern \"C\" { fn puts(text: *const u8) -> i32; }\n"
    "#[panic_handler]\n"
    "fn on_panic(_: &core::panic::PanicInfo) -> ! { loop {} }\n"
    "struct Text { bytes: [u8; 256], used: usize }\n"
    "impl Write for Text {\n"
    "    fn write_str(&mut self, s: &str) -> core::fmt::Result {\n"
    "        for b in s.bytes() {\n"
    "            if self.used + 1 < self.bytes.len() { self.bytes[self.used] = b; self.used += 1; "
    "}\n"
    "        }\n"
    "        Ok(())\n"
    "    }\n"
    "}\n"
    "#[no_mangle]\n"
    "pub extern \"C\" fn main(argc: i32, _argv: *const *const u8) -> i32 {\n"
    "    let mut items = [3u32, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, "
    "4];\n"
    "    items[0] = argc as u32;\n"
    "    items.sort_unstable();\n"
    "    let mut sum = far::Sum { total: 0 };\n"
    "    let mut text = Text { bytes: [0; 256], used: 0 };\n"
    "    let _ = write!(text, \"{} {} {:?} {:.3}\", sum.add(&items), far::square(items[5]), items, "
    "items[1] as f64 / 7.0);\n"
    "    unsafe { puts(text.bytes.as_ptr()) };\n"
    "    0\n"
    "}\n";

static void chains_of_rust_equal_the_oracles(void **state)
{
    (void)state;
    fixture_write(
        "t.rs",
        "use std::collections::HashMap;\n"
        "mod inner {\n    pub struct P { pub x: f64 }\n    impl P {\n        #[inline]\n"
        "        pub fn n(&self) -> f64 { self.x * self.x + 1.0 }\n    }\n}\n"
        "fn work(n: usize) -> f64 {\n"
        "    let v: Vec<inner::P> = (0..n).map(|i| inner::P { x: i as f64 }).collect();\n"
        "    v.iter().map(|p| p.n()).sum()\n}\n"
        "fn main() {\n    let n: usize = std::env::args().count() * 100;\n"
        "    let mut m: HashMap<String, i32> = HashMap::new();\n"
        "    for i in 0..n { *m.entry(format!(\"{}\", i % 17)).or_insert(0) += i as i32; }\n"
        "    println!(\"{} {}\", work(n), m.len());\n}\n");
    compare_built("rustc", "-O -g", "t.rs");
    fixture_write("far.rs", rs_far_source);
    fixture_write("lto.rs", rs_lto_source);
    fixture_build("rustc -O -g -C panic=abort --crate-type=rlib far.rs");
    compare_built("rustc",
                  "--edition 2018 --extern far=libfar.rlib -O -g -C panic=abort -C lto=fat -l c",
                  "lto.rs");
}

/* libc6-dbg: a separate file, compressed, written by gcc and as, 2000 units. */
static void chains_of_libc_equal_the_oracles(void **state)
{
    (void)state;
    fixture_build("cp /lib/x86_64-linux-gnu/libc.so.6 program");
    compare("program");
}

/* Prints what the runtime itself, which reads the same table, says of its stack: once per logical
 * frame "frame PC FUNCTION FILE LINE". */
static const char go_source[] =
    "package main\n\nimport (\n\t\"runtime\"\n\t\"sort\"\n\t\"strings\"\n)\n\n"
    "type pair[T any] struct{ a, b T }\n\n"
    "func (p pair[T]) first() T { return p.a }\n\n"
    "type byLength []string\n\n"
    "func (b *byLength) Len() int           { return len(*b) }\n"
    "func (b *byLength) Swap(i, j int)      { (*b)[i], (*b)[j] = (*b)[j], (*b)[i] }\n"
    "func (b *byLength) Less(i, j int) bool { tell(); return len((*b)[i]) < len((*b)[j]) }\n\n"
    "var told int\n\n"
    "func tell() {\n\tif told++; told > 3 {\n\t\treturn\n\t}\n\tshow()\n}\n\n"
    "//go:noinline\nfunc show() {\n\tpcs := make([]uintptr, 64)\n"
    "\tframes := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])\n"
    "\tfor {\n\t\tf, more := frames.Next()\n"
    "\t\tprintln(\"frame\", f.PC, f.Function, f.File, f.Line)\n"
    "\t\tif !more {\n\t\t\treturn\n\t\t}\n\t}\n}\n\n"
    "func inner(n int) int {\n\ttell()\n\treturn n * n % 7\n}\n\n"
    "func outer(n int) int {\n\treturn inner(n) + inner(n+1)\n}\n\n"
    "func main() {\n\twords := strings.Fields(\"the quick brown fox jumps\")\n"
    "\tb := byLength(words)\n\tsort.Sort(&b)\n\ttold = 0\n"
    "\tf := func(n int) int { return outer(n) + len(words) }\n"
    "\tfor i := range words {\n\t\ttold = i\n"
    "\t\tprintln(f(i), pair[int]{i, 2}.first(), strings.ToUpper(words[i]))\n\t}\n}\n";

/* addr2line does not read the DWARF 5 that Go 1.25 and newer write, but their DWARF 4. */
static void chains_of_go_equal_the_oracles(void **state)
{
    (void)state;
    fixture_write("t.go", go_source);
    compare_built("go", "build", "t.go");
    if (fixture_run("readelf --debug-dump=info program | grep -q -m1 'Version: *5'") == 0)
        compare_built("GOEXPERIMENT=nodwarf5 go", "build", "t.go");
}

/* One frame as the runtime of Go printed it. */
struct told_frame {
    unsigned long long pc; /* within its call */
    char name[128];
    char path[256];
    long line;
};

/* Runs the program. Returns: how many frames it told. */
static size_t run_and_read(struct told_frame *frames, size_t max)
{
    char command[128];
    size_t num = 0;
    FILE *pipe;

    snprintf(command, sizeof(command), "%s/program 2>&1 | grep ^frame", fixture_dir);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    while (num < max && fscanf(pipe, "frame %llu %127s %255s %ld\n", &frames[num].pc,
                               frames[num].name, frames[num].path, &frames[num].line) == 4)
        num++;
    assert_int_equal(pclose(pipe), 0);
    return num;
}

/* Stripped of DWARF and symbols, so that only .gopclntab is left. The runtime gives the real
 * address for the innermost function of each call, and made-up ones for those around it. (It hides
 * the wrappers of methods by value, which we tell: there is none here.) */
static void chains_of_stripped_go_are_those_of_its_runtime(void **state)
{
    static const struct symbolize_options options = {.inlines = true};
    static struct told_frame told[256];
    struct answer ours = {0};
    struct fixture fixture;
    size_t num_inlined = 0;
    size_t num;

    (void)state;
    fixture_write("t.go", go_source);
    fixture_build("go build -ldflags '-s -w' -o program t.go");
    num = run_and_read(told, ARRAY_LENGTH(told));
    assert_true(num > 20 && num < ARRAY_LENGTH(told));
    fixture_open(&fixture, "program");
    for (size_t i = 0; i < num; i++)
        assert_int_not_equal(fixture_add(&fixture, told[i].pc), UINT32_MAX);
    fixture_symbolize(&fixture, &options);
    for (size_t i = 0; i < num; i += ours.num_frames) {
        answer_clear(&ours);
        answer_of_location(&fixture, fixture_add(&fixture, told[i].pc), &ours);
        assert_true(ours.num_frames > 0 && i + ours.num_frames <= num);
        num_inlined += ours.num_frames - 1;
        for (size_t k = 0; k < ours.num_frames; k++) {
            assert_string_equal(ours.frames[k].name, told[i + k].name);
            assert_string_equal(ours.frames[k].path, told[i + k].path);
            assert_int_equal(ours.frames[k].line, told[i + k].line);
        }
    }
    answer_clear(&ours);
    assert_true(num_inlined > 5);
    print_message("go: %zu frames, %zu of them inlined\n", num, num_inlined);
    fixture_close(&fixture);
}

/* Tells the file of a function of the program. */
static void assert_file_of(const char *function, const char *path)
{
    static const struct symbolize_options options = {.inlines = true};
    struct fixture fixture;
    uint32_t location;

    fixture_open(&fixture, "program");
    location = fixture_add(&fixture, fixture_symbol("program", function));
    fixture_symbolize(&fixture, &options);
    assert_string_equal(fixture_name(&fixture, location, 0), function);
    assert_string_equal(fixture_path(&fixture, location, 0), path);
    fixture_close(&fixture);
}

/* As distributions build: every path of the source tree loses its root, those that were relative to
 * the compilation directory stay so. */
static void files_of_shortened_trees_are_below_their_root(void **state)
{
    static const char *const compilers[] = {"gcc -gdwarf-5", "gcc -gdwarf-4", "clang-14 -gdwarf-5",
                                            "clang-14 -gdwarf-4"};
    static const char *const maps[][2] = {{"=.", ""}, {"=tree", "tree/"}, {"/=", ""}};
    char command[512];
    char path[64];

    (void)state;
    fixture_build(
        "mkdir -p top/sub top/inc top/gen && cd top && "
        "echo '__attribute__((noinline)) int here(int a) { return a * 5; }' >sub/here.h && "
        "echo '__attribute__((noinline)) int up(int a) { return a * 7; }' >inc/up.h && "
        "echo '__attribute__((noinline)) int made(int a) { return a * 9; }' >gen/made.h && "
        "printf '#include \"here.h\"\\n#include \"../inc/up.h\"\\n#include <made.h>\\n"
        "int main(int c, char **v) { return v[0][here(c) %% 3] + up(made(c)); }' >sub/a.c");
    for (size_t i = 0; i < ARRAY_LENGTH(compilers) * ARRAY_LENGTH(maps); i++) {
        const char *start = maps[i % ARRAY_LENGTH(maps)][1];

        snprintf(command, sizeof(command),
                 "top=$PWD/top && cd top/sub && %s -O1 -I. -I$top/gen -ffile-prefix-map=$top%s a.c "
                 "-o $top/../program",
                 compilers[i / ARRAY_LENGTH(maps)], maps[i % ARRAY_LENGTH(maps)][0]);
        fixture_build(command);
        print_message("%s\n", command);
        snprintf(path, sizeof(path), "%ssub/a.c", start);
        assert_file_of("main", path);
        snprintf(path, sizeof(path), "%ssub/here.h", start);
        assert_file_of("here", path);
        snprintf(path, sizeof(path), "%sinc/up.h", start);
        assert_file_of("up", path);
        snprintf(path, sizeof(path), "%sgen/made.h", start);
        assert_file_of("made", path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_of_gcc_equal_the_oracles),
        cmocka_unit_test(chains_of_clang_equal_the_oracles),
        cmocka_unit_test(chains_of_gplusplus_equal_the_oracles),
        cmocka_unit_test(chains_of_clangplusplus_equal_the_oracles),
        cmocka_unit_test(chains_of_rust_equal_the_oracles),
        cmocka_unit_test(chains_of_go_equal_the_oracles),
        cmocka_unit_test(chains_of_stripped_go_are_those_of_its_runtime),
        cmocka_unit_test(chains_of_libc_equal_the_oracles),
        cmocka_unit_test(files_of_shortened_trees_are_below_their_root),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
