/* A small profile with one of everything, for the tests of output/. */
#ifndef TESTS_UNIT_OUTPUT_SAMPLE_PROFILE_H
#define TESTS_UNIT_OUTPUT_SAMPLE_PROFILE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "profile/profile.h"

#define SAMPLE_PERIOD_NS 10000000
#define SAMPLE_TIME_NS 1700000000123456789
#define SAMPLE_DURATION_NS 1500000000

/* Fails the test with the error's message. */
static inline void assert_no_error(struct error *err)
{
    if (err)
        fail_msg("error: %s", err->message ? err->message : "out of memory");
}

struct sample_profile {
    struct stack_table table;
    struct profile profile;
    uint32_t main_mapping, lib_mapping, unused_mapping;
    struct callchain chain;
};

static inline uint32_t sample_string(struct sample_profile *sample, const char *text)
{
    uint32_t id;

    assert_no_error(string_table_add(&sample->table.strings, text, &id));
    return id;
}

static inline uint32_t sample_mapping(struct sample_profile *sample, const char *path,
                                      uint64_t start, uint32_t module, bool is_main)
{
    struct mapping mapping = {.start = start,
                              .limit = start + 0x10000,
                              .file_off = 0x1000,
                              .path = sample_string(sample, path),
                              .build_id = sample_string(sample, is_main ? "c0ffee00" : ""),
                              .kind = MAPPING_FILE,
                              .module = module,
                              .is_main = is_main,
                              .has_functions = true};
    uint32_t id;

    assert_no_error(stack_table_add_mapping(&sample->table, &mapping, &id));
    return id;
}

/* Names the location at (pc, mapping): one line, or two when it was inlined into `outer`. */
static inline void sample_name(struct sample_profile *sample, uint64_t pc, uint32_t mapping,
                               const char *name, const char *outer)
{
    struct frame_key key = {.pc = pc, .mapping = mapping};
    const char *names[2] = {name, outer};
    struct line lines[2];
    size_t num_lines = outer ? 2 : 1;
    uint32_t location;

    assert_no_error(stack_table_add_location(&sample->table, &key, &location));
    for (size_t i = 0; i < num_lines; i++) {
        struct function function = {.name = sample_string(sample, names[i]),
                                    .system_name = sample_string(sample, names[i]),
                                    .filename = sample_string(sample, "/src/app.c"),
                                    .start_line = 7};

        assert_no_error(stack_table_add_function(&sample->table, &function, &lines[i].function));
        lines[i].line = 10 + (int64_t)i;
    }
    assert_no_error(stack_table_set_lines(&sample->table, location, lines, num_lines));
}

/* Interns the label set {pid, thread_id, thread_name}. */
static inline uint32_t sample_labels(struct sample_profile *sample, int64_t pid, int64_t tid,
                                     const char *thread_name)
{
    struct label labels[3] = {
        {.key = sample_string(sample, "pid"), .num = pid},
        {.key = sample_string(sample, "thread_id"), .num = tid},
        {.key = sample_string(sample, "thread_name"), .str = sample_string(sample, thread_name)},
    };
    uint32_t id;

    assert_no_error(stack_table_add_label_set(&sample->table, labels, 3, &id));
    return id;
}

/* Adds `count` samples of sample->chain. */
static inline void sample_add_chain(struct sample_profile *sample, uint32_t label_set,
                                    int64_t count)
{
    int64_t values[2] = {count, count * SAMPLE_PERIOD_NS};
    uint32_t stack;

    assert_no_error(stack_table_intern(&sample->table, &sample->chain, &stack));
    assert_no_error(profile_add(&sample->profile, stack, label_set, values));
}

/* leaf_inlined (in work), work, main: 30; helper in the library, main: 10 + 1 cut short. */
static inline void sample_profile_init(struct sample_profile *sample)
{
    assert_no_error(stack_table_init(&sample->table));
    assert_no_error(profile_init_cpu(&sample->profile, &sample->table, SAMPLE_PERIOD_NS));
    sample->profile.time_ns = SAMPLE_TIME_NS;
    sample->profile.duration_ns = SAMPLE_DURATION_NS;
    assert_no_error(profile_add_comment(&sample->profile, "made by a test"));
    sample->lib_mapping = sample_mapping(sample, "/usr/lib/libhelp.so.1", 0x7f0000000000, 0, false);
    sample->unused_mapping =
        sample_mapping(sample, "/usr/lib/libidle.so", 0x7f1000000000, 1, false);
    sample->main_mapping = sample_mapping(sample, "/usr/bin/app", 0x400000, 2, true);
    sample_name(sample, 0x400123, sample->main_mapping, "leaf_inlined", "work");
    sample_name(sample, 0x400200, sample->main_mapping, "main", NULL);
    sample_name(sample, 0x400300, sample->main_mapping, "never_sampled", NULL);
    sample_name(sample, 0x7f0000000010, sample->lib_mapping, "helper", NULL);

    sample->chain = (struct callchain){0};
    callchain_push(&sample->chain, 0x400123, sample->main_mapping, REASON_NONE);
    callchain_push(&sample->chain, 0x400200, sample->main_mapping, REASON_NONE);
    sample_add_chain(sample, sample_labels(sample, 100, 100, "app"), 30);
    sample->chain.num_frames = 0;
    callchain_push(&sample->chain, 0x7f0000000010, sample->lib_mapping, REASON_NONE);
    callchain_push(&sample->chain, 0x400200, sample->main_mapping, REASON_NONE);
    sample_add_chain(sample, sample_labels(sample, 100, 101, "worker"), 10);
    sample->chain.num_frames = 1;
    callchain_push(&sample->chain, 0, 0, REASON_TRUNCATED);
    sample_add_chain(sample, 0, 1);
}

static inline void cleanup_sample_profile_deinit(struct sample_profile *sample)
{
    profile_deinit(&sample->profile);
    stack_table_deinit(&sample->table);
}

#endif
