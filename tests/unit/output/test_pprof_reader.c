#include "output/pprof_reader.h"
#include "tests/unit/output/pprof_file.h"

/* What a test reads. */
struct read_copy {
    struct stack_table table;
    struct profile profile;
};

static inline void cleanup_read_copy_deinit(struct read_copy *copy)
{
    profile_deinit(&copy->profile);
    stack_table_deinit(&copy->table);
}

/* Reads bytes that must be refused, with an error that contains `text`. */
static void assert_refused(const void *bytes, size_t num_bytes, const char *text)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    struct read_copy copy;

    err = pprof_read_bytes(bytes, num_bytes, "cpu.pprof", &copy.table, &copy.profile);
    assert_non_null(err);
    assert_non_null(strstr(err->message, "cpu.pprof: "));
    if (!strstr(err->message, text))
        fail_msg("\"%s\" does not say \"%s\"", err->message, text);
}

/* Encodes a message and reads it. */
static struct error *read_message(const Perftools__Profiles__Profile *message,
                                  struct read_copy *copy)
{
    size_t num_bytes = perftools__profiles__profile__get_packed_size(message);
    CLEANUP(free) uint8_t *bytes = malloc(num_bytes + 1);

    assert_non_null(bytes);
    perftools__profiles__profile__pack(message, bytes);
    return pprof_read_bytes(bytes, num_bytes, "cpu.pprof", &copy->table, &copy->profile);
}

/* A message with one of everything: main() at two places with address 0, as node writes it. */
struct small_message {
    char *strings[5];
    Perftools__Profiles__ValueType type, *types[1];
    Perftools__Profiles__Function function, *functions[1];
    Perftools__Profiles__Line lines[2], *line_pointers[2];
    Perftools__Profiles__Location location[2], *locations[2];
    uint64_t location_ids[2][1];
    int64_t values[2][1];
    Perftools__Profiles__Sample sample[2], *samples[2];
    Perftools__Profiles__Profile profile;
};

static void small_message_init(struct small_message *small)
{
    static const char *const strings[] = {"", "cpu", "nanoseconds", "main", "main.js"};

    memset(small, 0, sizeof(*small));
    for (size_t i = 0; i < ARRAY_LENGTH(strings); i++)
        small->strings[i] = (char *)strings[i];
    perftools__profiles__profile__init(&small->profile);
    perftools__profiles__value_type__init(&small->type);
    perftools__profiles__function__init(&small->function);
    small->types[0] = &small->type;
    small->type.type = 1;
    small->type.unit = 2;
    small->functions[0] = &small->function;
    small->function.id = 77;
    small->function.name = 3;
    small->function.filename = 4;
    for (size_t i = 0; i < 2; i++) {
        perftools__profiles__line__init(&small->lines[i]);
        perftools__profiles__location__init(&small->location[i]);
        perftools__profiles__sample__init(&small->sample[i]);
        small->lines[i].function_id = 77;
        small->lines[i].line = 10 + (int64_t)i;
        small->line_pointers[i] = &small->lines[i];
        small->location[i].id = UINT64_MAX - i;
        small->location[i].n_line = 1;
        small->location[i].line = &small->line_pointers[i];
        small->locations[i] = &small->location[i];
        small->location_ids[i][0] = UINT64_MAX - i;
        small->values[i][0] = 5 + (int64_t)i;
        small->sample[i].n_location_id = 1;
        small->sample[i].location_id = small->location_ids[i];
        small->sample[i].n_value = 1;
        small->sample[i].value = small->values[i];
        small->samples[i] = &small->sample[i];
    }
    small->profile.n_string_table = 5;
    small->profile.string_table = small->strings;
    small->profile.n_sample_type = 1;
    small->profile.sample_type = small->types;
    small->profile.n_function = 1;
    small->profile.function = small->functions;
    small->profile.n_location = 2;
    small->profile.location = small->locations;
    small->profile.n_sample = 2;
    small->profile.sample = small->samples;
}

/* Reads a message that must be refused. */
static void assert_message_refused(const struct small_message *small, const char *text)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    struct read_copy copy;

    err = read_message(&small->profile, &copy);
    assert_non_null(err);
    if (!strstr(err->message, text))
        fail_msg("\"%s\" does not say \"%s\"", err->message, text);
}

static void what_was_written_is_read_back(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy file;
    CLEANUP(read_copy_deinit) struct read_copy copy = {0};

    sample_profile_init(&sample);
    pprof_file_copy_init(&file, &sample.profile);
    assert_no_error(pprof_read_file(file.path, &copy.table, &copy.profile));
    assert_ptr_equal(copy.profile.table, &copy.table);
    assert_int_equal(copy.profile.num_value_types, 2);
    assert_int_equal(profile_total(&copy.profile, 0), 41);
    assert_int_equal(profile_total(&copy.profile, 1), 41 * SAMPLE_PERIOD_NS);
    assert_int_equal(copy.profile.time_ns, SAMPLE_TIME_NS);
    assert_int_equal(copy.profile.duration_ns, SAMPLE_DURATION_NS);
    assert_int_equal(copy.profile.period, SAMPLE_PERIOD_NS);
    assert_int_equal(copy.profile.num_comments, 1);
    assert_true(copy.table.mappings[0].is_main);
    assert_int_equal(copy.table.mappings[0].start, 0x400000);
    assert_no_error(profile_check(&copy.profile, true));
}

