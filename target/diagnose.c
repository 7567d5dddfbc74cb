#include "target/diagnose.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/procfs.h"

#define MAX_STATUS_BYTES 65536
#define MAX_CMDLINE_BYTES ((size_t)4 << 20) /* ARG_MAX of the usual stack limit, twice */

/* Some fields of /proc/PID/status; -1 where there is none. */
struct status {
    long tgid;
    long uid;
    long num_threads;
    bool has_memory; /* VmSize: neither a kernel thread nor a zombie has one */
};

/* Finds "Key:" at the start of a line and reads the number behind it. Returns: -1 without one. */
static long status_number(const char *text, const char *key)
{
    const char *field = procfs_status_find(text, key);

    return field ? strtol(field, NULL, 10) : -1;
}

/* Reads /proc/PID/status. Returns: NULL, ERROR_GONE or another error of reading. */
static struct error *status_read(pid_t pid, struct status *status_ret)
{
    CLEANUP(free) char *text = NULL;
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    RETURN_IF_ERROR(file_read_all(AT_FDCWD, path, MAX_STATUS_BYTES, &text, NULL));
    *status_ret = (struct status){.tgid = status_number(text, "Tgid"),
                                  .uid = status_number(text, "Uid"),
                                  .num_threads = status_number(text, "Threads"),
                                  .has_memory = status_number(text, "VmSize") >= 0};
    return NULL;
}

/* Writes "user NAME (uid N)" or, for a uid without a name, "uid N". getpwuid_r(3) may ask a server
 * for the name: fine here, where we are about to fail. */
static void owner_name(long uid, char *text, size_t text_bytes)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (getpwuid_r((uid_t)uid, &entry, buffer, sizeof(buffer), &found) == 0 && found)
        snprintf(text, text_bytes, "user %s (uid %ld)", found->pw_name, uid);
    else
        snprintf(text, text_bytes, "uid %ld", uid);
}

/* Says that there is no such process, or that /proc hides it (hidepid, proc(5)). */
static struct error *missing_error(pid_t pid)
{
    if (access("/proc/self/stat", F_OK) != 0)
        return error_create(ERROR_UNSUPPORTED, "mount it: mount -t proc proc /proc",
                            "/proc is not mounted: processes can't be looked at");
    if (pid > 0 && kill(pid, 0) != 0 && errno == EPERM)
        return error_create(ERROR_PERMISSION, "run with sudo",
                            "process %d belongs to another user and is hidden from us", (int)pid);
    return error_create(ERROR_GONE, "list the running processes with: ps -e",
                        "no process with pid %d", (int)pid);
}

/* Says why the maps of an existing process are closed to us. */
static struct error *access_error(pid_t pid, const char *comm, const struct status *status, int err)
{
    char owner[128];

    if (err == ESRCH || err == ENOENT)
        return missing_error(pid);
    if (status->uid >= 0 && status->uid != (long)geteuid()) {
        owner_name(status->uid, owner, sizeof(owner));
        if (geteuid() == 0)
            return error_create(ERROR_PERMISSION,
                                "give us CAP_SYS_PTRACE (docker run --cap-add=SYS_PTRACE)",
                                "process %d (%s) belongs to %s, and we are root without the "
                                "capability to look at it: %s",
                                (int)pid, comm, owner, strerror(err));
        return error_create(ERROR_PERMISSION, "run as that user or with sudo",
                            "process %d (%s) belongs to %s", (int)pid, comm, owner);
    }
    /* ptrace(2), access mode checks: ours, but set-user-ID, prctl(PR_SET_DUMPABLE, 0), more
     * capabilities than we have, Yama or another security module. */
    return error_create(ERROR_PERMISSION, "run with sudo",
                        "process %d (%s) is protected from being looked at, though it is ours: %s",
                        (int)pid, comm, strerror(err));
}

/* Tries what profiling needs first: the mappings. The kernel checks at open. */
static int maps_try(pid_t pid)
{
    CLEANUP(close) int fd = -1;
    char path[32];
    char byte;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &byte, 1) < 0)
        return errno;
    return 0;
}

/* Makes a name fit for a message: it may hold any bytes. */
static void name_sanitize(char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name < ' ' || *name == 127)
            *name = '?';
}

struct error *diagnose_process(pid_t pid)
{
    struct procfs_stat stat;
    struct status status;
    int err;

