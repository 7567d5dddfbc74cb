/* Names of numbered snapshots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/snapshots.h"

static void expect(const char *path, unsigned number, const char *wanted)
{
    char got[64];

    assert_true(snapshots_path(path, number, got, sizeof(got)));
    assert_string_equal(got, wanted);
}

static void numbers_stand_before_the_extension(void **state)
{
    (void)state;
    expect("heap.pprof", 1, "heap.0001.pprof");
    expect("a.b/heap", 2, "a.b/heap.0002");
    expect("a.b/.hidden", 3, "a.b/.hidden.0003");
    expect("x/heap.pb.gz", 12345, "x/heap.pb.12345.gz");
    expect("heap.", 1, "heap.0001.");
}

static void a_name_that_does_not_fit_is_none(void **state)
{
    char got[8];

    (void)state;
    assert_false(snapshots_path("heap.pprof", 1, got, sizeof(got)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_stand_before_the_extension),
        cmocka_unit_test(a_name_that_does_not_fit_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
