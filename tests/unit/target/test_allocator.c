/* Which functions allocate: by name, in this program, in real allocators; and whose of them count.
 */
#include "tests/unit/target/support.h"

#include <dlfcn.h>
#include <link.h>

#include "target/allocator.h"
#include "target/allocator_names.h"
#include "target/module.h"

#define LIBRARIES "/usr/lib/x86_64-linux-gnu/"

static struct module_table *table;

static int table_setup(void **state)
{
    (void)state;
    return module_table_create(&table) ? -1 : 0;
}

static int table_teardown(void **state)
{
    (void)state;
    module_table_destroy(table);
    return 0;
}

/* A family of our own; and lone names that mean nothing. Not static: local ones are the next test.
 */
void *jem_malloc(size_t size);
void jem_free(void *pointer);
void *sn_calloc(size_t count, size_t size);

__attribute__((noipa)) void *jem_malloc(size_t size)
{
    return (void *)size;
}

__attribute__((noipa)) void jem_free(void *pointer)
{
    (void)pointer;
}

__attribute__((noipa)) void *sn_calloc(size_t count, size_t size)
{
    return (void *)(count * size);
}

/* Local names: with a prefix they count, without they are the program's own affair. */
__attribute__((noipa)) static void *jem_valloc(size_t size)
{
    return (void *)size;
}

__attribute__((noipa)) static void pvalloc_(void *pointer) __asm__("pvalloc");

__attribute__((noipa)) static void pvalloc_(void *pointer)
{
    (void)pointer;
}

static const struct allocator_function *find(const struct allocator_set *set, const char *name)
{
    for (size_t i = 0; i < set->num_functions; i++)
        if (strcmp(set->functions[i].name, name) == 0)
            return &set->functions[i];
    return NULL;
}

static void open_set(const char *path, struct allocator_set *set)
{
    struct module *module;

    assert_success(module_table_open_path(table, path, &module));
    if (!module->elf)
        fail_msg("no ELF file: %s", path);
    assert_success(allocator_find(module, set));
}

static void names_have_roles(void **state)
{
    static const struct {
        const char *name;
        enum allocator_role role;
        enum allocator_family family;
    } rows[] = {
        {"malloc", ALLOCATOR_MALLOC, ALLOCATOR_C},
        {"calloc", ALLOCATOR_CALLOC, ALLOCATOR_C},
        {"posix_memalign", ALLOCATOR_POSIX_MEMALIGN, ALLOCATOR_C},
        {"free_aligned_sized", ALLOCATOR_FREE, ALLOCATOR_C},
        {"rallocx", ALLOCATOR_REALLOC, ALLOCATOR_C},
        {"_Znwm", ALLOCATOR_NEW, ALLOCATOR_CXX},
        {"_ZnamRKSt9nothrow_t", ALLOCATOR_MALLOC, ALLOCATOR_CXX},
        {"_ZdaPvmSt11align_val_t", ALLOCATOR_FREE, ALLOCATOR_CXX},
        {"je_malloc", ALLOCATOR_MALLOC, ALLOCATOR_OWN},
        {"_rjem_sdallocx", ALLOCATOR_FREE, ALLOCATOR_OWN},
        {"mi_heap_recalloc", ALLOCATOR_HEAP_REALLOCARRAY, ALLOCATOR_OWN},
        {"tc_new", ALLOCATOR_NEW, ALLOCATOR_OWN},
        {"rpaligned_alloc", ALLOCATOR_MEMALIGN, ALLOCATOR_OWN},
        {"dlrealloc", ALLOCATOR_REALLOC, ALLOCATOR_OWN},
    };
    static const char *const others[] = {
        "",
        "m",
        "Malloc",
        "malloc_",
        "_malloc",
        "mi_",
        "mi_tc_malloc",
        "je_heap_malloc",
        "tc_new_n",
        "_Zn",
        "_Znwj",
        "new",
        "heap_malloc",
        "xmalloc",
        "__libc_malloc",
    };
    struct allocator_name name;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!allocator_name_find(rows[i].name, &name) || name.role != rows[i].role ||
            name.family != rows[i].family)
            fail_msg("%s", rows[i].name);
        assert_int_equal(name.is_malloc, strcmp(rows[i].name, "malloc") == 0 ||
                                             strcmp(rows[i].name, "je_malloc") == 0);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (allocator_name_find(others[i], &name))
            fail_msg("%s", others[i]);
}

static void arguments_fit_the_roles(void **state)
{
    (void)state;
    for (int role = 0; role < ALLOCATOR_NUM_ROLES; role++) {
        const struct allocator_arguments *arguments = &allocator_arguments[role];

        assert_int_equal(arguments->size == ALLOCATOR_NO_ARGUMENT, role == ALLOCATOR_FREE);
        assert_true(arguments->size < 4 && arguments->count <= 4 && arguments->old < 2);
        assert_int_equal(arguments->out != ALLOCATOR_NO_ARGUMENT, role == ALLOCATOR_POSIX_MEMALIGN);
    }
}

static void own_functions_are_found(void **state)
{
    struct allocator_set set;
    const struct allocator_function *function;
    Dl_info info;

    (void)state;
    open_set("/proc/self/exe", &set);
    assert_true(dladdr((void *)jem_malloc, &info) != 0);
    function = find(&set, "jem_malloc");
    assert_non_null(function);
    assert_int_equal(function->elf_addr, (uintptr_t)jem_malloc - (uintptr_t)info.dli_fbase);
    assert_int_equal(function->family, ALLOCATOR_OWN);
    assert_true(function->num_bytes > 0 && function->num_bytes < 256);
    assert_non_null(find(&set, "jem_free"));
    assert_non_null(find(&set, "jem_valloc"));
    assert_null(find(&set, "sn_calloc"));
    assert_null(find(&set, "pvalloc"));
    assert_null(find(&set, "malloc"));
    assert_false(set.is_libc || set.is_loader);
    assert_ptr_equal(jem_valloc(1), sn_calloc(1, 1));
    jem_free(jem_malloc(1));
    pvalloc_(NULL);
    allocator_set_deinit(&set);
}