    CLEANUP(error_destroy)
    struct error *unread = pid > 0 ? procfs_stat_read(pid, &stat) : NULL;
    if (pid <= 0 || (unread && unread->kind != ERROR_NO_MEMORY))
        return missing_error(pid);
    if (unread)
        return take_ptr(unread);
    name_sanitize(stat.comm);
    CLEANUP(error_destroy) struct error *no_status = status_read(pid, &status);
    if (no_status)
        return no_status->kind == ERROR_NO_MEMORY ? take_ptr(no_status) : missing_error(pid);
    if (status.tgid > 0 && status.tgid != (long)pid)
        return error_create(ERROR_UNSUPPORTED, "profile its process instead",
                            "%d (%s) is a thread of process %ld", (int)pid, stat.comm, status.tgid);
    if (stat.state == 'Z' && status.num_threads > 1)
        return NULL; /* only its main thread has ended; the others run on */
    if (stat.state == 'Z' || stat.state == 'X')
        return error_create(ERROR_UNSUPPORTED, "its parent has not noticed yet: nothing runs there",
                            "process %d (%s) has ended already and is a zombie", (int)pid,
                            stat.comm);
    if (!status.has_memory)
        return error_create(ERROR_UNSUPPORTED, "give the pid of a program",
                            "process %d (%s) is a kernel thread", (int)pid, stat.comm);
    err = maps_try(pid);
    return err == 0 ? NULL : access_error(pid, stat.comm, &status, err);
}

struct error *diagnose_thread(pid_t tid, pid_t *pid_ret)
{
    struct status status;

    /* /proc/TID is there for every thread, though not listed (proc(5)). */
    CLEANUP(error_destroy) struct error *err = status_read(tid, &status);
    if (err && err->kind == ERROR_NO_MEMORY)
        return take_ptr(err);
    if (err || status.tgid <= 0)
        return error_create(ERROR_GONE, "list threads with: ps -eL", "no thread with id %d",
                            (int)tid);
    RETURN_IF_ERROR(diagnose_process((pid_t)status.tgid));
    *pid_ret = (pid_t)status.tgid;
    return NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* Tells whether the executable of `pid` is called `name`. */
static bool exe_is_named(pid_t pid, const char *name)
{
    char path[32], exe[PATH_MAX];
    ssize_t length;
    char *deleted;

    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    length = readlink(path, exe, sizeof(exe) - 1);
    if (length <= 0)
        return false;
    exe[length] = '\0';
    deleted = strstr(exe, " (deleted)");
    if (deleted && deleted[strlen(" (deleted)")] == '\0')
        *deleted = '\0';
    return strcmp(base_name(exe), name) == 0;
}

/* Tells whether argv[0] of `pid` is called `name`. */
static bool argv0_is_named(pid_t pid, const char *name)
{
    CLEANUP(free) char *cmdline = NULL;
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    CLEANUP(error_destroy)
    struct error *err = file_read_all(AT_FDCWD, path, MAX_CMDLINE_BYTES, &cmdline, NULL);
    return !err && strcmp(base_name(cmdline), name) == 0;
}

/* Tells whether `pid` is a live program of that name: a kernel thread or zombie never is. */
static bool process_is_named(pid_t pid, const char *name)
{
    struct procfs_stat stat;

    CLEANUP(error_destroy) struct error *err = procfs_stat_read(pid, &stat);
    if (err || stat.state == 'Z' || stat.state == 'X')
        return false;
    if (strcmp(stat.comm, name) == 0) {
        struct status status;

        CLEANUP(error_destroy) struct error *gone = status_read(pid, &status);
        return !gone && status.has_memory;
    }
    return argv0_is_named(pid, name) || exe_is_named(pid, name);
}

struct error *diagnose_find_by_name(const char *name, pid_t **pids_ret, size_t *num_pids_ret)
{
    CLEANUP(free) pid_t *pids = NULL;
    size_t num_pids = 0, num_found = 0;

    RETURN_IF_ERROR(procfs_list_ids("/proc", &pids, &num_pids));
    for (size_t i = 0; i < num_pids; i++)
        if (pids[i] != getpid() && process_is_named(pids[i], name))
            pids[num_found++] = pids[i];
    if (num_found == 0)
        return error_create(ERROR_NOT_FOUND, "list the running processes with: ps -e",
                            "no process named %s", name);
    *pids_ret = take_ptr(pids);
    *num_pids_ret = num_found;
    return NULL;
}
