/* Chains of functions, files and lines against addr2line -fi and llvm-symbolizer, on programs of
 * several compilers: at least 99 % equal.
 *
 * Known faults of the oracles, for which the other one is asked: addr2line 2.40 names an innermost
 * inlined C++ or Go function after the symbol around it when it has no linkage name, and finds no
 * inlined functions in DWARF 5 of clang; both name padding between functions after the symbol
 * before it. */
#include "tests/unit/symbolize/fixture.h"

#define MAX_ADDRESSES 4000
#define MAX_DEPTH 64

struct frame {
    char *name; /* readable */
    char *path; /* absolute and plain, or "" */
    long line;
};

struct answer {
    size_t num_frames;
    struct frame frames[MAX_DEPTH];
};

static void answer_clear(struct answer *answer)
{
    for (size_t i = 0; i < answer->num_frames; i++) {
        free(answer->frames[i].name);
        free(answer->frames[i].path);
    }
    answer->num_frames = 0;
}

/* Removes "/./" and "/x/.." from a path. Each joins directories in its own way. */
static char *plain_path(const char *path)
{
    char *plain = calloc(1, strlen(path) + 2);
    const char *at = path;
    size_t length = 0;

    assert_non_null(plain);
    if (path[0] != '/')
        return plain;
    while (*at) {
        size_t part = strcspn(at, "/");

        if (part == 2 && !strncmp(at, "..", 2)) {
            while (length > 0 && plain[--length] != '/')
                ;
        } else if (part > 0 && !(part == 1 && at[0] == '.')) {
            plain[length++] = '/';
            memcpy(plain + length, at, part);
            length += part;
        }
        plain[length] = '\0';
        at += part + (at[part] == '/');
    }
    return plain;
}

static char *readable_name(const char *symbol)
{
    struct arena arena;
    char *name;

    arena_init(&arena);
    name = strdup(symbol_demangle(&arena, symbol));
    arena_deinit(&arena);
    assert_non_null(name);
    /* Go's suffix for assembler functions is in the symbol, not in its table. */
    if (strlen(name) > 5 && !strcmp(name + strlen(name) - 5, ".abi0"))
        name[strlen(name) - 5] = '\0';
    return name;
}

static void answer_add(struct answer *answer, const char *symbol, const char *path, long line)
{
    struct frame *frame;

    if (answer->num_frames == MAX_DEPTH)
        return;
    frame = &answer->frames[answer->num_frames++];
    frame->name = readable_name(symbol);
    frame->path = plain_path(path);
    frame->line = frame->path[0] ? line : 0;
}

/* Our own chain in the same form. */
static void answer_of_location(const struct fixture *fixture, uint32_t location,
                               struct answer *answer)
{
    for (size_t i = 0; i < fixture_num_lines(fixture, location); i++) {
        const char *system_name = fixture_system_name(fixture, location, i);

        answer_add(answer, system_name[0] ? system_name : fixture_name(fixture, location, i),
                   fixture_path(fixture, location, i),
                   (long)fixture_line(fixture, location, i)->line);
    }
}

/* One of the names that libc gives a function: chdir, __chdir, __GI_chdir. */
static const char *plain_alias(const char *name)
{
    name += strspn(name, "_");
    return !strncmp(name, "GI_", 3) ? name + 3 + strspn(name + 3, "_") : name;
}

/* The oracles tell the plain name of a function that has no linkage name; we put before it what it
 * is a member of. Each has its own taste in aliases. */
static bool names_equal(const char *theirs, const char *ours)
{
    size_t length = strlen(ours);
    size_t tail = strlen(theirs);

    if (!strcmp(plain_alias(theirs), plain_alias(ours)))
        return true;
    /* libc's memcpy is its memmove. */
    if (!strncmp(plain_alias(theirs), "memcpy", 6) && !strncmp(plain_alias(ours), "memmove", 7))
        return !strcmp(plain_alias(theirs) + 6, plain_alias(ours) + 7);
    return length > tail + 2 && !strcmp(ours + length - tail, theirs) &&
           !memcmp(ours + length - tail - 2, "::", 2);
}

static bool answers_equal(const struct answer *theirs, const struct answer *ours)
{
    if (theirs->num_frames != ours->num_frames)
        return false;
    for (size_t i = 0; i < theirs->num_frames; i++) {
        if (!names_equal(theirs->frames[i].name, ours->frames[i].name) ||
            strcmp(theirs->frames[i].path, ours->frames[i].path) != 0 ||
            theirs->frames[i].line != ours->frames[i].line)
            return false;
    }
    return true;
}

