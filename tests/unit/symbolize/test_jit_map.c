#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/procfs.h"
#include "symbolize/jit_map.h"
#include "symbolize/symbolize.h"
#include "tests/unit/skip.h"

static struct jit_map *parse(const char *text)
{
    struct jit_map *map = NULL;

    assert_null(jit_map_parse_take(strdup(text), strlen(text), &map));
    return map;
}

static void names_may_hold_blanks(void **state)
{
    struct jit_map *map = parse("1000 20 LazyCompile:~foo file.js:1\n0x2000 0x10 bar\n");

    (void)state;
    assert_int_equal(jit_map_count(map), 2);
    assert_string_equal(jit_map_find(map, 0x101f), "LazyCompile:~foo file.js:1");
    assert_null(jit_map_find(map, 0x1020));
    assert_string_equal(jit_map_find(map, 0x2000), "bar");
    jit_map_destroy(map);
}

static void the_last_entry_wins(void **state)
{
    struct jit_map *map = parse("1000 100 old\n1040 40 new\n");

    (void)state;
    assert_string_equal(jit_map_find(map, 0x103f), "old");
    assert_string_equal(jit_map_find(map, 0x1040), "new");
    assert_string_equal(jit_map_find(map, 0x1080), "old");
    jit_map_destroy(map);
}

static void nonsense_lines_are_skipped(void **state)
{
    struct jit_map *map = parse("\n1000\n1000 10\n1000 10 \nxyz 10 a\n1000 0 empty\n"
                                "ffffffffffffffff 10 wraps\n11111111111111111 1 long\n1000 1 ok");

    (void)state;
    assert_int_equal(jit_map_count(map), 1);
    assert_string_equal(jit_map_find(map, 0x1000), "ok");
    jit_map_destroy(map);
}

/* The source itself, on the map of this very process. */
static bool look_up_own_map(uint32_t uid, uint64_t start_time_ticks, char *name, size_t name_bytes)
{
    struct process process = {
        .pid = (uint32_t)getpid(), .uid = uid, .start_time_ticks = start_time_ticks};
    struct arena arena;
    struct symbolize_input input = {.process = &process, .arena = &arena};
    struct symbol_frames *frames = calloc(1, sizeof(*frames));
    void *opened = NULL;
    bool is_found = false;

    arena_init(&arena);
    assert_null(symbolize_jit_map.open(&input, &opened));
    if (opened) {
        is_found = symbolize_jit_map.lookup(opened, 0x1234, frames);
        if (is_found)
            snprintf(name, name_bytes, "%s", frames->symbols[0].name);
        symbolize_jit_map.close(opened);
    }
    free(frames);
    arena_deinit(&arena);
    return is_found;
}

static void write_own_map(char *path, size_t path_bytes)
{
    FILE *file;

    snprintf(path, path_bytes, "/tmp/perf-%d.map", (int)getpid());
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("1200 100 jitted\n", file);
    fclose(file);
}

static void map_of_the_process_is_found(void **state)
{
    struct procfs_stat self;
    char path[64];
    char name[32] = "";

    (void)state;
    assert_null(procfs_stat_read(getpid(), &self));
    write_own_map(path, sizeof(path));
    assert_true(look_up_own_map(getuid(), self.start_time_ticks, name, sizeof(name)));
    assert_string_equal(name, "jitted");
    unlink(path);
    assert_false(look_up_own_map(getuid(), self.start_time_ticks, name, sizeof(name)));
}

static void map_of_an_earlier_process_is_refused(void **state)
{
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    struct procfs_stat self;
    char path[64];
    char name[32];

    (void)state;
    assert_null(procfs_stat_read(getpid(), &self));
    write_own_map(path, sizeof(path));
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    assert_false(look_up_own_map(getuid(), self.start_time_ticks, name, sizeof(name)));
    unlink(path);
}

static void map_of_another_user_is_refused(void **state)
{
    char path[64];
    char name[32];

    (void)state;
    if (getuid() != 0)
        SKIP("needs root");
    write_own_map(path, sizeof(path));
    assert_int_equal(chown(path, 12345, 12345), 0);
    assert_false(look_up_own_map(0, 0, name, sizeof(name)));
    assert_true(look_up_own_map(12345, 0, name, sizeof(name)));
    unlink(path);
}

static void links_and_fifos_are_not_opened(void **state)
{
    char path[64];
    char name[32];

    (void)state;
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_false(look_up_own_map(getuid(), 0, name, sizeof(name)));
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(look_up_own_map(getuid(), 0, name, sizeof(name)));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_may_hold_blanks),
        cmocka_unit_test(the_last_entry_wins),
        cmocka_unit_test(nonsense_lines_are_skipped),
        cmocka_unit_test(map_of_the_process_is_found),
        cmocka_unit_test(map_of_an_earlier_process_is_refused),
        cmocka_unit_test(map_of_another_user_is_refused),
        cmocka_unit_test(links_and_fifos_are_not_opened),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
