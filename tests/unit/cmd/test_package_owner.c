#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cmd/package_owner.h"

static char lists_dir[64];

static void write_list(const char *name, const char *text)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", lists_dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int setup(void **state)
{
    (void)state;
    snprintf(lists_dir, sizeof(lists_dir), "/tmp/cprofiler-lists-XXXXXX");
    if (!mkdtemp(lists_dir))
        return -1;
    write_list("libfoo1:amd64.list", "/.\n/usr\n/usr/lib/libfoo.so.1.2\n/usr/lib/libfoo.so.1\n");
    write_list("libold.list", "/.\n/lib\n/lib/libold.so.3\n");
    write_list("other.md5sums", "/usr/lib/not-a-list\n");
    write_list("empty.list", "");
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"libfoo1:amd64.list", "libold.list", "other.md5sums",
                                        "empty.list"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", lists_dir, names[i]);
        unlink(path);
    }
    return rmdir(lists_dir);
}

static void expect(const char *path, const char *expected)
{
    char *package;

    assert_null(package_owner_find(lists_dir, path, &package));
    if (expected)
        assert_string_equal(package ? package : "none", expected);
    else
        assert_null(package);
    free(package);
}

static void owner_is_found_with_and_without_usr(void **state)
{
    (void)state;
    expect("/usr/lib/libfoo.so.1.2", "libfoo1");
    expect("/lib/libfoo.so.1", "libfoo1");
    expect("/usr/lib/libold.so.3", "libold");
    expect("/lib/libold.so.3", "libold");
}

static void parts_of_a_path_are_no_file(void **state)
{
    (void)state;
    expect("/usr/lib/libfoo.so", NULL);
    expect("/libfoo.so.1", NULL);
    expect("/opt/usr/lib/libfoo.so.1", NULL);
    expect("/usr/lib/not-a-list", NULL);
    expect("libfoo.so.1", NULL);
    expect("", NULL);
}

static void host_without_dpkg_has_no_packages(void **state)
{
    char *package;

    (void)state;
    assert_null(package_owner_find("/nonexistent", "/usr/lib/libfoo.so.1", &package));
    assert_null(package);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owner_is_found_with_and_without_usr),
        cmocka_unit_test(parts_of_a_path_are_no_file),
        cmocka_unit_test(host_without_dpkg_has_no_packages),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
