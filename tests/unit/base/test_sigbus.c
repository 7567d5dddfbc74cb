/* A mapped file that shrinks reads as zeros. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sigbus.h"

static void shrunken_file_reads_as_zeros(void **state)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    FILE *file = tmpfile();

    (void)state;
    sigbus_guard_install();
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), (off_t)(4 * page_bytes)), 0);
    volatile char *bytes = mmap(NULL, 4 * page_bytes, PROT_READ, MAP_PRIVATE, fileno(file), 0);
    assert_ptr_not_equal((void *)bytes, MAP_FAILED);
    assert_int_equal(ftruncate(fileno(file), (off_t)page_bytes), 0);
    unsigned long before = sigbus_guard_count();
    assert_int_equal(bytes[page_bytes], 0);
    assert_int_equal(bytes[page_bytes + 100], 0);
    assert_int_equal(bytes[3 * page_bytes + 1], 0);
    assert_int_equal(sigbus_guard_count(), before + 2);
    munmap((void *)bytes, 4 * page_bytes);
    fclose(file);
}

static void a_sigbus_that_was_sent_still_kills(void **state)
{
    int status = 0;
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        sigbus_guard_install();
        raise(SIGBUS);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shrunken_file_reads_as_zeros),
        cmocka_unit_test(a_sigbus_that_was_sent_still_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
