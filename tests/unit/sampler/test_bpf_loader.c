/* The loader of our own BPF programs: finds what is there, and fails by name on what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/bpf.h>
#include <unistd.h>

#include "sampler/bpf_loader.h"
#include "tests/unit/skip.h"

#if HAVE_BPF

/* The real thing, as sampler/bpf_filter.c embeds it. */
__asm__(".pushsection .rodata\n"
        ".balign 8\n"
        "tested_object:\n"
        ".incbin \"sampler/bpf/filter.bpf.o\"\n"
        "tested_object_limit:\n"
        ".balign 8\n"
        "tested_object_bytes:\n"
        ".quad tested_object_limit - tested_object\n"
        ".popsection\n");
extern const uint8_t tested_object[];
extern const uint64_t tested_object_bytes;

static struct bpf_image real_image(void)
{
    return (struct bpf_image){tested_object, tested_object_bytes};
}

/* Without rights the kernel refuses before it looks; then only names can be tested. */
static void assert_opened(int fd)
{
    if (fd == -EPERM)
        SKIP("loading BPF programs is not permitted");
    assert_true(fd >= 0);
    close(fd);
}

static void a_declared_map_is_created(void **state)
{
    struct bpf_image image = real_image();

    (void)state;
    assert_opened(bpf_loader_create_map(&image, "unfollowed", 0, 0));
}

static void an_unknown_map_is_told(void **state)
{
    struct bpf_image image = real_image();

    (void)state;
    assert_int_equal(bpf_loader_create_map(&image, "no such map", 0, 0), -ENOENT);
    assert_int_equal(bpf_loader_create_map(&image, "filter_sample", 0, 0), -ENOENT);
}

static void an_unknown_section_is_told(void **state)
{
    struct bpf_image image = real_image();

    (void)state;
    assert_int_equal(bpf_loader_load(&image, "perf_event/none", 0, NULL, 0), -ENOENT);
}

static void a_symbol_that_nobody_gives_is_told(void **state)
{
    struct bpf_image image = real_image();

    (void)state;
    assert_int_equal(bpf_loader_load(&image, "perf_event", 0, NULL, 0), -ENOENT);
}

static void a_program_hangs_only_on_what_its_section_names(void **state)
{
    (void)state;
    assert_int_equal(bpf_loader_attach("perf_event", -1), -EINVAL);
    assert_true(bpf_loader_attach("raw_tracepoint/sched_process_fork", -1) < 0);
}

/* A copy in memory of its own, so that a sanitizer sees every byte that is read beyond it. */
static uint8_t *copy_of(size_t num_bytes)
{
    uint8_t *bytes = malloc(num_bytes + 1);

    assert_non_null(bytes);
    memcpy(bytes, tested_object, num_bytes);
    return bytes;
}

static void use_all(const struct bpf_image *image)
{
    static const struct bpf_symbol symbols[] = {{"processes", 1000000}, {"unfollowed", 1000000}};

    /* No descriptor is that high: the kernel refuses what gets so far. */
    assert_true(bpf_loader_load(image, "perf_event", 0, symbols, 2) < 0);
    assert_true(bpf_loader_load(image, "raw_tracepoint/sched_process_fork", 0, symbols, 2) < 0);
}

static void a_cut_image_is_refused(void **state)
{
    (void)state;
    for (size_t num_bytes = 0; num_bytes < tested_object_bytes; num_bytes++) {
        uint8_t *bytes = copy_of(num_bytes);
        struct bpf_image image = {bytes, num_bytes};

        use_all(&image);
        assert_true(bpf_loader_create_map(&image, "processes", 0, 0) < 0);
        free(bytes);
    }
}

static void an_image_with_a_wrong_byte_harms_nobody(void **state)
{
    (void)state;
    for (size_t i = 0; i < tested_object_bytes; i++) {
        uint8_t *bytes = copy_of(tested_object_bytes);
        struct bpf_image image = {bytes, tested_object_bytes};

        bytes[i] ^= 0xff;
        use_all(&image);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_declared_map_is_created),
        cmocka_unit_test(an_unknown_map_is_told),
        cmocka_unit_test(an_unknown_section_is_told),
        cmocka_unit_test(a_symbol_that_nobody_gives_is_told),
        cmocka_unit_test(a_program_hangs_only_on_what_its_section_names),
        cmocka_unit_test(a_cut_image_is_refused),
        cmocka_unit_test(an_image_with_a_wrong_byte_harms_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    return 0;
}

#endif
