/* Output files are complete or not there; what was there stays until then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

static char dir[64];
static char target_path[128];

static int dir_create(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/cprofiler-test-output-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(target_path, sizeof(target_path), "%s/out", dir);
    return 0;
}

static int dir_remove(void **state)
{
    CLEANUP(closedir) DIR *stream = opendir(dir);
    const struct dirent *entry;

    (void)state;
    while (stream && (entry = readdir(stream)))
        unlinkat(dirfd(stream), entry->d_name, 0);
    return rmdir(dir);
}

static size_t dir_count(void)
{
    CLEANUP(closedir) DIR *stream = opendir(dir);
    const struct dirent *entry;
    size_t count = 0;

    while ((entry = readdir(stream)))
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    return count;
}

static void write_plain(const char *path, const char *text)
{
    CLEANUP(close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void assert_content(const char *path, const char *expected)
{
    CLEANUP(free) char *content = NULL;

    assert_null(file_read_all(AT_FDCWD, path, 1000, &content, NULL));
    assert_string_equal(content, expected);
}

static struct file_output *begin(const char *path, const char *text)
{
    struct file_output *output = NULL;

    assert_null(file_output_open(path, &output));
    assert_null(file_write_all(file_output_fd(output), text, strlen(text), path));
    return output;
}

static mode_t file_mode(const char *path)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    return status.st_mode & 07777;
}

static void appears_only_at_commit(void **state)
{
    uint64_t num_bytes = 0;

    (void)state;
    struct file_output *output = begin(target_path, "hello");
    assert_int_equal(access(target_path, F_OK), -1);
    assert_int_equal(dir_count(), 1);
    assert_null(file_output_commit_take(output, &num_bytes));
    assert_int_equal(num_bytes, 5);
    assert_content(target_path, "hello");
    assert_int_equal(dir_count(), 1);
}

static void umask_decides_the_mode(void **state)
{
    mode_t old = umask(027);

    (void)state;
    assert_null(file_output_commit_take(begin(target_path, "x"), NULL));
    umask(old);
    assert_int_equal(file_mode(target_path), 0640);
}

static void replaced_file_keeps_its_mode(void **state)
{
    (void)state;
    write_plain(target_path, "old");
    assert_int_equal(chmod(target_path, 0604), 0);
    assert_null(file_output_commit_take(begin(target_path, "new"), NULL));
    assert_content(target_path, "new");
    assert_int_equal(file_mode(target_path), 0604);
}

static void old_file_stays_when_thrown_away(void **state)
{
    (void)state;
    write_plain(target_path, "old");
    file_output_destroy(begin(target_path, "new"));
    assert_content(target_path, "old");
    assert_int_equal(dir_count(), 1);
    file_output_destroy(NULL);
}

static void symbolic_link_is_followed(void **state)
{
    char link_path[160];
    char other_path[160];
    struct stat status;

    (void)state;
    snprintf(link_path, sizeof(link_path), "%s/link", dir);
    snprintf(other_path, sizeof(other_path), "%s/link2", dir);
    assert_int_equal(symlink("link2", link_path), 0);
    assert_int_equal(symlink(target_path, other_path), 0);
    assert_null(file_output_commit_take(begin(link_path, "1"), NULL)); /* out is not there yet */
    assert_content(target_path, "1");
    assert_null(file_output_commit_take(begin(link_path, "2"), NULL));
    assert_content(target_path, "2");
    assert_int_equal(lstat(link_path, &status), 0);
    assert_true(S_ISLNK(status.st_mode));
}

static void link_in_a_circle_is_an_error(void **state)
{
    struct file_output *output = NULL;

    (void)state;
    assert_int_equal(symlink("out", target_path), 0);
    CLEANUP(error_destroy) struct error *err = file_output_open(target_path, &output);
    assert_int_equal(err->errno_value, ELOOP);
}

