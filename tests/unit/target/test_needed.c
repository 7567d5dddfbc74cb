/* What a command maps at its start, asked from its dynamic linker; and whom nobody asks. */
#include "tests/unit/target/support.h"

#include <elf.h>
#include <stdbool.h>

#include "base/clock.h"
#include "target/needed.h"

static bool has(const struct needed_files *needed, const char *name)
{
    for (size_t i = 0; i < needed->num_paths; i++) {
        const char *slash = strrchr(needed->paths[i], '/');

        if (slash && strncmp(slash + 1, name, strlen(name)) == 0)
            return true;
    }
    return false;
}

static void find(const char *path, struct needed_files *needed)
{
    *needed = (struct needed_files){0};
    assert_success(needed_files_find(path, needed));
    for (size_t i = 0; i < needed->num_paths; i++)
        assert_int_equal(access(needed->paths[i], R_OK), 0);
}

/* The same until `name` is there: on a busy machine the linker may have been too slow. */
static void find_with(const char *path, const char *name, struct needed_files *needed)
{
    for (int i = 0; i < 20; i++) {
        find(path, needed);
        if (has(needed, name))
            return;
        needed_files_deinit(needed);
    }
    fail_msg("%s is not needed by %s", name, path);
}

static void join(char *path, void **state, const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", (const char *)*state, name);
}

static void libraries_are_found(void **state)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    struct needed_files needed;

    (void)state;
    assert_true(length > 0);
    path[length] = '\0';
    find_with(path, "libc.so.6", &needed);
    assert_string_equal(needed.paths[0], path);
    assert_true(has(&needed, "libcmocka.so"));
    assert_true(has(&needed, "ld-linux-x86-64.so.2"));
    assert_false(has(&needed, "linux-vdso"));
    needed_files_deinit(&needed);
    needed_files_deinit(&needed);
}

static void environment_counts(void **state)
{
    struct needed_files needed;

    (void)state;
    setenv("LD_PRELOAD", "libdw.so.1", 1);
    find_with("/bin/true", "libdw.so.1", &needed);
    assert_true(has(&needed, "libelf.so.1"));
    needed_files_deinit(&needed);
    /* Auditors would run: then only what is known without. */
    setenv("LD_AUDIT", "libdw.so.1", 1);
    find("/bin/true", &needed);
    assert_int_equal(needed.num_paths, 2);
    unsetenv("LD_AUDIT");
    unsetenv("LD_PRELOAD");
    needed_files_deinit(&needed);
}

static void relative_paths_are_no_options(void **state)
{
    char path[PATH_MAX], directory[PATH_MAX];
    struct needed_files needed;

    assert_non_null(getcwd(directory, sizeof(directory)));
    join(path, state, "--verify");
    copy_file("/bin/true", path);
    assert_int_equal(chdir(*state), 0);
    find_with("--verify", "libc.so.6", &needed);
    assert_string_equal(needed.paths[0], "./--verify");
    needed_files_deinit(&needed);
    assert_int_equal(chdir(directory), 0);
}

static void scripts_stand_for_their_interpreter(void **state)
{
    char path[PATH_MAX], inner[PATH_MAX], text[PATH_MAX + 16];
    struct needed_files needed;

    join(inner, state, "inner");
    write_file(inner, "#! /bin/true -x\n", 16);
    chmod(inner, 0755);
    join(path, state, "script");
    snprintf(text, sizeof(text), "#!%s\n", inner);
    write_file(path, text, strlen(text));
    chmod(path, 0755);
    find_with(path, "libc.so.6", &needed);
    assert_string_equal(needed.paths[0], "/bin/true");
    needed_files_deinit(&needed);
    /* One that is only text is the shell's. */
    write_file(inner, "exit 0\n", 7);
    find(inner, &needed);
    assert_string_equal(needed.paths[0], "/bin/sh");
    needed_files_deinit(&needed);
    /* One that names itself ends somewhere. */
    snprintf(text, sizeof(text), "#!%s\n", path);
    unlink(path);
    write_file(path, text, strlen(text));
    find(path, &needed);
    assert_int_equal(needed.num_paths, 0);
}

