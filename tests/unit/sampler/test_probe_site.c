/* Where breakpoints go: in hand-made code, and in the allocators that are in use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sampler/probe_site.h"
#include "sampler/x86_insn.h"

#define LIBRARIES "/usr/lib/x86_64-linux-gnu/"
#define CODE(text) (const uint8_t *)(text), sizeof(text) - 1

static void assert_success(struct error *err)
{
    if (err)
        fail_msg("%s", err->message);
}

static void assert_slide(const uint8_t *code, size_t num_bytes, enum allocator_role role,
                         size_t offset, bool is_stepped)
{
    struct probe_slide slide;

    assert_true(probe_site_slide(code, num_bytes, role, &slide));
    assert_int_equal(slide.offset, offset);
    assert_int_equal(slide.is_stepped, is_stepped);
    assert_int_equal(slide.role, role);
}

static void an_emulated_entry_is_the_site(void **state)
{
    (void)state;
    assert_slide(CODE("\x55\xc3"), ALLOCATOR_MALLOC, 0, false);           /* push rbp */
    assert_slide(CODE("\x41\x54\xc3"), ALLOCATOR_MALLOC, 0, false);       /* push r12 */
    assert_slide(CODE("\xe9\x00\x01\x00\x00"), ALLOCATOR_FREE, 0, false); /* jmp */
    assert_slide(CODE("\xeb\x10"), ALLOCATOR_FREE, 0, false);
    assert_slide(CODE("\x90\xc3"), ALLOCATOR_NEW, 0, false);
    assert_slide(CODE("\xe8\x00\x01\x00\x00"), ALLOCATOR_REALLOC, 0, false);
    assert_slide(CODE("\xf2\xe9\x00\x01\x00\x00"), ALLOCATOR_FREE, 0, false); /* bnd jmp */
}

static void the_first_emulated_instruction_is_taken(void **state)
{
    (void)state;
    /* glibc's free: test rdi,rdi; je */
    assert_slide(CODE("\x48\x85\xff\x0f\x84\xb7\x00\x00\x00\xc3"), ALLOCATOR_FREE, 3, false);
    /* endbr64; push rbx */
    assert_slide(CODE("\xf3\x0f\x1e\xfa\x53\xc3"), ALLOCATOR_MALLOC, 4, false);
    /* a nop of five bytes, push */
    assert_slide(CODE("\x0f\x1f\x44\x00\x00\x53\xc3"), ALLOCATOR_MALLOC, 5, false);
    /* mov rax,[rip+x]; cmp rdi,fs:[rax]; ja */
    assert_slide(CODE("\x48\x8b\x05\x00\x00\x00\x00\x64\x48\x3b\x38\x77\x05\xc3"), ALLOCATOR_MALLOC,
                 11, false);
    /* what writes an argument that the role has not: xor esi,esi; jmp */
    assert_slide(CODE("\x31\xf6\xeb\x10"), ALLOCATOR_MALLOC, 2, false);
}

static void arguments_and_stack_must_be_as_at_the_entry(void **state)
{
    (void)state;
    /* xor esi,esi; jmp: of a realloc, that was the size */
    assert_slide(CODE("\x31\xf6\xeb\x10"), ALLOCATOR_REALLOC, 0, true);
    /* sub rsp,8; je: the return address is no longer where a return probe looks for it */
    assert_slide(CODE("\x48\x83\xec\x08\x74\x10"), ALLOCATOR_MALLOC, 0, true);
    assert_slide(CODE("\x48\x83\xec\x08\x74\x10"), ALLOCATOR_FREE, 4, false);
    /* cpuid may write what it likes */
    assert_slide(CODE("\x0f\xa2\x53"), ALLOCATOR_MALLOC, 0, true);
    /* lea rdi,[rdi+7]; push */
    assert_slide(CODE("\x48\x8d\x7f\x07\x53"), ALLOCATOR_FREE, 0, true);
    /* movzx edi,dil; push */
    assert_slide(CODE("\x40\x0f\xb6\xff\x53"), ALLOCATOR_MALLOC, 0, true);
    /* vmovd xmm0,edi: not known well enough */
    assert_slide(CODE("\xc5\xf9\x6e\xc7\x53"), ALLOCATOR_MALLOC, 0, true);
}

