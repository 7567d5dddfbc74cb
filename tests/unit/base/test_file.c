/* Reading whole files, writing all bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

static void reads_procfs_though_its_size_is_zero(void **state)
{
    CLEANUP(free) char *content = NULL;
    size_t num_bytes = 0;

    (void)state;
    assert_null(file_read_all(AT_FDCWD, "/proc/self/status", 1 << 20, &content, &num_bytes));
    assert_true(num_bytes > 100);
    assert_int_equal(content[num_bytes], 0);
    assert_non_null(strstr(content, "Pid:"));
}

static void reads_files_of_every_size_around_the_step(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8191, 8192, 100000};
    char path[] = "/tmp/cprofiler-test-file-XXXXXX";
    CLEANUP(close) int fd = mkstemp(path);

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
        CLEANUP(free) char *content = NULL;
        size_t num_bytes = 1;
        CLEANUP(free) char *bytes = malloc(sizes[i] + 1);
        memset(bytes, 'a' + (int)i, sizes[i] + 1);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_null(file_write_all(fd, bytes, sizes[i], path));
        assert_null(file_read_all(AT_FDCWD, path, sizes[i], &content, &num_bytes));
        assert_int_equal(num_bytes, sizes[i]);
        assert_memory_equal(content, bytes, sizes[i]);
        assert_int_equal(content[sizes[i]], 0);
    }
    unlink(path);
}

static void reads_relative_to_a_directory(void **state)
{
    CLEANUP(close) int dir_fd = open("/proc/self", O_RDONLY | O_DIRECTORY);
    CLEANUP(free) char *content = NULL;

    (void)state;
    assert_null(file_read_all(dir_fd, "comm", 100, &content, NULL));
    assert_true(strlen(content) > 1);
}

static void stops_at_the_limit(void **state)
{
    char *content = NULL;

    (void)state;
    CLEANUP(error_destroy)
    struct error *err = file_read_all(AT_FDCWD, "/dev/zero", 10000, &content, NULL);
    assert_non_null(err);
    assert_non_null(strstr(err->message, "/dev/zero"));
    assert_null(content);
}

static void missing_file_is_named(void **state)
{
    char *content = NULL;

    (void)state;
    CLEANUP(error_destroy)
    struct error *err = file_read_all(AT_FDCWD, "/no/such/file", 10, &content, NULL);
    assert_int_equal(err->kind, ERROR_NOT_FOUND);
    assert_string_equal(err->message, "/no/such/file: No such file or directory");
}

static void a_directory_is_an_error(void **state)
{
    char *content = NULL;

    (void)state;
    CLEANUP(error_destroy) struct error *err = file_read_all(AT_FDCWD, "/tmp", 10, &content, NULL);
    assert_int_equal(err->errno_value, EISDIR);
}

static void a_fifo_without_writer_does_not_hang(void **state)
{
    char path[64];
    char *content = NULL;

    (void)state;
    snprintf(path, sizeof(path), "/tmp/cprofiler-test-fifo-%d", getpid());
    assert_int_equal(mkfifo(path, 0600), 0);
    error_destroy(file_read_all(AT_FDCWD, path, 10, &content, NULL));
    free(content);
    unlink(path);
}

static void full_device_is_enospc(void **state)
{
    CLEANUP(close) int fd = open("/dev/full", O_WRONLY);

    (void)state;
    CLEANUP(error_destroy) struct error *err = file_write_all(fd, "x", 1, "/dev/full");
    assert_int_equal(err->errno_value, ENOSPC);
    assert_null(file_write_all(fd, NULL, 0, "/dev/full"));
}

static void *slow_reader(void *fd)
{
    char buffer[1000];
    size_t total = 0;
    ssize_t num_read;

    while ((num_read = read(*(int *)fd, buffer, sizeof(buffer))) > 0)
        total += (size_t)num_read;
    return (void *)total;
}

static void short_writes_are_continued(void **state)
{
    int pipe_fds[2];
    size_t num_bytes = 1 << 20;
    CLEANUP(free) char *bytes = calloc(1, num_bytes);
    pthread_t thread;
    void *total = NULL;

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(pthread_create(&thread, NULL, slow_reader, &pipe_fds[0]), 0);
    assert_null(file_write_all(pipe_fds[1], bytes, num_bytes, "pipe"));
    close(pipe_fds[1]);
    pthread_join(thread, &total);
    assert_int_equal((size_t)total, num_bytes);
    close(pipe_fds[0]);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_procfs_though_its_size_is_zero),
        cmocka_unit_test(reads_files_of_every_size_around_the_step),
        cmocka_unit_test(reads_relative_to_a_directory),
        cmocka_unit_test(stops_at_the_limit),
        cmocka_unit_test(missing_file_is_named),
        cmocka_unit_test(a_directory_is_an_error),
        cmocka_unit_test(a_fifo_without_writer_does_not_hang),
        cmocka_unit_test(full_device_is_enospc),
        cmocka_unit_test(short_writes_are_continued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
