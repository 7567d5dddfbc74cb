/* Allocator frames go from the leaf, by name; other profiles keep theirs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/cleanup.h"
#include "profile/heap.h"
#include "profile/heap_trim.h"

static struct stack_table table;
static struct profile heap, cpu;
static struct callchain chain;

static int trim_setup(void **state)
{
    struct mapping mapping = {.limit = 1 << 20, .module = 1};
    uint32_t id;

    (void)state;
    assert_null(stack_table_init(&table));
    assert_null(profile_init_heap(&heap, &table, 512 << 10));
    assert_null(profile_init_cpu(&cpu, &table, 10));
    assert_null(stack_table_add_mapping(&table, &mapping, &id));
    return 0;
}

static int trim_teardown(void **state)
{
    (void)state;
    profile_deinit(&cpu);
    profile_deinit(&heap);
    stack_table_deinit(&table);
    return 0;
}

/* Gives the location at `pc` these lines, names separated by ',', innermost first. */
static void name_place(uint64_t pc, const char *names)
{
    struct frame_key key = {pc, 1, REASON_NONE};
    struct line lines[8];
    size_t num_lines = 0;
    char text[200];
    uint32_t location;

    assert_true(strlen(names) < sizeof(text));
    memccpy(text, names, 0, sizeof(text));
    for (char *save = NULL, *name = strtok_r(text, ",", &save); name;
         name = strtok_r(NULL, ",", &save)) {
        struct function function = {0};

        assert_null(string_table_add(&table.strings, name, &function.name));
        assert_null(stack_table_add_function(&table, &function, &lines[num_lines].function));
        lines[num_lines].line = (int64_t)num_lines + 1;
        num_lines++;
    }
    assert_null(stack_table_add_location(&table, &key, &location));
    assert_null(stack_table_set_lines(&table, location, lines, num_lines));
}

/* Interns a stack of these pcs, ended by 0. reason: of one more frame at the root. */
static uint32_t stack_of(const uint64_t *pcs, enum frame_reason reason)
{
    uint32_t stack;

    chain.num_frames = 0;
    for (size_t i = 0; pcs[i]; i++)
        callchain_push(&chain, pcs[i], 1, REASON_NONE);
    if (reason != REASON_NONE)
        callchain_push(&chain, 0, 0, reason);
    assert_null(stack_table_intern(&table, &chain, &stack));
    return stack;
}

static void add(const uint64_t *pcs, enum frame_reason reason)
{
    static const int64_t heap_values[] = {1, 100, 1, 100};
    static const int64_t cpu_values[] = {1, 10};

    assert_null(profile_add(&heap, stack_of(pcs, reason), 0, heap_values));
    assert_null(profile_add(&cpu, stack_of(pcs, reason), 0, cpu_values));
}

/* Writes a sample's functions, innermost first, separated by ',', '|' between locations. */
static const char *describe(const struct profile *profile, size_t number)
{
    static char text[300];
    const struct stack *stack = &table.stacks[profile->samples[number].stack];
    size_t length = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < stack->num_locations; i++) {
        const struct location *location = &table.locations[table.stack_locations[stack->first + i]];

        for (uint32_t j = 0; j < location->num_lines; j++) {
            uint32_t function = table.lines[location->first_line + j].function;

            length += (size_t)snprintf(
                text + length, sizeof(text) - length, "%s%s", j ? "," : (i ? "|" : ""),
                string_table_get(&table.strings, table.functions[function].name));
        }
        if (location->num_lines == 0)
            length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s", i ? "|" : "",
                                       frame_reason_name(location->key.reason));
    }
    return text;
}

static void names_of_allocators_are_known(void **state)
{
    static const char *const allocators[] = {
        "malloc",
        "calloc",
        "realloc",
        "reallocarray",
        "posix_memalign",
        "aligned_alloc",
        "__libc_malloc",
        "__GI___libc_malloc",
        "__libc_malloc_impl",
        "_mid_memalign",
        "operator new",
        "operator new[]",
        "operator new(unsigned long)",
        "operator new[](unsigned long, std::align_val_t)",
        "je_malloc",
        "_rjem_mallocx",
        "_rjem_je_calloc",
        "mi_heap_zalloc",
        "mi_new",
        "_mi_malloc_generic",
        "tc_newarray",
        "tc_memalign",
        "tcmalloc::allocate_full_malloc_oom",
        "__rust_alloc",
        "__rust_alloc_zeroed",
        "__rustc::__rust_realloc",
        "__rdl_alloc",
        "alloc::alloc::alloc",
        "alloc::alloc::exchange_malloc",
        "<alloc::alloc::Global>::alloc_impl_runtime",
        "<alloc::alloc::Global as core::alloc::Allocator>::allocate",
        "<std::alloc::System as core::alloc::global::GlobalAlloc>::alloc",
        "<tikv_jemallocator::Jemalloc as core::alloc::global::GlobalAlloc>::alloc",
    };
    static const char *const others[] = {
        "",
        "main",
        "strdup",
        "xmalloc",
        "g_malloc",
        "malloc_usable_size",
        "mallocator",
        "my_malloc",
        "operator new_thing",
        "operator delete",
        "std::__new_allocator<int>::allocate",
        "std::allocator_traits<std::allocator<int> >::allocate",
        "alloc::raw_vec::RawVecInner<A>::finish_grow",
        "alloc::vec::Vec<T,A>::push",
        "je_suis",
        "mi_option_get",
        "PyMem_RawMalloc",
        "newarray",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(allocators); i++) {
        if (!heap_is_allocator(allocators[i]))
            fail_msg("%s", allocators[i]);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(others); i++) {
        if (heap_is_allocator(others[i]))
            fail_msg("%s", others[i]);
    }
}

