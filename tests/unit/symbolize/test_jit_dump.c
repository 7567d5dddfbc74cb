/* jit_dump on logs made here, and the place in V8's names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "symbolize/jit_dump.h"
#include "symbolize/jit_map.h"

/* A log being written. */
struct log {
    uint8_t bytes[4096];
    size_t num_bytes;
};

static void put_bytes(struct log *log, const void *bytes, size_t num_bytes)
{
    assert_true(log->num_bytes + num_bytes <= sizeof(log->bytes));
    memcpy(log->bytes + log->num_bytes, bytes, num_bytes);
    log->num_bytes += num_bytes;
}

static void put_u32(struct log *log, uint32_t value)
{
    put_bytes(log, &value, sizeof(value));
}

static void put_u64(struct log *log, uint64_t value)
{
    put_bytes(log, &value, sizeof(value));
}

static void begin(struct log *log)
{
    log->num_bytes = 0;
    put_u32(log, 0x4a695444);
    put_u32(log, 1);
    put_u32(log, 40);
    put_u32(log, 62);
    put_u32(log, 0);
    put_u32(log, 1234);
    put_u64(log, 1);
    put_u64(log, 0);
}

static void put_load(struct log *log, uint64_t start, uint64_t num_bytes, uint64_t index,
                     const char *name)
{
    put_u32(log, 0);
    put_u32(log, (uint32_t)(56 + strlen(name) + 1));
    put_u64(log, 7);
    put_u32(log, 1234);
    put_u32(log, 1234);
    put_u64(log, start);
    put_u64(log, start);
    put_u64(log, num_bytes);
    put_u64(log, index);
    put_bytes(log, name, strlen(name) + 1);
}

static void put_move(struct log *log, uint64_t from, uint64_t to, uint64_t index)
{
    put_u32(log, 1);
    put_u32(log, 64);
    put_u64(log, 8);
    put_u32(log, 1234);
    put_u32(log, 1234);
    put_u64(log, to);
    put_u64(log, from);
    put_u64(log, to);
    put_u64(log, 16);
    put_u64(log, index);
}

/* A line as it goes into a debug record. path: path_bytes bytes. */
struct line_entry {
    uint64_t addr;
    uint32_t line;
    const char *path;
    size_t path_bytes;
};

static void put_lines(struct log *log, uint64_t start, const struct line_entry *lines, size_t num)
{
    size_t off = log->num_bytes;
    uint32_t num_bytes;

    put_u32(log, 2);
    put_u32(log, 0);
    put_u64(log, 7);
    put_u64(log, start);
    put_u64(log, num);
    for (size_t i = 0; i < num; i++) {
        put_u64(log, lines[i].addr);
        put_u32(log, lines[i].line);
        put_u32(log, 0);
        put_bytes(log, lines[i].path, lines[i].path_bytes);
    }
    while (log->num_bytes % 8)
        put_bytes(log, "", 1);
    num_bytes = (uint32_t)(log->num_bytes - off);
    memcpy(log->bytes + off + 4, &num_bytes, sizeof(num_bytes));
}

/* Looks `pc` up. text: room for 256 bytes, gets "NAME FILE LINE"; "" when nothing covers it. */
static void find(const struct log *log, uint64_t pc, char *text)
{
    struct jit_dump *dump = NULL;
    struct symbol symbol;
    struct arena arena;

    arena_init(&arena);
    text[0] = '\0';
    assert_null(jit_dump_parse(log->bytes, log->num_bytes, &dump));
    if (dump && jit_dump_find(dump, pc, &arena, &symbol))
        snprintf(text, 256, "%s %s %d", symbol.name, symbol.filename, (int)symbol.line);
    jit_dump_destroy(dump);
    arena_deinit(&arena);
}

static void expect(const struct log *log, uint64_t pc, const char *expected)
{
    char text[256];

    find(log, pc, text);
    assert_string_equal(text, expected);
}

static void code_is_found_by_its_range(void **state)
{
    struct log log;

    (void)state;
    begin(&log);
    put_load(&log, 0x1000, 16, 1, "one");
    put_load(&log, 0x2000, 16, 2, "two");
    put_load(&log, 0x1008, 8, 3, "three"); /* made over a part of the first */
    put_u32(&log, 99);                     /* of a kind not known */
    put_u32(&log, 24);
    put_u64(&log, 0);
    put_u64(&log, 0);
    put_load(&log, 0x3000, 16, 4, "four");
    expect(&log, 0xfff, "");
    expect(&log, 0x1000, "one  0");
    expect(&log, 0x1008, "three  0");
    expect(&log, 0x1010, "");
    expect(&log, 0x200f, "two  0");
    expect(&log, 0x3000, "four  0");
}

static void moved_code_has_both_places(void **state)
{
    struct log log;

    (void)state;
    begin(&log);
    put_load(&log, 0x1000, 16, 1, "one");
    put_move(&log, 0x1000, 0x5000, 1);
    put_move(&log, 0x9000, 0x6000, 1); /* never was there */
    put_move(&log, 0x1000, 0x7000, 9); /* no such code */
    put_load(&log, 0x1000, 16, 2, "two");
    expect(&log, 0x5004, "one  0");
    expect(&log, 0x1004, "two  0");
    expect(&log, 0x6004, "");
    expect(&log, 0x7004, "");
}

