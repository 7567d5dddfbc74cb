/* Every allocation of base/ fails once, in turn: an error comes back, nothing leaks, nothing is
 * half done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/procfs.h"
#include "base/string_table.h"
#include "tests/unit/alloc_fault.h"
#include "tests/unit/skip.h"

/* Runs `work` with each of its allocations failing in turn until it needs fewer. */
static void fail_each(struct error *(*work)(void))
{
    if (!alloc_fault_is_possible())
        SKIP("allocations of this build can't be made to fail");
    error_destroy(work()); /* what libc allocates once and keeps is there now */
    for (unsigned long fail_at = 1;; fail_at++) {
        alloc_fault_arm(fail_at);
        struct error *err = work();
        bool is_no_memory = err == &error_no_memory || (err && err->kind == ERROR_NO_MEMORY);
        error_destroy(err);
        bool has_failed = alloc_fault_disarm();
        long num_leaks = alloc_fault_leaks();
        assert_int_equal(num_leaks, 0);
        if (!has_failed) {
            assert_null(err);
            assert_true(fail_at > 1);
            return;
        }
        assert_true(!err || is_no_memory);
    }
}

static struct error *errors_work(void)
{
    struct error *err = error_create(ERROR_FAILED, "hint", "message %d", 1);
    if (err == &error_no_memory)
        return err;
    err = error_prefix_take(err, "prefix");
    error_destroy(err);
    err = error_from_errno(EIO, "hint", "message");
    if (err == &error_no_memory)
        return err;
    error_destroy(err);
    return NULL;
}

static void errors(void **state)
{
    (void)state;
    fail_each(errors_work);
}

static struct error *strings_fill(struct string_table *table)
{
    char text[600];

    for (unsigned i = 0; i < 300; i++) {
        uint32_t id = UINT32_MAX;
        size_t num_before = table->num_strings;
        snprintf(text, sizeof(text), "%0*u", (int)(i * 2 % 600), i);
        struct error *err = string_table_addf(table, &id, "%s", text);
        if (err) {
            /* Unchanged, and the same call works once there is memory. */
            if (id != UINT32_MAX || table->num_strings != num_before)
                return error_create(ERROR_FAILED, NULL, "half added");
            return err;
        }
        if (strcmp(string_table_get(table, id), text) != 0)
            return error_create(ERROR_FAILED, NULL, "wrong text");
    }
    return NULL;
}

static struct error *strings_work(void)
{
    struct string_table table;

    RETURN_IF_ERROR(string_table_init(&table));
    struct error *err = strings_fill(&table);
    if (err) {
        /* The one failure is behind us: the table must work on. */
        struct error *again = strings_fill(&table);
        if (again)
            err = error_create(ERROR_FAILED, NULL, "table broken");
    }
    string_table_deinit(&table);
    return err;
}

static void string_tables(void **state)
{
    (void)state;
    fail_each(strings_work);
}

static struct error *utf8_work(void)
{
    CLEANUP(free) char *copy = NULL;

    return utf8_sanitize("a\xff", &copy);
}

static void utf8(void **state)
{
    (void)state;
    fail_each(utf8_work);
}

static struct error *read_work(void)
{
    CLEANUP(free) char *content = NULL;
    CLEANUP(free) pid_t *ids = NULL;
    struct procfs_stat stat;
    size_t num_ids;
    uint64_t cpu_ns;

    RETURN_IF_ERROR(file_read_all(AT_FDCWD, "/proc/self/status", 1 << 20, &content, NULL));
    RETURN_IF_ERROR(procfs_stat_read(getpid(), &stat));
    RETURN_IF_ERROR(procfs_list_ids("/proc", &ids, &num_ids));
    return procfs_cpu_ns_read(getpid(), &cpu_ns);
}

static void reading(void **state)
{
    (void)state;
    fail_each(read_work);
}

static struct error *output_work(void)
{
    struct file_output *output = NULL;
    char path[64];

    snprintf(path, sizeof(path), "/tmp/cprofiler-test-oom-%d", getpid());
    RETURN_IF_ERROR(file_output_open(path, &output));
    struct error *err = file_output_commit_take(output, NULL);
    unlink(path);
    return err;
}

static void outputs(void **state)
{
    (void)state;
    fail_each(output_work);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),  cmocka_unit_test(string_tables), cmocka_unit_test(utf8),
        cmocka_unit_test(reading), cmocka_unit_test(outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