static bool read_text_line(FILE *file, char **line, size_t *capacity)
{
    ssize_t length = getline(line, capacity, file);

    if (length <= 0)
        return false;
    if ((*line)[length - 1] == '\n')
        (*line)[length - 1] = '\0';
    return true;
}

/* What an oracle said, by address. NULL when it is not installed. */
static struct answer *ask_oracle(const char *command, const char *file, size_t num_addresses)
{
    struct answer *answers;
    char text[512];
    char *line = NULL;
    char *name = NULL;
    size_t line_capacity = 0;
    size_t name_capacity = 0;
    size_t at = (size_t)-1;
    FILE *pipe;

    snprintf(text, sizeof(text), "%.*s", (int)strcspn(command, " "), command);
    if (!fixture_has(text))
        return NULL;
    answers = calloc(num_addresses, sizeof(*answers));
    assert_non_null(answers);
    snprintf(text, sizeof(text), "cd %s && %s -e ./%s < addresses", fixture_dir, command, file);
    pipe = popen(text, "r");
    assert_non_null(pipe);
    while (read_text_line(pipe, &name, &name_capacity)) {
        char *colon;

        if (!name[0])
            continue;
        if (!strncmp(name, "0x", 2)) {
            at++;
            continue;
        }
        if (at >= num_addresses || !read_text_line(pipe, &line, &line_capacity))
            break;
        line[strcspn(line, "(")] = '\0'; /* " (discriminator 3)" */
        colon = strrchr(line, ':');
        if (colon)
            *colon = '\0';
        answer_add(&answers[at], name, line, colon ? strtol(colon + 1, NULL, 10) : 0);
    }
    assert_int_equal(pclose(pipe), 0);
    free(line);
    free(name);
    return answers;
}

/* The oracle names padding after the symbol before it, or has nothing to say. */
static bool is_no_answer(const struct answer *theirs, const struct answer *ours)
{
    return theirs->num_frames == 0 ||
           (theirs->num_frames == 1 && theirs->frames[0].line == 0 &&
            (!strcmp(theirs->frames[0].name, "??") || strstr(ours->frames[0].name, "+0x")));
}

static void print_difference(const char *oracle, const struct answer *theirs,
                             const struct answer *ours)
{
    for (size_t i = 0; i < theirs->num_frames; i++)
        print_message("   %-16s %s %s:%ld\n", oracle, theirs->frames[i].name,
                      theirs->frames[i].path, theirs->frames[i].line);
    for (size_t i = 0; i < ours->num_frames; i++)
        print_message("   %-16s %s %s:%ld\n", "ours", ours->frames[i].name, ours->frames[i].path,
                      ours->frames[i].line);
}

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

static bool equals_oracle(struct answer *answers, size_t at, const struct answer *ours)
{
    return answers && (is_no_answer(&answers[at], ours) || answers_equal(&answers[at], ours));
}

static void free_answers(struct answer *answers, size_t num)
{
    for (size_t i = 0; answers && i < num; i++)
        answer_clear(&answers[i]);
    free(answers);
}

/* Compares all chains of one program with the oracles. */
static void compare(const char *file)
{
    static const struct symbolize_options options = {.inlines = true};
    struct answer *ours = calloc(1, sizeof(*ours));
    struct answer *binutils;
    struct answer *llvm;
    struct fixture fixture;
    size_t num;
    size_t num_binutils = 0;
    size_t num_either = 0;

    assert_non_null(ours);
    fixture_open(&fixture, file);
    num = add_addresses(&fixture);
    fixture_symbolize(&fixture, &options);
    binutils = ask_oracle("addr2line -a -f -i", file, num);
    llvm = ask_oracle(
        "llvm-symbolizer --functions=linkage --inlines --no-demangle --output-style=GNU -a", file,
        num);
    assert_non_null(binutils);
    for (uint32_t i = 0; i < num; i++) {
        bool by_binutils;

        answer_of_location(&fixture, i, ours);
        by_binutils = equals_oracle(binutils, i, ours);
        num_binutils += by_binutils;
        if (by_binutils || equals_oracle(llvm, i, ours))
            num_either++;
        else if (i + 1 - num_either <= 2)
            print_difference("addr2line", &binutils[i], ours);
        answer_clear(ours);
    }
    print_message(
        "%-12s %zu addresses: %.1f %% as addr2line -fi, %.1f %% as it or llvm-symbolizer\n", file,
        num, 100.0 * (double)num_binutils / (double)num, 100.0 * (double)num_either / (double)num);
    free_answers(binutils, num);
    free_answers(llvm, num);
    free(ours);
    fixture_close(&fixture);
    if (llvm || num_binutils * 100 >= num * 99)
        assert_true(num_either * 100 >= num * 99);
}

