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
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "tests/unit/skip.h"

/* Stands in for libc's: file systems without O_TMPFILE are hard to come by. */
static bool has_tmpfile = true;

int openat(int dir_fd, const char *path, int flags, ...)
{
    mode_t mode = 0;

    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if (!has_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, dir_fd, path, flags, mode);
}

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

static int dir_create_without_tmpfile(void **state)
{
    has_tmpfile = false;
    return dir_create(state);
}

static int dir_remove(void **state)
{
    has_tmpfile = true;
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
    assert_true(dir_count() <= 1);
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
    if (!has_tmpfile)
        assert_int_equal(dir_count(), 2);
    file_output_emergency_unlink();
    assert_int_equal(dir_count(), 1);
    assert_content(target_path, "old");
    file_output_destroy(output);
    file_output_emergency_unlink();
    assert_content(target_path, "old");
}

/* Leaves an output half written, as SIGKILL does. Returns: number of files left in the directory.
 */
static int killed_writer(void)
{
    struct file_output *output = NULL;
    struct error *err = file_output_open(target_path, &output);

    if (!err)
        err = file_write_all(file_output_fd(output), "new", 3, "out");
    _exit(err ? 99 : 0);
}

static void killed_in_the_middle_leaves_nothing(void **state)
{
    (void)state;
    assert_int_equal(chmod(dir, 0777), 0);
    int fd = openat(AT_FDCWD, dir, O_TMPFILE | O_RDWR, 0600);
    if (fd < 0)
        SKIP("this file system has no unnamed files");
    close(fd);
    assert_int_equal(run_unprivileged(killed_writer), 0);
    assert_int_equal(dir_count(), 0);
}

static int write_new(void)
{
    struct file_output *output = NULL;
    struct error *err = file_output_open(target_path, &output);

    if (!err)
        err = file_write_all(file_output_fd(output), "new", 3, "out");
    if (!err)
        err = file_output_commit_take(output, NULL);
    int result = err ? 1 : 0;
    error_destroy(err);
    return result;
}

static void unprivileged_users_can_write(void **state)
{
    (void)state;
    assert_int_equal(chmod(dir, 0777), 0);
    assert_int_equal(run_unprivileged(write_new), 0);
    assert_content(target_path, "new");
}

static void file_of_another_in_a_sticky_directory_is_written_over(void **state)
{
    (void)state;
    if (geteuid() != 0)
        SKIP("needs root");
    write_plain(target_path, "old and longer");
    assert_int_equal(chmod(target_path, 0666), 0);
    assert_int_equal(chmod(dir, 01777), 0);
    assert_int_equal(run_unprivileged(write_new), 0);
    assert_content(target_path, "new");
    assert_int_equal(dir_count(), 1);
}

static int write_mount_point(void)
{
    char other[160];
    struct stat before;
    struct stat after;

    snprintf(other, sizeof(other), "%s/other", dir);
    write_plain(other, "other");
    write_plain(target_path, "old and longer");
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount(other, target_path, NULL, MS_BIND, NULL))
        return 77;
    if (stat(target_path, &before) || write_new() || stat(target_path, &after))
        return 1;
    return before.st_ino == after.st_ino && after.st_size == 3 && dir_count() == 2 ? 0 : 2;
}

/* Runs `body` in a child. Its exit status 77 skips the test. */
static void run_in_child(int (*body)(void))
{
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(body());
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        SKIP("may not mount here");
    assert_int_equal(status, 0);
}

static void file_bound_into_a_container_is_written_over(void **state)
{
    (void)state;
    run_in_child(write_mount_point);
}

/* Writes more than a tmpfs of 64 KB holds. Returns: 0 when that is told and the old file stays. */
static int fill_small_disk(void)
{
    static char bytes[1 << 20];
    struct file_output *output = NULL;

    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", dir, "tmpfs", 0, "size=64k"))
        return 77;
    write_plain(target_path, "old");
    struct error *err = file_output_open(target_path, &output);
    if (err)
        return 1;
    err = file_write_all(file_output_fd(output), bytes, sizeof(bytes), target_path);
    if (!err || err->errno_value != ENOSPC)
        return 2;
    error_destroy(err);
    file_output_destroy(output);
    return dir_count() == 1 ? 0 : 3;
}

static void full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    run_in_child(fill_small_disk);
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

static void without_tmpfile_appears_only_at_commit(void **state)
{
    appears_only_at_commit(state);
}

static void without_tmpfile_replaced_file_keeps_its_mode(void **state)
{
    replaced_file_keeps_its_mode(state);
}

static void without_tmpfile_old_file_stays_when_thrown_away(void **state)
{
    old_file_stays_when_thrown_away(state);
}

static void without_tmpfile_emergency_removes_temporary_files_only(void **state)
{
    emergency_removes_temporary_files_only(state);
}

static void without_tmpfile_failed_rename_leaves_nothing(void **state)
{
    failed_rename_leaves_nothing(state);
}

static void without_tmpfile_relative_names_hold_after_chdir(void **state)
{
    relative_names_hold_after_chdir(state);
}

static void without_tmpfile_full_disk_keeps_the_old_file(void **state)
{
    full_disk_keeps_the_old_file(state);
}

static void without_tmpfile_several_outputs_at_once(void **state)
{
    several_outputs_at_once(state);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(unprivileged_users_can_write, dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(file_of_another_in_a_sticky_directory_is_written_over,
                                        dir_create, dir_remove),
        cmocka_unit_test_setup_teardown(file_bound_into_a_container_is_written_over, dir_create,
                                        dir_remove),
        cmocka_unit_test_setup_teardown(killed_in_the_middle_leaves_nothing, dir_create,
                                        dir_remove),
        cmocka_unit_test_setup_teardown(full_disk_keeps_the_old_file, dir_create, dir_remove),
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
        cmocka_unit_test_setup_teardown(without_tmpfile_appears_only_at_commit,
                                        dir_create_without_tmpfile, dir_remove),
        cmocka_unit_test_setup_teardown(without_tmpfile_replaced_file_keeps_its_mode,
                                        dir_create_without_tmpfile, dir_remove),
        cmocka_unit_test_setup_teardown(without_tmpfile_old_file_stays_when_thrown_away,
                                        dir_create_without_tmpfile, dir_remove),
        cmocka_unit_test_setup_teardown(without_tmpfile_emergency_removes_temporary_files_only,
                                        dir_create_without_tmpfile, dir_remove),
        cmocka_unit_test_setup_teardown(without_tmpfile_failed_rename_leaves_nothing,
                                        dir_create_without_tmpfile, dir_remove),
        cmocka_unit_test_setup_teardown(without_tmpfile_relative_names_hold_after_chdir,
                                        dir_create_without_tmpfile, dir_remove),
        cmocka_unit_test_setup_teardown(without_tmpfile_full_disk_keeps_the_old_file,
                                        dir_create_without_tmpfile, dir_remove),
        cmocka_unit_test_setup_teardown(without_tmpfile_several_outputs_at_once,
                                        dir_create_without_tmpfile, dir_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