static void a_moved_size_is_found(void **state)
{
    struct probe_slide slide;

    (void)state;
    /* mimalloc's malloc: mov rsi,rdi; mov rdi,fs:[rax]; cmp rsi,1024; ja */
    assert_true(probe_site_slide(
        CODE("\x48\x89\xfe\x64\x48\x8b\x38\x48\x81\xfe\x00\x04\x00\x00\x77\x05\xc3"),
        ALLOCATOR_MALLOC, &slide));
    assert_int_equal(slide.offset, 14);
    assert_false(slide.is_stepped);
    assert_int_equal(slide.role, ALLOCATOR_MEMALIGN);
    /* mimalloc's calloc: mov rax,rdi; mov rdi,fs:[rdx]; cmp rax,1; je */
    assert_true(probe_site_slide(CODE("\x48\x89\xf8\x64\x48\x8b\x3a\x48\x83\xf8\x01\x74\x05\xc3"),
                                 ALLOCATOR_CALLOC, &slide));
    assert_int_equal(slide.offset, 11);
    assert_int_equal(slide.role, ALLOCATOR_CALLOC_MOVED);
    /* mov rcx,rdi; mov rdi,rcx; jmp: there and back */
    assert_slide(CODE("\x48\x89\xf9\x48\x89\xcf\xeb\x05"), ALLOCATOR_FREE, 6, false);
    /* mov esi,edi is not all of it */
    assert_slide(CODE("\x89\xfe\x31\xff\x77\x05\xc3"), ALLOCATOR_MALLOC, 0, true);
}

static void nothing_behind_a_branch_or_a_loop_is_taken(void **state)
{
    (void)state;
    /* ret; push */
    assert_slide(CODE("\xc3\x53"), ALLOCATOR_MALLOC, 0, true);
    /* jmp through a slot; push */
    assert_slide(CODE("\xff\x25\x00\x00\x00\x00\x53"), ALLOCATOR_MALLOC, 0, true);
    /* ud2 */
    assert_slide(CODE("\x0f\x0b\x53"), ALLOCATOR_MALLOC, 0, true);
    /* a: test rdi,rdi; b: je c; dec; jmp b; c: ret: b is passed more than once */
    assert_slide(CODE("\x48\x85\xff\x74\x04\x31\xc0\xeb\xfa\xc3"), ALLOCATOR_FREE, 0, true);
    /* the same, but back to the instruction after it */
    assert_slide(CODE("\x48\x85\xff\x74\x04\x31\xc0\xeb\xfc\xc3"), ALLOCATOR_FREE, 3, false);
}

static void what_is_not_emulated_is_not_taken_for_it(void **state)
{
    (void)state;
    assert_slide(CODE("\x41\x90\x31\xff"), ALLOCATOR_MALLOC, 0, true);         /* xchg r8,rax */
    assert_slide(CODE("\x66\x53\x31\xff"), ALLOCATOR_MALLOC, 0, true);         /* push bx */
    assert_slide(CODE("\x48\x53\x31\xff"), ALLOCATOR_MALLOC, 0, true);         /* rex.W push rbx */
    assert_slide(CODE("\x66\xe9\x00\x00\x00\x00"), ALLOCATOR_MALLOC, 0, true); /* jmp with 66 */
    assert_slide(CODE("\xe3\x05\x31\xff"), ALLOCATOR_MALLOC, 0, true);         /* jrcxz */
    assert_slide(CODE("\x85\xff\x2e\x74\x05\xc3"), ALLOCATOR_MALLOC, 0, true); /* cs je */
}

static void code_without_a_place_is_refused(void **state)
{
    static const char *const codes[] = {
        "\xf0\x48\x0f\xb1\x17", "\x2e\x74\x05", "\xcc", "\xf4", "\x06", "\x48"};
    struct probe_slide slide;

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        assert_false(probe_site_slide((const uint8_t *)codes[i], strlen(codes[i]), ALLOCATOR_MALLOC,
                                      &slide));
    assert_false(probe_site_slide(NULL, 0, ALLOCATOR_MALLOC, &slide));
}

