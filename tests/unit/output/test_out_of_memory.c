/* Every allocation fails once, in turn: the answer is an error, nothing leaks, nothing is half
 * done. */
#include "output/heap_error.h"
#include "output/pprof_patch.h"
#include "output/pprof_reader.h"
#include "output/profile_diff.h"
#include "output/top.h"
#include "tests/unit/alloc_fault.h"
#include "tests/unit/output/pprof_file.h"
#include "tests/unit/skip.h"

#define MAX_ALLOCATIONS 5000

static struct error *write_profile(const struct sample_profile *sample,
                                   const struct pprof_file_copy *file UNUSED)
{
    CLEANUP(close) int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    return writer_pprof.write(&sample->profile, fd, "cpu.pprof");
}

static struct error *read_profile(const struct sample_profile *sample UNUSED,
                                  const struct pprof_file_copy *file)
{
    struct stack_table table;
    struct profile profile;

    RETURN_IF_ERROR(pprof_read_bytes(file->bytes, file->num_bytes, "cpu.pprof", &table, &profile));
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return NULL;
}

/* Gives every location another line, which takes functions and strings that the file has not. */
static struct error *patch_profile(const struct sample_profile *sample UNUSED,
                                   const struct pprof_file_copy *file)
{
    CLEANUP(close) int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CLEANUP(pprof_patch_destroy) struct pprof_patch *patch = NULL;
    struct stack_table *table;

    RETURN_IF_ERROR(pprof_patch_open(file->bytes, file->num_bytes, "cpu.pprof", &patch));
    table = pprof_patch_table(patch);
    for (uint32_t i = 0; i < table->num_locations; i++) {
        struct function function = {.start_line = i};
        struct line line = {.line = 7};

        RETURN_IF_ERROR(
            string_table_addf(&table->strings, &function.name, "broken\xff name %u", i));
        RETURN_IF_ERROR(stack_table_add_function(table, &function, &line.function));
        RETURN_IF_ERROR(stack_table_set_lines(table, i, &line, 1));
    }
    return pprof_patch_write(patch, fd, "cpu.pprof");
}

static struct error *compute_top(const struct sample_profile *sample,
                                 const struct pprof_file_copy *file UNUSED)
{
    struct top_row *rows;
    size_t num_rows;

    RETURN_IF_ERROR(top_compute(&sample->profile, 1, &rows, &num_rows));
    free(rows);
    return NULL;
}

/* A profile less itself, with errors. */
static struct error *subtract_profile(const struct sample_profile *sample,
                                      const struct pprof_file_copy *file)
{
    struct heap_error *errors = NULL;
    struct stack_table table;
    struct profile profile;
    size_t first_base;
    struct error *err;

    RETURN_IF_ERROR(pprof_read_bytes(file->bytes, file->num_bytes, "cpu.pprof", &table, &profile));
    first_base = profile.num_samples;
    err = profile_subtract(&profile, &sample->profile);
    if (!err)
        err = heap_error_compute(&profile, 1, &errors);
    if (!err)
        err = heap_error_cancel(&profile, first_base, errors);
    free(errors);
    profile_deinit(&profile);
    stack_table_deinit(&table);
    return err;
}

/* Runs `work` with each of its allocations failing. may_keep: it may add to the string table. */
static void fail_each(struct error *(*work)(const struct sample_profile *,
                                            const struct pprof_file_copy *),
                      bool may_keep)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy file;
    unsigned long fail_at;

    if (!alloc_fault_is_possible())
        SKIP("allocations of this build can't be made to fail");
    sample_profile_init(&sample);
    pprof_file_copy_init(&file, &sample.profile);
    for (fail_at = 1; fail_at < MAX_ALLOCATIONS; fail_at++) {
        struct error *err;
        bool is_error;
        bool is_no_memory;

        alloc_fault_arm(fail_at);
        err = work(&sample, &file);
        is_error = err != NULL;
        is_no_memory = err == &error_no_memory;
        error_destroy(err);
        if (!alloc_fault_disarm()) {
            assert_false(is_error);
            break;
        }
        assert_true(is_no_memory);
        if (!may_keep)
            assert_int_equal(alloc_fault_leaks(), 0);
    }
    assert_in_range(fail_at, 5, MAX_ALLOCATIONS - 1);
}

static void writing_survives_each_failed_allocation(void **state UNUSED)
{
    fail_each(write_profile, false);
}

static void reading_survives_each_failed_allocation(void **state UNUSED)
{
    fail_each(read_profile, false);
}

static void patching_survives_each_failed_allocation(void **state UNUSED)
{
    fail_each(patch_profile, false);
}

static void summing_survives_each_failed_allocation(void **state UNUSED)
{
    fail_each(compute_top, true);
}

static void subtracting_survives_each_failed_allocation(void **state UNUSED)
{
    fail_each(subtract_profile, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writing_survives_each_failed_allocation),
        cmocka_unit_test(reading_survives_each_failed_allocation),
        cmocka_unit_test(patching_survives_each_failed_allocation),
        cmocka_unit_test(summing_survives_each_failed_allocation),
        cmocka_unit_test(subtracting_survives_each_failed_allocation),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
