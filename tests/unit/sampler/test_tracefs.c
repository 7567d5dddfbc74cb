/* Tracepoints by a tracefs of our own making: found, misspelt, hidden, not mounted. */
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

#include "sampler/tracefs.h"
#include "tests/unit/skip.h"

static char root[64];
static const char *roots[3];

static void make_file(const char *subsystem, const char *name, const char *id)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/events/%s", root, subsystem);
    mkdir(path, 0755);
    snprintf(path, sizeof(path), "%s/events/%s/%s", root, subsystem, name);
    mkdir(path, 0755);
    snprintf(path, sizeof(path), "%s/events/%s/%s/id", root, subsystem, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(id, file);
    fclose(file);
}

static int set_up(void **state)
{
    char path[256];
    FILE *file;

    (void)state;
    snprintf(root, sizeof(root), "/tmp/test_tracefs.XXXXXX");
    if (!mkdtemp(root))
        return -1;
    roots[0] = "/nonexistent";
    roots[1] = root;
    roots[2] = NULL;
    snprintf(path, sizeof(path), "%s/events", root);
    mkdir(path, 0755);
    make_file("sched", "sched_switch", "372\n");
    make_file("sched", "sched_wakeup", "373\n");
    make_file("ftrace", "function", "1\n");
    make_file("odd", "no_number", "what\n");
    snprintf(path, sizeof(path), "%s/events/sched/enable", root);
    file = fopen(path, "w");
    return file ? fclose(file) : -1;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", root);
    return system(command);
}

/* Looks a tracepoint up. Returns: its number, or 0 and *err_ret. */
static uint64_t look_up(const char *text, struct error **err_ret)
{
    struct event_spec spec;

    assert_null(event_spec_parse(text, &spec));
    *err_ret = tracefs_find_tracepoint(roots, &spec);
    return *err_ret ? 0 : spec.perf_config;
}

static void fails(const char *text, enum error_kind kind, const char *message, const char *hint)
{
    struct error *err;

    look_up(text, &err);
    assert_non_null(err);
    assert_int_equal(err->kind, kind);
    if (!strstr(err->message, message))
        fail_msg("'%s' instead of '%s'", err->message, message);
    if (hint && (!err->hint || !strstr(err->hint, hint)))
        fail_msg("'%s' instead of '%s'", err->hint ? err->hint : "", hint);
    error_destroy(err);
}

static void finds_the_number(void **state)
{
    struct error *err;

    (void)state;
    assert_int_equal(look_up("sched:sched_switch", &err), 372);
    assert_null(err);
}

static void proposes_what_is_near(void **state)
{
    (void)state;
    fails("sched:sched_swich", ERROR_NOT_FOUND, "no tracepoint 'sched:sched_swich'",
          "did you mean sched:sched_switch?");
    fails("shed:sched_switch", ERROR_NOT_FOUND, "no group of tracepoints 'shed'",
          "did you mean sched?");
    fails("zzzzzzzz:a", ERROR_NOT_FOUND, "no group of tracepoints", "-e list");
    fails("odd:no_number", ERROR_FAILED, "holds no number", NULL);
}

static void says_how_to_mount_tracefs(void **state)
{
    (void)state;
    roots[1] = NULL;
    fails("sched:sched_switch", ERROR_NOT_FOUND, "tracefs is not mounted", "mount -t tracefs");
}

static void says_when_it_may_not_be_read(void **state)
{
    (void)state;
    if (geteuid() == 0 && seteuid(65534) != 0)
        SKIP("can't become nobody");
    chmod(root, 0);
    fails("sched:sched_switch", ERROR_PERMISSION, "may not be read", "sudo");
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    chmod(root, 0700);
}

static struct error *append_name(void *context, const char *subsystem, const char *name)
{
    char *text = context;

    strcat(text, subsystem);
    strcat(text, ":");
    strcat(text, name);
    strcat(text, " ");
    return NULL;
}

static struct error *refuse(void *context, const char *subsystem, const char *name)
{
    (void)context;
    (void)subsystem;
    (void)name;
    return &error_no_memory;
}

static void visits_all_in_order(void **state)
{
    char text[256] = "";

    (void)state;
    assert_null(tracefs_visit_tracepoints(roots, append_name, text));
    assert_string_equal(text, "odd:no_number sched:sched_switch sched:sched_wakeup ");
    assert_ptr_equal(tracefs_visit_tracepoints(roots, refuse, NULL), &error_no_memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_the_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(proposes_what_is_near, set_up, tear_down),
        cmocka_unit_test_setup_teardown(says_how_to_mount_tracefs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(says_when_it_may_not_be_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(visits_all_in_order, set_up, tear_down),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
