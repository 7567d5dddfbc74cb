#include "cmd/snapshots.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cmd/profile_file.h"
#include "cmd/signals.h"

bool snapshots_path(const char *path, unsigned number, char *path_ret, size_t path_bytes)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    int stem = dot && dot != name ? (int)(dot - path) : (int)strlen(path);

    return (size_t)snprintf(path_ret, path_bytes, "%.*s.%04u%s", stem, path, number, path + stem) <
           path_bytes;
}

/* --- the child ------------------------------------------------------------------------------ */

static int compare_fds(const void *one, const void *other)
{
    return *(const int *)one - *(const int *)other;
}

/* Closes all but the files of modules, which are read for names: while somebody holds the others,
 * the kernel keeps breakpoints and events for us. */
static struct error *close_all_but_modules(const struct session *session, int report_fd)
{
    const struct module_table *modules = target_modules(session->target);
    size_t num_modules = module_table_count(modules);
    CLEANUP(free) int *fds = malloc((num_modules + 1) * sizeof(*fds));
    size_t num_fds = 0;
    unsigned first = STDERR_FILENO + 1;

    if (!fds)
        return &error_no_memory;
    fds[num_fds++] = report_fd;
    for (size_t i = 0; i < num_modules; i++) {
        const struct module *module = module_table_at(modules, (uint32_t)i);

        if (module->fd > STDERR_FILENO)
            fds[num_fds++] = module->fd;
    }
    qsort(fds, num_fds, sizeof(*fds), compare_fds);
    for (size_t i = 0; i < num_fds; first = (unsigned)fds[i++] + 1)
        if ((unsigned)fds[i] > first)
            syscall(SYS_close_range, first, (unsigned)fds[i] - 1, 0);
    syscall(SYS_close_range, first, ~0U, 0);
    return NULL;
}

static struct error *write_snapshot(struct session *session, const char *path, int report_fd)
{
    struct profile_file file = {0};
    struct error *err;

    RETURN_IF_ERROR(close_all_but_modules(session, report_fd));
    RETURN_IF_ERROR(profile_file_open(&file, "heap", path, NULL));
    err = session_finish(session);
    if (!err)
        err = profile_file_write(&file, &session->allocations->profile);
    profile_file_deinit(&file);
    return err;
}

static _Noreturn void child_run(struct session *session, const char *path, int report_fd)
{
    struct error *err;

    signals_forward_to(0);
    session_restore_priority(session);
    err = write_snapshot(session, path, report_fd);
    if (err)
        (void)!write(report_fd, err->message, strlen(err->message));
    _exit(err ? 1 : 0);
}

/* --- the parent ----------------------------------------------------------------------------- */

/* No more are taken. */
static void note_failure(struct snapshots *snapshots)
{
    ssize_t length = read(snapshots->report_fd, snapshots->failure, sizeof(snapshots->failure) - 1);

    snapshots->has_failed = true;
    if (length <= 0)
        snprintf(snapshots->failure, sizeof(snapshots->failure), "its writer was ended");
    log_warning("heap: no more snapshots: %s", snapshots->failure);
}

/* Forks the child that writes the next one. Returns: NULL or an error. */
static struct error *start(struct snapshots *snapshots, struct session *session, const char *path)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC))
        return error_from_errno(errno, NULL, "heap: no pipe for a snapshot");
    pid = fork();
    if (pid == 0)
        child_run(session, path, fds[1]);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return error_from_errno(errno, NULL, "heap: no process for a snapshot");
    }
    snapshots->child = pid;
    snapshots->report_fd = fds[0];
    return NULL;
}

/* Looks whether the child has ended. options: of waitpid(2). */
static void reap(struct snapshots *snapshots, int options)
{
    int status = 0;
    pid_t pid;

    if (!snapshots->child)
        return;
    do
        pid = waitpid(snapshots->child, &status, options);
    while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return;
    snapshots->child = 0;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        snapshots->num_written++;
    else
        note_failure(snapshots);
    close(snapshots->report_fd);
}

void snapshots_take(void *context, struct session *session)
{
    struct snapshots *snapshots = context;
    CLEANUP(error_destroy) struct error *err = NULL;
    char path[PATH_MAX];

    reap(snapshots, WNOHANG);
    if (snapshots->has_failed)
        return;
    if (snapshots->child) {
        snapshots->num_skipped++;
        return;
    }
    session->duration_ns = clock_monotonic_ns() - session->start_ns;
    session->allocations->profile.duration_ns = (int64_t)session->duration_ns;
    err = snapshots_path(snapshots->path, snapshots->num_written + 1, path, sizeof(path))
              ? start(snapshots, session, path)
              : error_from_errno(ENAMETOOLONG, NULL, "heap: no snapshot");
    snapshots->has_failed = err != NULL;
    if (err)
        snprintf(snapshots->failure, sizeof(snapshots->failure), "%s", err->message);
}

void snapshots_finish(struct snapshots *snapshots)
{
    reap(snapshots, 0);
}