static void device_is_written_in_place(void **state)
{
    struct stat before;
    struct stat after;

    (void)state;
    assert_int_equal(stat("/dev/null", &before), 0);
    assert_null(file_output_commit_take(begin("/dev/null", "x"), NULL));
    assert_int_equal(stat("/dev/null", &after), 0);
    assert_true(S_ISCHR(after.st_mode));
    assert_int_equal(before.st_ino, after.st_ino);
}

static void full_device_fails_with_enospc(void **state)
{
    struct file_output *output = NULL;

    (void)state;
    assert_null(file_output_open("/dev/full", &output));
    CLEANUP(error_destroy)
    struct error *err = file_write_all(file_output_fd(output), "x", 1, "/dev/full");
    assert_non_null(err);
    assert_int_equal(err->errno_value, ENOSPC);
    file_output_destroy(output);
    assert_int_equal(access("/dev/full", F_OK), 0);
}

static void fifo_is_written_in_place(void **state)
{
    char buffer[8] = {0};
    struct stat status;

    (void)state;
    assert_int_equal(mkfifo(target_path, 0600), 0);
    CLEANUP(close) int reader = open(target_path, O_RDONLY | O_NONBLOCK);
    assert_null(file_output_commit_take(begin(target_path, "abc"), NULL));
    assert_int_equal(read(reader, buffer, sizeof(buffer)), 3);
    assert_string_equal(buffer, "abc");
    assert_int_equal(stat(target_path, &status), 0);
    assert_true(S_ISFIFO(status.st_mode));
}

static void fifo_without_reader_is_told_at_once(void **state)
{
    struct file_output *output = NULL;

    (void)state;
    assert_int_equal(mkfifo(target_path, 0600), 0);
    CLEANUP(error_destroy) struct error *err = file_output_open(target_path, &output);
    assert_non_null(err);
    assert_non_null(err->hint);
}

static void refuses_what_is_no_file_name(void **state)
{
    static const char *const names[] = {"", "-"};
    struct file_output *output = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        CLEANUP(error_destroy) struct error *err = file_output_open(names[i], &output);
        assert_int_equal(err->kind, ERROR_USAGE);
        assert_non_null(err->hint);
    }
    assert_null(output);
}

static void assert_refused(const char *path, int errno_value)
{
    struct file_output *output = NULL;
    CLEANUP(error_destroy) struct error *err = file_output_open(path, &output);

    assert_non_null(err);
    assert_null(output);
    assert_int_equal(err->errno_value, errno_value);
    assert_non_null(err->hint);
    assert_non_null(strstr(err->message, path));
}

static void refuses_directories_and_missing_ones(void **state)
{
    char path[160];

    (void)state;
    assert_refused(dir, EISDIR);
    snprintf(path, sizeof(path), "%s/", dir);
    assert_refused(path, EISDIR);
    snprintf(path, sizeof(path), "%s/new/", dir);
    assert_refused(path, EISDIR);
    snprintf(path, sizeof(path), "%s/missing/out", dir);
    assert_refused(path, ENOENT);
    write_plain(target_path, "x");
    snprintf(path, sizeof(path), "%s/out/file", dir);
    assert_refused(path, ENOTDIR);
    snprintf(path, sizeof(path), "%s/out/", dir);
    assert_refused(path, ENOTDIR);
    assert_content(target_path, "x");
}

/* Runs `body` as nobody, since root may write everywhere. Returns: its exit status. */
static int run_unprivileged(int (*body)(void))
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
            _exit(99);
        _exit(body());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int try_open(void)
{
    struct file_output *output = NULL;
    CLEANUP(error_destroy) struct error *err = file_output_open(target_path, &output);
    int result = err ? (err->kind == ERROR_PERMISSION && err->hint ? 1 : 2) : 0;

    file_output_destroy(output);
    return result;
}

