/* Control groups: what mounts tell, and what is no cgroup. */
#include "tests/unit/target/support.h"

#include <unistd.h>

#include "target/cgroup.h"
#include "tests/unit/skip.h"

static void assert_mount(const char *text, const char *path, bool is_v2, bool has_events)
{
    char line[256];
    struct cgroup_mount mount;

    snprintf(line, sizeof(line), "%s", text);
    assert_true(cgroup_mount_parse(line, &mount));
    assert_string_equal(mount.path, path);
    assert_int_equal(mount.is_v2, is_v2);
    assert_int_equal(mount.has_events, has_events);
}

static void reads_the_mounts_of_both_versions(void **state)
{
    (void)state;
    assert_mount("41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
                 "/sys/fs/cgroup/unified", true, false);
    assert_mount("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 master:2 - cgroup2 cgroup2 "
                 "rw,nsdelegate,perf_event",
                 "/sys/fs/cgroup", true, false);
    assert_mount("36 31 0:33 / /sys/fs/cgroup/perf_event rw - cgroup cgroup rw,perf_event",
                 "/sys/fs/cgroup/perf_event", false, true);
    assert_mount("36 31 0:33 / /c rw - cgroup cgroup rw,net_cls,perf_event,net_prio", "/c", false,
                 true);
    assert_mount("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", "/sys/fs/cgroup/cpu",
                 false, false);
    assert_mount("41 31 0:38 / /with\\040blank\\134 rw - cgroup2 none", "/with blank\\", true,
                 false);
    assert_mount("41 31 0:38 / /odd\\9\\40 rw - cgroup none", "/odd\\9\\40", false, false);
}

static void passes_over_all_other_lines(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "- cgroup2 none rw",
        "1 2 3 / - cgroup2 none rw",
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
        "41 31 0:38 / /x rw cgroup2 cgroup2 rw",
        "41 31 0:38 / /x rw -",
        "41 31 0:38 / /x rw - ",
        "41 31 0:38 / /x rw - cgroup3 none rw",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        char line[128];
        struct cgroup_mount mount;

        snprintf(line, sizeof(line), "%s", texts[i]);
        assert_false(cgroup_mount_parse(line, &mount));
    }
}

static struct error *count_self(void *context, pid_t pid)
{
    *(int *)context += pid == getpid();
    return NULL;
}

static struct error *refuse(void *context, pid_t pid)
{
    (void)context;
    return error_create(ERROR_FAILED, NULL, "enough with %d", (int)pid);
}

/* Opens the root of all groups, or skips where no cgroups are mounted. */
static void open_root(struct cgroup *root)
{
    struct error *err = cgroup_open("/", root);

    if (err) {
        assert_int_equal(err->kind, ERROR_UNSUPPORTED);
        error_destroy(err);
        SKIP("no cgroup 2 hierarchy is mounted");
    }
}

static void finds_ourselves_below_the_root(void **state)
{
    struct cgroup root;
    struct cgroup by_path;
    struct error *err;
    int num_found = 0;

    (void)state;
    open_root(&root);
    assert_true(cgroup_is_there(&root));
    assert_null(cgroup_visit(&root, count_self, &num_found));
    assert_int_equal(num_found, 1);
    err = cgroup_visit(&root, refuse, NULL);
    assert_non_null(err);
    error_destroy(err);
    assert_null(cgroup_open(root.path, &by_path));
    assert_string_equal(by_path.path, root.path);
    cgroup_deinit(&by_path);
    cgroup_deinit(&root);
    cgroup_deinit(&root);
}

static void says_what_is_no_cgroup(void **state)
{
    static const char *const names[] = {"no/such/group", "/no-such-group", "/tmp",
                                        "/proc/self/maps", "../../.."};
    struct cgroup cgroup = {.fd = -1};

    (void)state;
    open_root(&cgroup);
    cgroup_deinit(&cgroup);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct error *err = cgroup_open(names[i], &cgroup);

        assert_non_null(err);
        assert_int_equal(err->kind, ERROR_NOT_FOUND);
        assert_non_null(strstr(err->message, names[i]));
        assert_non_null(err->hint);
        error_destroy(err);
        assert_int_equal(cgroup.fd, -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_mounts_of_both_versions),
        cmocka_unit_test(passes_over_all_other_lines),
        cmocka_unit_test(finds_ourselves_below_the_root),
        cmocka_unit_test(says_what_is_no_cgroup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
