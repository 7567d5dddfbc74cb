#include "tests/unit/output/pprof_file.h"

static void file_starts_as_gzip_without_a_time(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    assert_memory_equal(copy.bytes, "\x1f\x8b\x08\x00\x00\x00\x00\x00", 8);
}

static void equal_profiles_give_equal_bytes(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile left;
    CLEANUP(sample_profile_deinit) struct sample_profile right;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy left_copy;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy right_copy;

    sample_profile_init(&left);
    sample_profile_init(&right);
    pprof_file_copy_init(&left_copy, &left.profile);
    pprof_file_copy_init(&right_copy, &right.profile);
    assert_int_equal(left_copy.num_bytes, right_copy.num_bytes);
    assert_memory_equal(left_copy.bytes, right_copy.bytes, left_copy.num_bytes);
}

static void decoding_and_encoding_again_gives_the_same_bytes(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;
    CLEANUP(free) uint8_t *again = NULL;
    size_t num_bytes;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    num_bytes = perftools__profiles__profile__get_packed_size(copy.message);
    assert_int_equal(num_bytes, copy.num_inflated);
    again = malloc(num_bytes);
    assert_non_null(again);
    perftools__profiles__profile__pack(copy.message, again);
    assert_memory_equal(again, copy.inflated, num_bytes);
}

static void first_mapping_is_the_main_one_and_unused_ones_are_left_out(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    assert_int_equal(copy.message->n_mapping, 2);
    assert_string_equal(pprof_file_string(&copy, copy.message->mapping[0]->filename),
                        "/usr/bin/app");
    assert_string_equal(pprof_file_string(&copy, copy.message->mapping[0]->build_id), "c0ffee00");
    assert_int_equal(copy.message->mapping[0]->memory_start, 0x400000);
    assert_int_equal(copy.message->mapping[0]->memory_limit, 0x410000);
    assert_int_equal(copy.message->mapping[0]->file_offset, 0x1000);
    assert_string_equal(pprof_file_string(&copy, copy.message->mapping[1]->filename),
                        "/usr/lib/libhelp.so.1");
}