static void writing_again_gives_the_same_bytes(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy first;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy second;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy third;
    CLEANUP(read_copy_deinit) struct read_copy copy = {0};
    CLEANUP(read_copy_deinit) struct read_copy copy_again = {0};

    sample_profile_init(&sample);
    pprof_file_copy_init(&first, &sample.profile);
    assert_no_error(pprof_read_file(first.path, &copy.table, &copy.profile));
    pprof_file_copy_init(&second, &copy.profile);
    assert_no_error(pprof_read_file(second.path, &copy_again.table, &copy_again.profile));
    pprof_file_copy_init(&third, &copy_again.profile);
    assert_int_equal(second.num_bytes, third.num_bytes);
    assert_memory_equal(second.bytes, third.bytes, third.num_bytes);
}

static void go_pprof_sees_no_difference_after_reading_and_writing(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy first;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy second;
    CLEANUP(read_copy_deinit) struct read_copy copy = {0};
    CLEANUP(free) char *first_top = NULL;
    CLEANUP(free) char *second_top = NULL;

    sample_profile_init(&sample);
    pprof_file_copy_init(&first, &sample.profile);
    assert_no_error(pprof_read_file(first.path, &copy.table, &copy.profile));
    pprof_file_copy_init(&second, &copy.profile);
    first_top = run_go_pprof("-top -lines", first.path);
    second_top = run_go_pprof("-top -lines", second.path);
    assert_non_null(strstr(first_top, "leaf_inlined"));
    assert_string_equal(first_top, second_top);
}

static void places_at_address_zero_stay_apart(void **state UNUSED)
{
    CLEANUP(read_copy_deinit) struct read_copy copy = {0};
    struct small_message small;

    small_message_init(&small);
    assert_no_error(read_message(&small.profile, &copy));
    assert_int_equal(copy.table.num_locations, 2);
    assert_int_equal(copy.table.num_stacks, 2);
    assert_int_equal(copy.profile.num_samples, 2);
    assert_int_equal(copy.profile.samples[1].values[0], 6);
    assert_int_equal(copy.table.lines[copy.table.locations[1].first_line].line, 11);
}

static void equal_stacks_are_summed_and_zero_samples_left_out(void **state UNUSED)
{
    CLEANUP(read_copy_deinit) struct read_copy copy = {0};
    CLEANUP(read_copy_deinit) struct read_copy empty = {0};
    struct small_message small;

    small_message_init(&small);
    small.location_ids[1][0] = small.location_ids[0][0];
    assert_no_error(read_message(&small.profile, &copy));
    assert_int_equal(copy.profile.num_samples, 1);
    assert_int_equal(copy.profile.samples[0].values[0], 11);
    small.values[0][0] = 0;
    small.values[1][0] = 0;
    assert_no_error(read_message(&small.profile, &empty));
    assert_int_equal(empty.profile.num_samples, 0);
}

static void sample_without_a_stack_counts_in_the_total(void **state UNUSED)
{
    CLEANUP(read_copy_deinit) struct read_copy copy = {0};
    struct small_message small;

    small_message_init(&small);
    small.sample[0].n_location_id = 0;
    assert_no_error(read_message(&small.profile, &copy));
    assert_int_equal(profile_total(&copy.profile, 0), 11);
}

static void mapping_that_is_not_there_counts_as_none(void **state UNUSED)
{
    CLEANUP(read_copy_deinit) struct read_copy copy = {0};
    struct small_message small;

    small_message_init(&small);
    small.location[0].mapping_id = 9;
    assert_no_error(read_message(&small.profile, &copy));
    assert_int_equal(copy.table.locations[0].key.mapping, 0);
}

static void broken_references_are_refused(void **state UNUSED)
{
    struct small_message small;

    small_message_init(&small);
    small.location_ids[0][0] = 5;
    assert_message_refused(&small, "location 5 that is not there");
    small_message_init(&small);
    small.lines[0].function_id = 5;
    assert_message_refused(&small, "names a function that is not there");
    small_message_init(&small);
    small.function.name = 5;
    assert_message_refused(&small, "there is no string 5");
    small_message_init(&small);
    small.type.unit = -1;
    assert_message_refused(&small, "there is no string -1");
    small_message_init(&small);
    small.profile.default_sample_type = 99;
    assert_message_refused(&small, "there is no string 99");
}