static void privileged_programs_are_not_asked(void **state)
{
    char path[PATH_MAX];
    struct needed_files needed;

    join(path, state, "program");
    copy_file("/bin/true", path);
    assert_int_equal(chmod(path, 04755), 0);
    find(path, &needed);
    assert_int_equal(needed.num_paths, 2);
    assert_false(has(&needed, "libc.so.6"));
    needed_files_deinit(&needed);
    assert_int_equal(chmod(path, 0644), 0);
    find(path, &needed);
    assert_int_equal(needed.num_paths, 2);
    needed_files_deinit(&needed);
}

/* Replaces the interpreter of a copy of /bin/true by one of the same length or less. */
static void make_with_interpreter(const char *path, const char *interpreter)
{
    static const char was[] = "/lib64/ld-linux-x86-64.so.2";
    char bytes[4096];
    int fd;

    copy_file("/bin/true", path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(read(fd, bytes, sizeof(bytes)), sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes) - sizeof(was); i++)
        if (memcmp(bytes + i, was, sizeof(was)) == 0)
            assert_int_equal(pwrite(fd, interpreter, strlen(interpreter) + 1, (off_t)i),
                             strlen(interpreter) + 1);
    close(fd);
}

static void strange_linkers_are_not_run(void **state)
{
    char path[PATH_MAX], linker[PATH_MAX], mark[PATH_MAX], text[PATH_MAX + 64];
    char directory[] = "/tmp/cpXXXXXX";
    struct needed_files needed;

    join(mark, state, "mark");
    join(path, state, "program");
    assert_non_null(mkdtemp(directory));
    snprintf(linker, sizeof(linker), "%s/ld-x.so", directory);
    snprintf(text, sizeof(text), "#!/bin/sh\ntouch %s\n", mark);
    write_file(linker, text, strlen(text));
    chmod(linker, 0755);
    make_with_interpreter(path, linker);
    find(path, &needed);
    assert_int_equal(needed.num_paths, 2);
    assert_string_equal(needed.paths[1], linker);
    assert_int_equal(access(mark, F_OK), -1);
    needed_files_deinit(&needed);
    unlink(linker);
    rmdir(directory);
}

/* A linker that writes without end, or hangs, is ended. */
static void slow_linkers_are_ended(void **state)
{
    static const char *const bodies[] = {"exec sleep 1000", "exec yes"};
    char path[PATH_MAX], linker[PATH_MAX], text[128];
    char directory[] = "/tmp/cpXXXXXX";

    join(path, state, "program");
    assert_non_null(mkdtemp(directory));
    snprintf(linker, sizeof(linker), "%s/ld-musl-x", directory);
    make_with_interpreter(path, linker);
    for (size_t i = 0; i < 2; i++) {
        uint64_t start_ns = clock_monotonic_ns();
        struct needed_files needed;

        snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", bodies[i]);
        unlink(linker);
        write_file(linker, text, strlen(text));
        chmod(linker, 0755);
        find(path, &needed);
        assert_int_equal(needed.num_paths, 2);
        assert_true(clock_monotonic_ns() - start_ns < UINT64_C(60000000000));
        needed_files_deinit(&needed);
    }
    unlink(linker);
    rmdir(directory);
}

static void what_is_no_program_needs_nothing(void **state)
{
    static const char *const paths[] = {"/no/such/file", "/tmp", "/dev/null", ""};
    char path[PATH_MAX];
    struct needed_files needed;

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        find(paths[i], &needed);
        assert_int_equal(needed.num_paths, 0);
    }
    join(path, state, "file");
    write_file(path, ELFMAG "\2\1\1\0\0\0\0\0\0\0\0\0\2\0\76\0", 20);
    find(path, &needed);
    assert_int_equal(needed.num_paths, 0);
}

static void static_programs_need_themselves(void **state)
{
    struct needed_files needed;

    (void)state;
    find("/lib64/ld-linux-x86-64.so.2", &needed);
    assert_int_equal(needed.num_paths, 1);
    needed_files_deinit(&needed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(libraries_are_found),
        cmocka_unit_test(environment_counts),
        cmocka_unit_test_setup_teardown(relative_paths_are_no_options, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(scripts_stand_for_their_interpreter, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(privileged_programs_are_not_asked, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(strange_linkers_are_not_run, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(slow_linkers_are_ended, directory_setup,
                                        directory_teardown),
        cmocka_unit_test_setup_teardown(what_is_no_program_needs_nothing, directory_setup,
                                        directory_teardown),
        cmocka_unit_test(static_programs_need_themselves),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