static void branches_and_slots_have_targets(void **state)
{
    static const struct {
        const char *code;
        size_t num_bytes;
        enum x86_kind kind;
        int64_t target;
    } rows[] = {
        {"\x74\xfe", 2, X86_JCC, 0},
        {"\x0f\x84\x00\x01\x00\x00", 6, X86_JCC, 0x106},
        {"\xeb\x7f", 2, X86_JMP, 0x81},
        {"\xe9\xfb\xff\xff\xff", 5, X86_JMP, 0},
        {"\xe8\x00\x00\x00\x80", 5, X86_CALL, 5 - (INT64_C(1) << 31)},
        {"\xff\x25\x10\x00\x00\x00", 6, X86_JMP_SLOT, 0x16},
        {"\xf2\xff\x25\x10\x00\x00\x00", 7, X86_JMP_SLOT, 0x17},
        {"\xff\x15\xf0\xff\xff\xff", 6, X86_CALL_SLOT, -10},
        {"\xe2\xfc", 2, X86_LOOP, -2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct x86_insn insn;

        assert_true(x86_insn_decode((const uint8_t *)rows[i].code, rows[i].num_bytes, &insn));
        assert_int_equal(insn.num_bytes, rows[i].num_bytes);
        assert_int_equal(insn.kind, rows[i].kind);
        assert_true(insn.target == rows[i].target);
        for (size_t j = 0; j < rows[i].num_bytes; j++)
            assert_false(x86_insn_decode((const uint8_t *)rows[i].code, j, &insn));
    }
}

/* The sites of `path` as the only allocator of a process, beside libc when `has_libc`. */
static void make_sites(const char *path, bool has_libc, struct heap_sites *sites_ret,
                       struct heap_sites *libc_sites_ret)
{
    const char *const paths[] = {"/bin/true", path, LIBRARIES "libc.so.6"};
    struct allocator_candidate candidates[3];
    struct allocator_set sets[3], chosen[3];
    struct module_table *table;
    struct module *modules[3];
    size_t num_modules = has_libc ? 3 : 2, num;

    assert_success(module_table_create(&table));
    for (size_t i = 0; i < num_modules; i++) {
        assert_success(module_table_open_path(table, paths[i], &modules[i]));
        assert_success(allocator_find(modules[i], &sets[i]));
        candidates[i] = (struct allocator_candidate){&sets[i], i == 0};
    }
    assert_success(allocator_choose(candidates, num_modules, chosen, &num));
    assert_success(heap_sites_make(modules[1], &chosen[1], sites_ret));
    if (has_libc)
        assert_success(heap_sites_make(modules[2], &chosen[2], libc_sites_ret));
    for (size_t i = 0; i < num_modules; i++) {
        allocator_set_deinit(&sets[i]);
        allocator_set_deinit(&chosen[i]);
    }
    module_table_destroy(table);
}

static const struct heap_site *site_of(const struct heap_sites *sites, const char *name)
{
    for (size_t i = 0; i < sites->num_sites; i++)
        if (strcmp(sites->sites[i].name, name) == 0)
            return &sites->sites[i];
    return NULL;
}

/* Checks that each of the named functions has a site that the kernel emulates. */
static void assert_emulated(const struct heap_sites *sites, const char *const *names)
{
    for (; *names; names++) {
        const struct heap_site *site = site_of(sites, *names);

        if (!site || site->is_stepped) {
            fail_msg("%s: %s", *names, site ? "stepped" : "no site");
            return; /* for clang-tidy: fail_msg() does not come back */
        }
        assert_true(site->file_off >= site->entry_off && site->file_off < site->entry_off + 256);
    }
    assert_int_equal(sites->num_refused, 0);
    assert_int_equal(sites->num_counted_twice, 0);
}

static void glibc_has_good_sites(void **state)
{
    static const char *const names[] = {"malloc",         "calloc", "realloc", "free", "memalign",
                                        "posix_memalign", "valloc", "pvalloc", NULL};
    const struct heap_site *malloc_site, *realloc_site;
    struct heap_sites sites;
    int64_t realloc_start;

    (void)state;
    make_sites(LIBRARIES "libc.so.6", false, &sites, NULL);
    assert_emulated(&sites, names);
    malloc_site = site_of(&sites, "malloc");
    realloc_site = site_of(&sites, "realloc");
    /* realloc(NULL, n) jumps to malloc; a realloc that moves calls it. */
    assert_true(realloc_site->null_passes_on);
    assert_int_equal(malloc_site->num_callers, 2);
    realloc_start = (int64_t)(realloc_site->entry_off - malloc_site->file_off);
    assert_true(malloc_site->callers[0].start == realloc_start);
    assert_true(malloc_site->callers[0].limit > realloc_start + 256);
    /* posix_memalign calls, by way of an internal function. */
    assert_true(malloc_site->callers[1].start ==
                (int64_t)(site_of(&sites, "posix_memalign")->entry_off - malloc_site->file_off));
    assert_int_equal(site_of(&sites, "free")->num_callers, 0);
    /* It jumps to malloc, by way of the same function, when its alignment is enough. */
    assert_true(site_of(&sites, "memalign")->small_passes_on);
    assert_false(site_of(&sites, "posix_memalign")->small_passes_on);
    assert_false(malloc_site->small_passes_on);
    assert_false(site_of(&sites, "calloc")->small_passes_on);
    /* It is realloc with a check before it. */
    assert_null(site_of(&sites, "reallocarray"));
    assert_int_equal(sites.num_passed_on, 1);
    heap_sites_deinit(&sites);
}

static void musl_has_good_sites(void **state)
{
    static const char *const names[] = {"malloc",        "calloc",         "realloc", "free",
                                        "aligned_alloc", "posix_memalign", NULL};
    struct heap_sites sites;

    (void)state;
    make_sites("/lib/ld-musl-x86_64.so.1", false, &sites, NULL);
    /* calloc and posix_memalign call others of these, but no stack leads out of them. */
    assert_emulated(&sites, names);
    assert_null(site_of(&sites, "memalign"));
    assert_null(site_of(&sites, "reallocarray"));
    heap_sites_deinit(&sites);
}

static void jemalloc_has_good_sites(void **state)
{
    static const char *const names[] = {"malloc",  "calloc",   "realloc",        "free",
                                        "mallocx", "sdallocx", "posix_memalign", "aligned_alloc",
                                        "_Znwm",   NULL};
    struct heap_sites sites, libc_sites;

    (void)state;
    make_sites(LIBRARIES "libjemalloc.so.2", true, &sites, &libc_sites);
    assert_emulated(&sites, names);
    assert_true(site_of(&sites, "malloc")->file_off > site_of(&sites, "malloc")->entry_off);
    assert_int_equal(site_of(&sites, "_Znwm")->role, ALLOCATOR_NEW);
    assert_null(site_of(&sites, "_ZdlPv")); /* jumps to free */
    /* reallocarray, which this jemalloc has not, is libc's: it calls jemalloc's realloc. */
    assert_null(site_of(&libc_sites, "reallocarray"));
    assert_null(site_of(&libc_sites, "malloc"));
    heap_sites_deinit(&sites);
    heap_sites_deinit(&libc_sites);
}

static void tcmalloc_has_good_sites(void **state)
{
    static const char *const names[] = {"malloc",   "calloc", "realloc", "free",
                                        "memalign", "_Znam",  NULL};
    struct heap_sites sites;

    (void)state;
    make_sites(LIBRARIES "libtcmalloc_minimal.so.4", false, &sites, NULL);
    assert_emulated(&sites, names);
    assert_null(site_of(&sites, "posix_memalign"));
    heap_sites_deinit(&sites);
}

static void mimalloc_has_good_sites(void **state)
{
    static const char *const names[] = {
        "malloc",         "calloc",          "mi_heap_calloc", "free",
        "mi_heap_malloc", "mi_heap_realloc", "_Znam",          NULL};
    struct heap_sites sites;

    (void)state;
    make_sites(LIBRARIES "libmimalloc.so.2", false, &sites, NULL);
    assert_emulated(&sites, names);
    assert_null(site_of(&sites, "realloc")); /* jumps to mi_heap_realloc */
    assert_null(site_of(&sites, "aligned_alloc"));
    heap_sites_deinit(&sites);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_emulated_entry_is_the_site),
        cmocka_unit_test(the_first_emulated_instruction_is_taken),
        cmocka_unit_test(arguments_and_stack_must_be_as_at_the_entry),
        cmocka_unit_test(a_moved_size_is_found),
        cmocka_unit_test(nothing_behind_a_branch_or_a_loop_is_taken),
        cmocka_unit_test(what_is_not_emulated_is_not_taken_for_it),
        cmocka_unit_test(code_without_a_place_is_refused),
        cmocka_unit_test(branches_and_slots_have_targets),
        cmocka_unit_test(glibc_has_good_sites),
        cmocka_unit_test(musl_has_good_sites),
        cmocka_unit_test(jemalloc_has_good_sites),
        cmocka_unit_test(tcmalloc_has_good_sites),
        cmocka_unit_test(mimalloc_has_good_sites),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