static void ids_are_dense_and_only_used_rows_are_written(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;
    const Perftools__Profiles__Profile *message;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    message = copy.message;
    assert_int_equal(message->n_location, 4); /* work, main, helper, [truncated] */
    assert_int_equal(message->n_function, 5); /* leaf_inlined, too */
    for (size_t i = 0; i < message->n_mapping; i++)
        assert_int_equal(message->mapping[i]->id, i + 1);
    for (size_t i = 0; i < message->n_location; i++)
        assert_int_equal(message->location[i]->id, i + 1);
    for (size_t i = 0; i < message->n_function; i++) {
        assert_int_equal(message->function[i]->id, i + 1);
        assert_string_not_equal(pprof_file_string(&copy, message->function[i]->name),
                                "never_sampled");
    }
    assert_string_equal(message->string_table[0], "");
    for (size_t i = 0; i < message->n_string_table; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(message->string_table[i], message->string_table[j]);
}

static void reason_frame_is_a_location_without_mapping(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;
    size_t num_found = 0;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    for (size_t i = 0; i < copy.message->n_location; i++) {
        const Perftools__Profiles__Location *location = copy.message->location[i];

        assert_true(location->n_line >= 1);
        if (location->mapping_id != 0)
            continue;
        num_found++;
        assert_int_equal(location->address, 0);
        assert_int_equal(location->n_line, 1);
        assert_string_equal(
            pprof_file_string(&copy,
                              copy.message->function[location->line[0]->function_id - 1]->name),
            "[truncated]");
    }
    assert_int_equal(num_found, 1);
}

static void labels_that_differ_only_in_broken_bytes_become_one_sample(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;

    sample_profile_init(&sample);
    sample_add_chain(&sample, sample_labels(&sample, 100, 102, "w\xff"), 3);
    sample_add_chain(&sample, sample_labels(&sample, 100, 102, "w\xfe"), 4);
    pprof_file_copy_init(&copy, &sample.profile);
    assert_int_equal(copy.message->n_sample, 4);
    assert_int_equal(copy.message->sample[2]->value[0], 7);
    assert_string_equal(pprof_file_string(&copy, copy.message->sample[2]->label[2]->str),
                        "w\xef\xbf\xbd");
}

static void samples_come_largest_first_and_empty_ones_not_at_all(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;

    sample_profile_init(&sample);
    sample_add_chain(&sample, sample_labels(&sample, 1, 1, "idle"), 0);
    pprof_file_copy_init(&copy, &sample.profile);
    assert_int_equal(copy.message->n_sample, 3);
    assert_int_equal(copy.message->sample[0]->value[0], 30);
    assert_int_equal(copy.message->sample[0]->value[1], 30 * SAMPLE_PERIOD_NS);
    assert_int_equal(copy.message->sample[1]->value[0], 10);
    assert_int_equal(copy.message->sample[2]->value[0], 1);
}

static void number_zero_with_a_unit_is_kept_and_empty_labels_are_not(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;
    CLEANUP(free) char *output = NULL;
    struct label labels[3];
    uint32_t label_set;

    sample_profile_init(&sample);
    labels[0] =
        (struct label){.key = sample_string(&sample, "cpu"), .unit = sample_string(&sample, "cpu")};
    labels[1] = (struct label){.key = sample_string(&sample, "comm")};
    labels[2] = (struct label){.num = 5};
    assert_no_error(stack_table_add_label_set(&sample.table, labels, 3, &label_set));
    sample_add_chain(&sample, label_set, 50);
    pprof_file_copy_init(&copy, &sample.profile);
    assert_int_equal(copy.message->sample[0]->n_label, 1);
    assert_string_equal(pprof_file_string(&copy, copy.message->sample[0]->label[0]->key), "cpu");
    output = run_go_pprof("-top -tagfocus=cpu=0cpu", copy.path);
    assert_non_null(strstr(output, "Showing nodes accounting for 500ms"));
}

static void types_period_time_and_comments_are_written(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;
    const Perftools__Profiles__Profile *message;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    message = copy.message;
    assert_int_equal(message->n_sample_type, 2);
    assert_string_equal(pprof_file_string(&copy, message->sample_type[0]->type), "samples");
    assert_string_equal(pprof_file_string(&copy, message->sample_type[1]->unit), "nanoseconds");
    assert_string_equal(pprof_file_string(&copy, message->period_type->type), "cpu");
    assert_int_equal(message->period, SAMPLE_PERIOD_NS);
    assert_int_equal(message->time_nanos, SAMPLE_TIME_NS);
    assert_int_equal(message->duration_nanos, SAMPLE_DURATION_NS);
    assert_int_equal(message->n_comment, 1);
    assert_string_equal(pprof_file_string(&copy, message->comment[0]), "made by a test");
    assert_int_equal(message->default_sample_type, 0);
}

static void go_pprof_shows_the_sums(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;
    CLEANUP(free) char *output = NULL;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    output = run_go_pprof("-top", copy.path);
    assert_non_null(strstr(output, "File: app\nBuild ID: c0ffee00\nmade by a test\nType: cpu\n"));
    assert_non_null(strstr(output, "Duration: 1.50s, Total samples = 410ms (27.33%)\n"));
    assert_non_null(
        strstr(output, "     300ms 73.17% 73.17%      300ms 73.17%  leaf_inlined (inline)\n"));
    assert_non_null(strstr(output, "         0     0%   100%       10ms  2.44%  [truncated]\n"));
    assert_null(strstr(output, "symbolization"));
}

static void go_pprof_finds_threads_by_label(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;
    CLEANUP(free) char *output = NULL;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    output = run_go_pprof("-top -tagfocus=thread_id=101", copy.path);
    assert_non_null(strstr(output, "100ms, 24.39% of 410ms total"));
    assert_null(strstr(output, "leaf_inlined"));
}

static void profile_without_samples_is_still_valid(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;
    CLEANUP(free) char *output = NULL;

    sample_profile_init(&sample);
    sample.profile.num_samples = 0;
    pprof_file_copy_init(&copy, &sample.profile);
    assert_int_equal(copy.message->n_mapping, 1);
    assert_int_equal(copy.message->n_location, 0);
    output = run_go_pprof("-top", copy.path);
    assert_non_null(strstr(output, "File: app\n"));
    assert_non_null(strstr(output, "0"));
}

static void full_disk_is_an_error(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(close) int fd = open("/dev/full", O_WRONLY);
    CLEANUP(error_destroy) struct error *err = NULL;

    sample_profile_init(&sample);
    err = writer_pprof.write(&sample.profile, fd, "cpu.pprof");
    assert_non_null(err);
    assert_non_null(strstr(err->message, "cpu.pprof"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_starts_as_gzip_without_a_time),
        cmocka_unit_test(equal_profiles_give_equal_bytes),
        cmocka_unit_test(decoding_and_encoding_again_gives_the_same_bytes),
        cmocka_unit_test(first_mapping_is_the_main_one_and_unused_ones_are_left_out),
        cmocka_unit_test(ids_are_dense_and_only_used_rows_are_written),
        cmocka_unit_test(reason_frame_is_a_location_without_mapping),
        cmocka_unit_test(labels_that_differ_only_in_broken_bytes_become_one_sample),
        cmocka_unit_test(samples_come_largest_first_and_empty_ones_not_at_all),
        cmocka_unit_test(number_zero_with_a_unit_is_kept_and_empty_labels_are_not),
        cmocka_unit_test(types_period_time_and_comments_are_written),
        cmocka_unit_test(go_pprof_shows_the_sums),
        cmocka_unit_test(go_pprof_finds_threads_by_label),
        cmocka_unit_test(profile_without_samples_is_still_valid),
        cmocka_unit_test(full_disk_is_an_error),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