static void broken_ids_and_values_are_refused(void **state UNUSED)
{
    struct small_message small;

    small_message_init(&small);
    small.location[1].id = small.location[0].id;
    assert_message_refused(&small, "two locations have id");
    small_message_init(&small);
    small.function.id = 0;
    assert_message_refused(&small, "a function has id 0");
    small_message_init(&small);
    small.sample[1].n_value = 0;
    assert_message_refused(&small, "0 values for 1 types");
    small_message_init(&small);
    small.profile.n_sample_type = 0;
    small.profile.n_sample = 0;
    assert_message_refused(&small, "not a pprof profile (it has no sample types)");
    small_message_init(&small);
    small.strings[0] = (char *)"not empty";
    assert_message_refused(&small, "not a pprof profile (the first string is not empty)");
}

static void empty_file_is_refused(void **state UNUSED)
{
    assert_refused("", 0, "empty file");
}

static void garbage_is_refused(void **state UNUSED)
{
    static const char text[] = "heap profile: 2: 496 [2: 496] @ heap/1048576\n";
    static const char elf[] = "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0\76\0\1\0\0\0";

    assert_refused(text, sizeof(text) - 1, "not a pprof profile");
    assert_refused(elf, sizeof(elf) - 1, "not a pprof profile");
    assert_refused("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", 12, "not a pprof profile");
    assert_refused("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "not a pprof profile");
    assert_refused("\x1f\x8bgarbage that is no gzip", 25, "broken gzip");
}

static void every_truncation_is_refused(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    for (size_t num_bytes = 2; num_bytes < copy.num_bytes; num_bytes++)
        assert_refused(copy.bytes, num_bytes, "truncated gzip");
}

static void concatenated_profiles_are_refused(void **state UNUSED)
{
    CLEANUP(sample_profile_deinit) struct sample_profile sample;
    CLEANUP(pprof_file_copy_deinit) struct pprof_file_copy copy;
    CLEANUP(free) char *twice = NULL;

    sample_profile_init(&sample);
    pprof_file_copy_init(&copy, &sample.profile);
    twice = malloc(2 * copy.num_inflated);
    assert_non_null(twice);
    memcpy(twice, copy.bytes, copy.num_bytes);
    memcpy(twice + copy.num_bytes, copy.bytes, copy.num_bytes);
    assert_refused(twice, 2 * copy.num_bytes, "concatenated profiles");
    memcpy(twice, copy.inflated, copy.num_inflated);
    memcpy(twice + copy.num_inflated, copy.inflated, copy.num_inflated);
    assert_refused(twice, 2 * copy.num_inflated, "concatenated profiles");
}

static void missing_file_is_told_with_a_hint(void **state UNUSED)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    struct read_copy copy;

    err = pprof_read_file("/nonexistent/cpu.pprof", &copy.table, &copy.profile);
    assert_non_null(err);
    assert_int_equal(err->kind, ERROR_NOT_FOUND);
    assert_non_null(err->hint);
    assert_non_null(strstr(err->message, "/nonexistent/cpu.pprof"));
}

/* Fields that no one wrote yet must not hurt: proto3 readers skip what they do not know. */
static void unknown_fields_are_skipped(void **state UNUSED)
{
    CLEANUP(read_copy_deinit) struct read_copy copy = {0};
    CLEANUP(free) uint8_t *bytes = NULL;
    static const uint8_t unknown[] = {
        0x80, 0x01, 1,                        /* field 16: a varint */
        0x89, 0x01, 1, 2,   3, 4, 5, 6, 7, 8, /* field 17: 64 bits */
        0x95, 0x01, 1, 2,   3, 4,             /* field 18: 32 bits */
        0x9a, 0x01, 1, 'x',                   /* field 19: bytes */
    };
    struct small_message small;
    size_t num_bytes;

    small_message_init(&small);
    num_bytes = perftools__profiles__profile__get_packed_size(&small.profile);
    bytes = malloc(num_bytes + sizeof(unknown));
    assert_non_null(bytes);
    perftools__profiles__profile__pack(&small.profile, bytes);
    memcpy(bytes + num_bytes, unknown, sizeof(unknown));
    num_bytes += sizeof(unknown);
    assert_no_error(pprof_read_bytes(bytes, num_bytes, "cpu.pprof", &copy.table, &copy.profile));
    assert_int_equal(profile_total(&copy.profile, 0), 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_back),
        cmocka_unit_test(writing_again_gives_the_same_bytes),
        cmocka_unit_test(go_pprof_sees_no_difference_after_reading_and_writing),
        cmocka_unit_test(places_at_address_zero_stay_apart),
        cmocka_unit_test(equal_stacks_are_summed_and_zero_samples_left_out),
        cmocka_unit_test(sample_without_a_stack_counts_in_the_total),
        cmocka_unit_test(mapping_that_is_not_there_counts_as_none),
        cmocka_unit_test(broken_references_are_refused),
        cmocka_unit_test(broken_ids_and_values_are_refused),
        cmocka_unit_test(empty_file_is_refused),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(concatenated_profiles_are_refused),
        cmocka_unit_test(missing_file_is_told_with_a_hint),
        cmocka_unit_test(unknown_fields_are_skipped),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
