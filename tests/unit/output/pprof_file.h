/* Written profiles in the hands of a test: their bytes, decoded by protobuf-c as one message, and
 * what the real `go tool pprof` says of them. */
#ifndef TESTS_UNIT_OUTPUT_PPROF_FILE_H
#define TESTS_UNIT_OUTPUT_PPROF_FILE_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "output/gzip.h"
#include "output/profile.pb-c.h"
#include "output/writer.h"
#include "tests/unit/output/sample_profile.h"
#include "tests/unit/skip.h"

struct pprof_file_copy {
    char path[64];
    char *bytes; /* as in the file */
    size_t num_bytes;
    uint8_t *inflated;
    size_t num_inflated;
    Perftools__Profiles__Profile *message;
};

/* Writes a profile to a temporary file and reads it back. */
static inline void pprof_file_copy_init(struct pprof_file_copy *copy, const struct profile *profile)
{
    int fd;

    *copy = (struct pprof_file_copy){.path = "/tmp/cprofiler-test-XXXXXX"};
    fd = mkstemp(copy->path);
    assert_true(fd >= 0);
    assert_no_error(writer_pprof.write(profile, fd, copy->path));
    assert_int_equal(close(fd), 0);
    assert_no_error(file_read_all(AT_FDCWD, copy->path, 1U << 30, &copy->bytes, &copy->num_bytes));
    assert_no_error(gzip_inflate((const uint8_t *)copy->bytes, copy->num_bytes, 1U << 30,
                                 copy->path, &copy->inflated, &copy->num_inflated));
    copy->message = perftools__profiles__profile__unpack(NULL, copy->num_inflated, copy->inflated);
    assert_non_null(copy->message);
}

static inline void cleanup_pprof_file_copy_deinit(struct pprof_file_copy *copy)
{
    perftools__profiles__profile__free_unpacked(copy->message, NULL);
    free(copy->bytes);
    free(copy->inflated);
    unlink(copy->path);
}

/* Tells a string of the file by its index. */
static inline const char *pprof_file_string(const struct pprof_file_copy *copy, int64_t index)
{
    assert_in_range(index, 0, copy->message->n_string_table - 1);
    return copy->message->string_table[index];
}

/* Runs `go tool pprof FLAGS FILE` and gives what it printed, stderr included; heap memory.
 * Skips the test when there is no go. */
static inline char *run_go_pprof(const char *flags, const char *path)
{
    const char *go = getenv("GO");
    size_t capacity = 4U << 20;
    char *output = calloc(1, capacity);
    char command[512];
    size_t num_bytes;
    FILE *pipe;

    assert_non_null(output);
    snprintf(command, sizeof(command),
             "command -v '%s' >/dev/null || exit 127; export PPROF_TMPDIR=/tmp HOME=/tmp "
             "TZ=UTC PPROF_BINARY_PATH=/nonexistent; '%s' tool pprof %s '%s' 2>&1",
             go ? go : "go", go ? go : "go", flags, path);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    num_bytes = fread(output, 1, capacity - 1, pipe);
    output[num_bytes] = '\0';
    if (WEXITSTATUS(pclose(pipe)) == 127) {
        free(output);
        SKIP("go is not installed");
    }
    return output;
}

#endif
