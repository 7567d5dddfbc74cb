/* Debug info of real compilers, damaged at places that a fixed seed chooses: every look-up ends,
 * with an answer or without. */
#include <fcntl.h>
#include <gelf.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "symbolize/debug_files.h"
#include "tests/unit/symbolize/fixture.h"

#define NUM_DAMAGES 300 /* of each file */
#define NUM_PLACES 64
#define MAX_RANGES 32

/* A file, and where its debug sections are. */
struct victim {
    uint8_t *bytes;
    size_t num_bytes;
    struct {
        size_t off, num_bytes;
    } ranges[MAX_RANGES];
    size_t num_ranges;
    uint64_t places[NUM_PLACES];
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static void read_bytes(struct victim *victim, const char *name)
{
    char path[256];
    FILE *file;
    long num_bytes;

    snprintf(path, sizeof(path), "%s/%s", fixture_dir, name);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    num_bytes = ftell(file);
    assert_true(num_bytes > 0);
    rewind(file);
    victim->num_bytes = (size_t)num_bytes;
    victim->bytes = malloc(victim->num_bytes);
    assert_non_null(victim->bytes);
    assert_int_equal(fread(victim->bytes, 1, victim->num_bytes, file), victim->num_bytes);
    assert_int_equal(fclose(file), 0);
}

static void find_sections(struct victim *victim)
{
    Elf *elf;
    Elf_Scn *scn = NULL;
    size_t names;

    elf_version(EV_CURRENT);
    elf = elf_memory((char *)victim->bytes, victim->num_bytes);
    assert_non_null(elf);
    assert_int_equal(elf_getshdrstrndx(elf, &names), 0);
    while ((scn = elf_nextscn(elf, scn))) {
        GElf_Shdr shdr;
        const char *name;

        assert_non_null(gelf_getshdr(scn, &shdr));
        name = elf_strptr(elf, names, shdr.sh_name);
        if (name && !strcmp(name, ".text")) {
            for (size_t i = 0; i < NUM_PLACES; i++)
                victim->places[i] = shdr.sh_addr + i * (shdr.sh_size / NUM_PLACES + 1);
        }
        if (!name || strncmp(name, ".debug_", 7) != 0 || shdr.sh_size < 8 ||
            victim->num_ranges == MAX_RANGES)
            continue;
        victim->ranges[victim->num_ranges].off = shdr.sh_offset;
        victim->ranges[victim->num_ranges++].num_bytes = shdr.sh_size;
    }
    elf_end(elf);
    assert_true(victim->num_ranges >= 4);
}

/* Changes a few bytes of the debug sections. */
static void damage(const struct victim *victim, uint8_t *bytes, uint32_t *state)
{
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    uint32_t num = 1 + next_random(state) % 6;

    for (uint32_t i = 0; i < num; i++) {
        size_t range = next_random(state) % victim->num_ranges;
        size_t length = 1 + next_random(state) % 8;
        size_t at =
            victim->ranges[range].off + next_random(state) % (victim->ranges[range].num_bytes - 7);
        size_t from =
            victim->ranges[range].off + next_random(state) % (victim->ranges[range].num_bytes - 7);

        if (next_random(state) % 3 == 0)
            memmove(bytes + at, bytes + from, length);
        else if (next_random(state) % 2)
            memset(bytes + at, values[next_random(state) % sizeof(values)], length);
        else
            bytes[at] ^= (uint8_t)(1U << next_random(state) % 8);
    }
}

/* Asks for all places, and for some that were not announced.
 * Returns: how many chars the answers had: every one of them was read. */
static size_t ask(const struct module *module, const uint64_t *places)
{
    struct symbol_frames *frames = calloc(1, sizeof(*frames));
    struct debug_files *files = NULL;
    struct arena arena;
    struct symbolize_input input = {.module = module,
                                    .arena = &arena,
                                    .deadline_ns = clock_monotonic_ns() + 60000000000,
                                    .places = places,
                                    .num_places = NUM_PLACES};
    struct error *err;
    void *opened = NULL;
    size_t num_chars = 0;

    assert_non_null(frames);
    arena_init(&arena);
    err = debug_files_open(module, NULL, &files);
    assert_null(err);
    input.files = files;
    err = symbolize_dwarf.open(&input, &opened);
    error_destroy(err);
    for (size_t i = 0; opened && i < NUM_PLACES + 8; i++) {
        uint64_t place = i < NUM_PLACES ? places[i] : places[i * 7 % NUM_PLACES] + 1;

        if (!symbolize_dwarf.lookup(opened, place, frames))
            continue;
        for (size_t j = 0; j < frames->num_symbols; j++)
            num_chars += strlen(frames->symbols[j].name) + strlen(frames->symbols[j].filename) +
                         strlen(frames->symbols[j].system_name);
    }
    if (opened)
        symbolize_dwarf.close(opened);
    debug_files_close(files);
    arena_deinit(&arena);
    free(frames);
    return num_chars;
}

static size_t ask_bytes(const struct victim *victim, const uint8_t *bytes)
{
    static char path[] = "/damaged";
    static char root[] = "/nonexistent";
    struct module module = {.path = path, .root = root, .fd = memfd_create("damaged", MFD_CLOEXEC)};
    size_t num_chars;

    assert_true(module.fd >= 0);
    assert_int_equal(write(module.fd, bytes, victim->num_bytes), victim->num_bytes);
    num_chars = ask(&module, victim->places);
    close(module.fd);
    return num_chars;
}

static void survive(const char *command, uint32_t seed)
{
    struct victim victim = {0};
    uint8_t *bytes;

    fixture_build(command);
    read_bytes(&victim, "victim.so");
    find_sections(&victim);
    assert_true(ask_bytes(&victim, victim.bytes) > 0);
    bytes = malloc(victim.num_bytes);
    assert_non_null(bytes);
    for (size_t i = 0; i < NUM_DAMAGES; i++) {
        memcpy(bytes, victim.bytes, victim.num_bytes);
        damage(&victim, bytes, &seed);
        ask_bytes(&victim, bytes);
    }
    free(bytes);
    free(victim.bytes);
}

static void damaged_debug_info_is_survived(void **state)
{
    static const char *const commands[] = {
        "gcc -O2 -g -gdwarf-5 -fPIC -shared t.c -o victim.so",
        "gcc -O2 -g -gdwarf-4 -fPIC -shared t.c -o victim.so",
        "gcc -O2 -g -gdwarf-2 -gstrict-dwarf -fPIC -shared t.c -o victim.so",
        "gcc -O2 -g -gz=zlib -fPIC -shared t.c -o victim.so",
        "gcc -O2 -g -flto -fPIC -shared t.c -o victim.so",
        "clang-14 -O2 -g -gdwarf-5 -fPIC -shared t.c -o victim.so",
        "clang-14 -O2 -g -gdwarf-4 -fPIC -shared t.c -o victim.so",
        "g++ -O2 -g -fPIC -shared t.cc -o victim.so",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        survive(commands[i], (uint32_t)i + 1);
}

static int setup(void **state)
{
    if (fixture_setup(state) != 0)
        return -1;
    fixture_write("t.c", "struct s { int a; struct s *next; };\n"
                         "static inline int add(int a, int b) { return a * 3 + b; }\n"
                         "static inline int twice(int a) { return add(a, a) ^ add(a, 1); }\n"
                         "int walk(struct s *h)\n{\n    int s = 0;\n"
                         "    for (; h; h = h->next)\n        s += twice(h->a);\n"
                         "    return s;\n}\n"
                         "int sum(int *v, int n)\n{\n    int s = 0;\n    extern void put(int);\n"
                         "    for (int i = 0; i < n; i++) {\n        int t = twice(v[i]);\n"
                         "        if (t > 7)\n            put(t);\n        s += t;\n    }\n"
                         "    return s;\n}\n");
    fixture_write("t.cc",
                  "#include <algorithm>\n#include <vector>\nnamespace a { namespace b {\n"
                  "template <class T> struct box { T t; T get() const { return t * 2; } };\n"
                  "int best(std::vector<int> &v)\n{\n"
                  "    std::sort(v.begin(), v.end(), [](int x, int y) { return x > y; });\n"
                  "    return box<int>{v[0]}.get();\n}\n} }\n");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_debug_info_is_survived),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