static void nothing_behind_the_end_of_the_log_is_read(void **state)
{
    struct log log;

    (void)state;
    begin(&log);
    put_load(&log, 0x1000, 16, 1, "one");
    put_u32(&log, 3);
    put_u32(&log, 16);
    put_u64(&log, 0);
    put_load(&log, 0x2000, 16, 2, "two");
    expect(&log, 0x1000, "one  0");
    expect(&log, 0x2000, "");
}

static void lines_and_files_are_told(void **state)
{
    static const struct line_entry lines[] = {
        {0x1000, 10, "/src/a.x", 9},
        {0x1004, 11, "\xff", 2}, /* the same file */
        {0x1008, 3, "/src/b.x", 9},
    };
    struct log log;

    (void)state;
    begin(&log);
    put_lines(&log, 0x1000, lines, 3);
    put_load(&log, 0x1000, 16, 1, "one");
    put_lines(&log, 0x9000, lines, 3); /* of other code */
    put_load(&log, 0x2000, 16, 2, "two");
    put_move(&log, 0x1000, 0x5000, 1);
    expect(&log, 0x1003, "one /src/a.x 10");
    expect(&log, 0x1007, "one /src/a.x 11");
    expect(&log, 0x100f, "one /src/b.x 3");
    expect(&log, 0x500f, "one /src/b.x 3");
    expect(&log, 0x2000, "two  0");
}

/* V8 counts addresses of lines from behind an ELF header that is not there. */
static void lines_of_v8_are_shifted(void **state)
{
    static const struct line_entry lines[] = {{0x1040, 10, "/a.js", 6}, {0x1048, 11, "/a.js", 6}};
    struct log log;

    (void)state;
    begin(&log);
    put_lines(&log, 0x1000, lines, 2);
    put_load(&log, 0x1000, 16, 1, "JS:*hot /a.js:9:1");
    expect(&log, 0x1007, "JS:*hot /a.js:9:1 /a.js 10");
    expect(&log, 0x1008, "JS:*hot /a.js:9:1 /a.js 11");
}

/* node 18 and 20 write file names from freed memory: NULs inside, their length is right. */
static void lines_with_spoilt_files_are_read(void **state)
{
    static const struct line_entry lines[] = {{0x1040, 10, "\xa5\0\0\x01s", 6},
                                              {0x1048, 11, "\xff", 2},
                                              {0x104c, 12, "\xa5\0\0\x01s", 6}};
    static const struct line_entry outside[] = {{0x1040, 10, "\xa5\0\0\x01s", 6},
                                                {0x9048, 11, "\xa5\0\0\x01s", 6}};
    struct log log;

    (void)state;
    begin(&log);
    put_lines(&log, 0x1000, lines, 3);
    put_load(&log, 0x1000, 16, 1, "JS:*hot /a.js:9:1");
    put_lines(&log, 0x2000, outside, 2);
    put_load(&log, 0x2000, 16, 2, "JS:*cold /b.js:8:1");
    put_lines(&log, 0x1000, lines, 3);
    put_load(&log, 0x1000, 4, 3, "nameless");
    expect(&log, 0x1009, "JS:*hot /a.js:9:1 /a.js 11");
    expect(&log, 0x100f, "JS:*hot /a.js:9:1 /a.js 12");
    expect(&log, 0x1002, "nameless  0");
    expect(&log, 0x2009, "JS:*cold /b.js:8:1 /b.js 0");
}

static void other_files_are_refused(void **state)
{
    struct log log;

    (void)state;
    for (size_t off = 0; off < 16; off += 4) {
        begin(&log);
        put_load(&log, 0x1000, 16, 1, "one");
        log.bytes[off] ^= 0x80;
        expect(&log, 0x1000, "");
    }
    /* Cut off anywhere, as its writer may leave it: what is whole is told. */
    begin(&log);
    put_load(&log, 0x1000, 16, 1, "one");
    for (size_t num_bytes = log.num_bytes; num_bytes-- > 0;) {
        log.num_bytes = num_bytes;
        expect(&log, 0x1000, "");
    }
}

/* What jit_name_place() reads: "FILE LINE". */
static void expect_place(const char *name, const char *expected)
{
    struct symbol symbol = {.filename = ""};
    struct arena arena;
    char text[128];

    arena_init(&arena);
    jit_name_place(name, &arena, &symbol);
    snprintf(text, sizeof(text), "%s %d", symbol.filename, (int)symbol.start_line);
    assert_string_equal(text, expected);
    arena_deinit(&arena);
}

static void place_is_read_from_names_of_javascript(void **state)
{
    (void)state;
    expect_place("JS:*hot /srv/app.js:3:14", "/srv/app.js 3");
    expect_place("LazyCompile:~hot /srv/my app.js:3", "/srv/my app.js 3");
    expect_place("JS:^get foo file:///srv/m.mjs:12:5", "/srv/m.mjs 12");
    expect_place("JS:~join node:path:1171:7", "node:path 1171");
    expect_place("Builtin:ArrayMap", " 0");
    expect_place("java.lang.String::hash /x", " 0");
    expect_place("py::f:/usr/lib/a.py", " 0");
    expect_place("a /:1", "/ 1");
    expect_place("a 1:2", " 0");
    expect_place(":1:2", " 0");
    expect_place("a /b:12345678901", " 0");
    expect_place("", " 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_is_found_by_its_range),
        cmocka_unit_test(moved_code_has_both_places),
        cmocka_unit_test(nothing_behind_the_end_of_the_log_is_read),
        cmocka_unit_test(lines_and_files_are_told),
        cmocka_unit_test(lines_of_v8_are_shifted),
        cmocka_unit_test(lines_with_spoilt_files_are_read),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(place_is_read_from_names_of_javascript),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