static void unwritable_places_are_found_before_the_work(void **state)
{
    (void)state;
    assert_int_equal(chmod(dir, 0555), 0);
    assert_int_equal(run_unprivileged(try_open), 1);
    assert_int_equal(chmod(dir, 0777), 0);
    assert_int_equal(run_unprivileged(try_open), 0);
    write_plain(target_path, "x");
    assert_int_equal(chmod(target_path, 0444), 0);
    assert_int_equal(run_unprivileged(try_open), 1);
    assert_int_equal(dir_count(), 1);
}

static void links_of_proc_are_written_in_place(void **state)
{
    char path[64];
    char buffer[8] = {0};
    int pipe_fds[2];

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0); /* as the shell's >(command) does it */
    snprintf(path, sizeof(path), "/dev/fd/%d", pipe_fds[1]);
    assert_null(file_output_commit_take(begin(path, "abc"), NULL));
    assert_int_equal(read(pipe_fds[0], buffer, sizeof(buffer)), 3);
    close(pipe_fds[0]);
    close(pipe_fds[1]);

    CLEANUP(close) int fd = open(target_path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(unlink(target_path), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_null(file_output_commit_take(begin(path, "def"), NULL));
    assert_int_equal(pread(fd, buffer, sizeof(buffer), 0), 3);
    assert_string_equal(buffer, "def");
    assert_int_equal(dir_count(), 0);
}

static void emergency_removes_temporary_files_only(void **state)
{
    (void)state;
    write_plain(target_path, "old");
    struct file_output *output = begin(target_path, "new");
    assert_int_equal(dir_count(), 2);
    file_output_emergency_unlink();
    assert_int_equal(dir_count(), 1);
    assert_content(target_path, "old");
    file_output_destroy(output);
    file_output_emergency_unlink();
    assert_content(target_path, "old");
}

static void relative_names_hold_after_chdir(void **state)
{
    CLEANUP(close) int old_dir = open(".", O_RDONLY | O_DIRECTORY);

    (void)state;
    assert_int_equal(chdir(dir), 0);
    struct file_output *output = begin("out", "x");
    assert_int_equal(fchdir(old_dir), 0);
    assert_null(file_output_commit_take(output, NULL));
    assert_content(target_path, "x");
}

static void failed_rename_leaves_nothing(void **state)
{
    (void)state;
    struct file_output *output = begin(target_path, "x");
    assert_int_equal(mkdir(target_path, 0700), 0); /* comes in between */
    CLEANUP(error_destroy) struct error *err = file_output_commit_take(output, NULL);
    assert_non_null(err);
    assert_int_equal(dir_count(), 1);
    assert_int_equal(rmdir(target_path), 0);
}

static void several_outputs_at_once(void **state)
{
    struct file_output *outputs[40];
    char path[160];

    (void)state;
    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof(path), "%s/out%d", dir, i);
        outputs[i] = begin(path, "x");
    }
    for (int i = 0; i < 40; i++)
        assert_null(file_output_commit_take(outputs[i], NULL));
    assert_int_equal(dir_count(), 40);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(appears_only_at_commit, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(umask_decides_the_mode, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(replaced_file_keeps_its_mode, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(old_file_stays_when_thrown_away, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(symbolic_link_is_followed, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(link_in_a_circle_is_an_error, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(device_is_written_in_place, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(full_device_fails_with_enospc, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(fifo_is_written_in_place, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(fifo_without_reader_is_told_at_once, dir_create,
                                        dir_remove),
        cmocka_unit_test_setup_teardown(refuses_what_is_no_file_name, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(refuses_directories_and_missing_ones, dir_create,
                                        dir_remove),
        cmocka_unit_test_setup_teardown(unwritable_places_are_found_before_the_work, dir_create,
                                        dir_remove),
        cmocka_unit_test_setup_teardown(links_of_proc_are_written_in_place, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(emergency_removes_temporary_files_only, dir_create,
                                        dir_remove),
        cmocka_unit_test_setup_teardown(relative_names_hold_after_chdir, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(failed_rename_leaves_nothing, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(several_outputs_at_once, dir_create, dir_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