static void libc_is_known(void **state)
{
    static const char *const names[] = {
        "malloc",        "calloc",         "realloc",      "free",   "memalign",
        "aligned_alloc", "posix_memalign", "reallocarray", "valloc", "pvalloc"};
    struct allocator_set set;
    Dl_info info;

    (void)state;
    open_set(LIBRARIES "libc.so.6", &set);
    assert_true(set.is_libc && !set.is_loader);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct allocator_function *function = find(&set, names[i]);
        void *address = dlsym(RTLD_DEFAULT, names[i]);

        if (!function) {
            fail_msg("%s", names[i]);
            return; /* for clang-tidy: fail_msg() does not come back */
        }
        /* A sanitizer has its own. */
        if (dladdr(address, &info) && strstr(info.dli_fname, "libc.so.6"))
            assert_int_equal(function->elf_addr, (uintptr_t)address - (uintptr_t)info.dli_fbase);
    }
    for (size_t i = 1; i < set.num_functions; i++)
        assert_true(set.functions[i].elf_addr >= set.functions[i - 1].elf_addr);
    allocator_set_deinit(&set);
    open_set("/lib64/ld-linux-x86-64.so.2", &set);
    assert_true(set.is_loader && !set.is_libc);
    allocator_set_deinit(&set);
    open_set("/lib/ld-musl-x86_64.so.1", &set);
    assert_true(set.is_libc && find(&set, "malloc") && find(&set, "free"));
    allocator_set_deinit(&set);
}

/* Chooses among files; the first is the executable. */
static size_t choose(const char *const *paths, size_t num_paths, struct allocator_set *chosen)
{
    struct allocator_set sets[8];
    struct allocator_candidate candidates[8];
    size_t num;

    for (size_t i = 0; i < num_paths; i++) {
        open_set(paths[i], &sets[i]);
        candidates[i] = (struct allocator_candidate){&sets[i], i == 0};
    }
    assert_success(allocator_choose(candidates, num_paths, chosen, &num));
    for (size_t i = 0; i < num_paths; i++)
        allocator_set_deinit(&sets[i]);
    return num;
}

static void each_function_is_chosen_once(const struct allocator_set *set)
{
    for (size_t i = 1; i < set->num_functions; i++)
        assert_true(set->functions[i].elf_addr > set->functions[i - 1].elf_addr);
}

static void libc_counts_when_there_is_no_other(void **state)
{
    static const char *const paths[] = {"/bin/true", LIBRARIES "libc.so.6",
                                        LIBRARIES "libstdc++.so.6", "/lib64/ld-linux-x86-64.so.2"};
    struct allocator_set chosen[4];

    (void)state;
    assert_true(choose(paths, 4, chosen) >= 9);
    each_function_is_chosen_once(&chosen[1]);
    assert_non_null(find(&chosen[1], "malloc"));
    assert_non_null(find(&chosen[1], "free"));
    assert_null(find(&chosen[1], "cfree")); /* an alias of free */
    /* operator new of libstdc++ calls malloc, which counts. */
    assert_int_equal(chosen[2].num_functions, 0);
    assert_int_equal(chosen[0].num_functions + chosen[3].num_functions, 0);
    allocator_set_deinit(&chosen[1]);
}

static void other_allocators_come_before_libc(void **state)
{
    static const char *const allocators[] = {LIBRARIES "libjemalloc.so.2",
                                             LIBRARIES "libtcmalloc_minimal.so.4",
                                             LIBRARIES "libmimalloc.so.2"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const char *paths[] = {"/bin/true", LIBRARIES "libc.so.6", allocators[i]};
        struct allocator_set chosen[3];

        assert_true(choose(paths, 3, chosen) > 10);
        each_function_is_chosen_once(&chosen[2]);
        assert_non_null(find(&chosen[2], "malloc"));
        assert_null(find(&chosen[1], "malloc"));
        assert_null(find(&chosen[1], "free"));
        assert_null(find(&chosen[1], "cfree"));
        for (size_t j = 0; j < chosen[2].num_functions; j++) {
            const struct allocator_function *function = &chosen[2].functions[j];

            if (strcmp(function->name, "_Znwm") == 0 || strcmp(function->name, "_Znam") == 0)
                assert_int_equal(function->role, ALLOCATOR_NEW);
        }
        allocator_set_deinit(&chosen[1]);
        allocator_set_deinit(&chosen[2]);
    }
}

static void files_without_names_have_none(void **state)
{
    static const char *const paths[] = {"/bin/true"};
    struct allocator_set chosen[1];
    struct allocator_set set;
    struct module *module;

    (void)state;
    assert_int_equal(choose(paths, 1, chosen), 0);
    assert_success(module_table_open_path(table, "/etc/passwd", &module));
    assert_success(allocator_find(module, &set));
    assert_int_equal(set.num_functions, 0);
    assert_error(allocator_missing("process 7 (x)"), ERROR_UNSUPPORTED, "process 7 (x)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_have_roles),
        cmocka_unit_test(arguments_fit_the_roles),
        cmocka_unit_test_setup_teardown(own_functions_are_found, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(libc_is_known, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(libc_counts_when_there_is_no_other, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(other_allocators_come_before_libc, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(files_without_names_have_none, table_setup, table_teardown),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