static const char c_source[] =
    "#include <stdio.h>\n#include <stdlib.h>\n"
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
    "int main(int argc, char **argv)\n{\n    int v[100];\n    struct node n = {0, argc};\n"
    "    for (int i = 0; i < 100; i++)\n        v[i] = i * 7 + 1;\n"
    "    printf(\"%d %d %s\\n\", work(v, 100), walk(&n), argv[0]);\n    return 0;\n}\n";

static const char cc_source[] =
    "#include <algorithm>\n#include <cstdio>\n#include <map>\n#include <string>\n#include "
    "<vector>\n"
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
    "    printf(\"%d %d\\n\", s.area(argc), hidden(m, argc * 100));\n}\n";

static int setup(void **state)
{
    if (fixture_setup(state) != 0)
        return -1;
    fixture_write("t.c", c_source);
    fixture_write("t.cc", cc_source);
    return 0;
}

static void compare_built(const char *compiler, const char *flags, const char *source)
{
    char command[256];

    if (!fixture_has(compiler))
        skip();
    if (!strcmp(compiler, "go"))
        snprintf(command, sizeof(command), "GOFLAGS= GOCACHE=${GOCACHE:-$PWD/gocache} go %s %s",
                 flags, source);
    else
        snprintf(command, sizeof(command), "%s %s $PWD/%s -o program", compiler, flags, source);
    fixture_build(command);
    print_message("%s %s: ", compiler, flags);
    compare("program");
}

static void chains_of_gcc_equal_the_oracles(void **state)
{
    (void)state;
    compare_built("gcc", "-O2 -g", "t.c");
    compare_built("gcc", "-O2 -g -gdwarf-4", "t.c");
}

static void chains_of_clang_equal_the_oracles(void **state)
{
    (void)state;
    compare_built("clang", "-O2 -g", "t.c");
}

static void chains_of_gplusplus_equal_the_oracles(void **state)
{
    (void)state;
    compare_built("g++", "-O2 -g", "t.cc");
    compare_built("g++", "-O2 -g -gdwarf-4", "t.cc");
}

static void chains_of_link_time_optimization_equal_the_oracles(void **state)
{
    (void)state;
    compare_built("gcc", "-O2 -g -flto", "t.c");
    compare_built("g++", "-O2 -g -flto", "t.cc");
}

static void chains_of_clangplusplus_equal_the_oracles(void **state)
{
    (void)state;
    compare_built("clang++", "-O2 -g", "t.cc");
    compare_built("clang++", "-O2 -g -gdwarf-4", "t.cc");
}

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
}

/* libc6-dbg: a separate file, compressed, written by gcc and as, 2000 units. */
static void chains_of_libc_equal_the_oracles(void **state)
{
    (void)state;
    fixture_build("cp /lib/x86_64-linux-gnu/libc.so.6 program");
    compare("program");
}

static void chains_of_go_equal_the_oracles(void **state)
{
    (void)state;
    fixture_write(
        "t.go", "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\n"
                "func leaf(n int) int {\n\ts := 0\n\tfor i := 0; i < n; i++ {\n\t\ts += i * i % 7\n"
                "\t}\n\treturn s\n}\n\nfunc main() { fmt.Println(leaf(len(os.Args))) }\n");
    compare_built("go", "build -o program", "t.go");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_of_gcc_equal_the_oracles),
        cmocka_unit_test(chains_of_clang_equal_the_oracles),
        cmocka_unit_test(chains_of_gplusplus_equal_the_oracles),
        cmocka_unit_test(chains_of_link_time_optimization_equal_the_oracles),
        cmocka_unit_test(chains_of_clangplusplus_equal_the_oracles),
        cmocka_unit_test(chains_of_rust_equal_the_oracles),
        cmocka_unit_test(chains_of_go_equal_the_oracles),
        cmocka_unit_test(chains_of_libc_equal_the_oracles),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
