/* Files and processes for the tests of target/: a directory that goes away, copies of our own
 * executable, children that do something and wait.
 *
 * Ownership: as told. Threads: none.
 */
#ifndef TESTS_UNIT_TARGET_SUPPORT_H
#define TESTS_UNIT_TARGET_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

/* Fails the test with the message of `err`, unless it is NULL. */
static inline void assert_success(struct error *err)
{
    if (err)
        fail_msg("%s", err->message);
}

/* Checks that `err` is of `kind` and its message holds `text`; frees it. */
static inline void assert_error(struct error *err, enum error_kind kind, const char *text)
{
    assert_non_null(err);
    if (err->kind != kind || !strstr(err->message, text))
        fail_msg("kind %d, message: %s", (int)err->kind, err->message);
    error_destroy(err);
}

static inline int remove_entry(const char *path, const struct stat *status, int type,
                               struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

/* cmocka setup: makes a directory; *state is its path. */
static inline int directory_setup(void **state)
{
    char *path = strdup("/tmp/cprofiler-target-XXXXXX");

    *state = path;
    return path && mkdtemp(path) && chmod(path, 0755) == 0 ? 0 : -1;
}

/* cmocka teardown: removes the directory with all in it. */
static inline int directory_teardown(void **state)
{
    nftw(*state, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return 0;
}

/* Copies a file, 0755. Returns: its status. */
static inline struct stat copy_file(const char *from, const char *to)
{
    int source = open(from, O_RDONLY | O_CLOEXEC);
    int target = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    char buffer[65536];
    struct stat status;
    ssize_t num_bytes;

    assert_true(source >= 0 && target >= 0);
    while ((num_bytes = read(source, buffer, sizeof(buffer))) > 0)
        assert_int_equal(write(target, buffer, (size_t)num_bytes), num_bytes);
    assert_int_equal(fchmod(target, 0755), 0);
    assert_int_equal(fstat(target, &status), 0);
    close(source);
    close(target);
    return status;
}

/* Writes a file of these bytes. */
static inline void write_file(const char *path, const void *bytes, size_t num_bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, num_bytes), (ssize_t)num_bytes);
    close(fd);
}

/* A child that ran a function and now waits to be told to go on, or to be killed. */
struct child_process {
    pid_t pid;
    int to_fd, from_fd;
};

/* Called in the child; what it writes to `fd` is for child_read(). */
typedef void child_fn(void *context, int fd);

/* Starts a child that calls `run`, then waits for child_stop(). */
static inline struct child_process child_start(child_fn *run, void *context)
{
    int to[2], from[2];
    struct child_process child;

    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    child = (struct child_process){fork(), to[1], from[0]};
    assert_true(child.pid >= 0);
    if (child.pid == 0) {
        char byte;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(to[1]);
        close(from[0]);
        run(context, from[1]);
        (void)!write(from[1], "", 1);
        (void)!read(to[0], &byte, 1);
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    return child;
}

/* Reads exactly num_bytes that the child wrote. */
static inline void child_read(const struct child_process *child, void *buffer, size_t num_bytes)
{
    size_t num_done = 0;

    while (num_done < num_bytes) {
        ssize_t num = read(child->from_fd, (char *)buffer + num_done, num_bytes - num_done);

        assert_true(num > 0);
        num_done += (size_t)num;
    }
}

/* Waits until the child's function has returned. */
static inline void child_wait_ready(const struct child_process *child)
{
    char byte;

    child_read(child, &byte, 1);
}

/* Kills and reaps the child. */
static inline void child_stop(struct child_process *child)
{
    kill(child->pid, SIGKILL);
    assert_int_equal(waitpid(child->pid, NULL, 0), child->pid);
    close(child->to_fd);
    close(child->from_fd);
}

/* Maps `num_bytes` of a file read-and-execute from file_off on. Returns: the address. */
static inline void *map_executable(const char *path, size_t num_bytes, off_t file_off)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *address = mmap(NULL, num_bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, file_off);

    close(fd);
    return address;
}

#endif