static void leading_frames_and_lines_go_and_equal_stacks_merge(void **state)
{
    (void)state;
    name_place(1, "operator new");
    name_place(2, "helper,operator new[]");
    name_place(3, "alloc::alloc::alloc,alloc::alloc::realloc,grow,push");
    name_place(4, "grow,push"); /* never merged with the twin of 3: another address */
    name_place(10, "f,g");
    name_place(11, "main");
    add((uint64_t[]){1, 10, 11, 0}, REASON_NONE);
    add((uint64_t[]){2, 1, 10, 11, 0}, REASON_NONE);
    add((uint64_t[]){10, 11, 0}, REASON_NONE);
    add((uint64_t[]){3, 10, 11, 0}, REASON_NONE);
    add((uint64_t[]){4, 3, 11, 0}, REASON_NONE); /* not at the leaf: it stays */
    for (int i = 0; i < 2; i++) {                /* the second time changes nothing */
        assert_null(heap_trim_allocator(&heap));
        assert_int_equal(heap.num_samples, 3);
        assert_string_equal(describe(&heap, 0), "f,g|main");
        assert_int_equal(heap.samples[0].values[HEAP_INUSE_SPACE], 300);
        assert_string_equal(describe(&heap, 1), "grow,push|f,g|main");
        assert_string_equal(describe(&heap, 2),
                            "grow,push|alloc::alloc::alloc,alloc::alloc::realloc,grow,push|main");
        assert_null(profile_check(&heap, true));
    }
    assert_int_equal(cpu.num_samples, 5);
    assert_string_equal(describe(&cpu, 3),
                        "alloc::alloc::alloc,alloc::alloc::realloc,grow,push|f,g|main");

    /* Samples that come after a snapshot join those that were cut. */
    add((uint64_t[]){3, 10, 11, 0}, REASON_NONE);
    assert_int_equal(heap.num_samples, 4);
    assert_null(heap_trim_allocator(&heap));
    assert_int_equal(heap.num_samples, 3);
    assert_int_equal(heap.samples[1].values[HEAP_ALLOC_OBJECTS], 2);
    assert_int_equal(profile_total(&heap, HEAP_ALLOC_OBJECTS), 6);
}

static void something_always_stays(void **state)
{
    (void)state;
    name_place(1, "malloc");
    name_place(2, "operator new");
    name_place(3, "main");
    add((uint64_t[]){1, 2, 0}, REASON_NONE);
    add((uint64_t[]){2, 0}, REASON_TRUNCATED);
    add((uint64_t[]){2, 3, 0}, REASON_TRUNCATED);
    add((uint64_t[]){9, 3, 0}, REASON_NONE); /* no names: nothing is known of it */
    add((uint64_t[]){0}, REASON_UNTRACKED);
    assert_null(heap_trim_allocator(&heap));
    assert_int_equal(heap.num_samples, 5);
    assert_string_equal(describe(&heap, 0), "malloc|operator new");
    assert_string_equal(describe(&heap, 1), "operator new|[truncated]");
    assert_string_equal(describe(&heap, 2), "main|[truncated]");
    assert_string_equal(describe(&heap, 4), "[untracked]");
}

static void page_faults_inside_the_allocator_are_its_callers(void **state)
{
    (void)state;
    name_place(1, "sysmalloc");
    name_place(2, "_int_malloc");
    name_place(3, "__GI___libc_malloc");
    name_place(4, "__memset_avx512_unaligned_erms");
    name_place(5, "memcpy,fill");
    name_place(10, "f");
    name_place(11, "main");
    add((uint64_t[]){1, 2, 3, 10, 11, 0}, REASON_NONE);
    add((uint64_t[]){4, 1, 3, 10, 11, 0}, REASON_NONE);
    add((uint64_t[]){4, 10, 11, 0}, REASON_NONE);
    add((uint64_t[]){5, 10, 11, 0}, REASON_NONE);
    add((uint64_t[]){10, 4, 11, 0}, REASON_NONE); /* not at the leaf */
    add((uint64_t[]){1, 2, 0}, REASON_TRUNCATED);
    add((uint64_t[]){4, 0}, REASON_NONE);
    assert_null(heap_trim_growth(&heap));
    assert_int_equal(heap.num_samples, 5);
    assert_string_equal(describe(&heap, 0), "f|main");
    assert_int_equal(heap.samples[0].values[0], 3);
    assert_string_equal(describe(&heap, 1), "fill|f|main");
    assert_string_equal(describe(&heap, 2), "f|__memset_avx512_unaligned_erms|main");
    assert_string_equal(describe(&heap, 3), "sysmalloc|_int_malloc|[truncated]");
    assert_string_equal(describe(&heap, 4), "__memset_avx512_unaligned_erms");
}

static void an_empty_profile_is_fine(void **state)
{
    (void)state;
    assert_null(heap_trim_allocator(&heap));
    assert_int_equal(heap.num_samples, 0);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_allocators_are_known),
        cmocka_unit_test_setup_teardown(leading_frames_and_lines_go_and_equal_stacks_merge,
                                        trim_setup, trim_teardown),
        cmocka_unit_test_setup_teardown(something_always_stays, trim_setup, trim_teardown),
        cmocka_unit_test_setup_teardown(page_faults_inside_the_allocator_are_its_callers,
                                        trim_setup, trim_teardown),
        cmocka_unit_test_setup_teardown(an_empty_profile_is_fine, trim_setup, trim_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
