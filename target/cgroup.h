/* Control groups: from what a user writes to the directory that perf events can be opened on.
 *
 * Perf events know the processes of one hierarchy: that of cgroup v1 which has the perf_event
 * controller where one is mounted, else that of v2.
 * Ownership: the caller owns a struct cgroup. Threads: none.
 * Source: cgroups(7), perf_event_open(2) (PERF_FLAG_PID_CGROUP), proc(5) /proc/PID/mountinfo.
 */
#ifndef TARGET_CGROUP_H
#define TARGET_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct cgroup {
    int fd;     /* its directory, close-on-exec; -1: none */
    char *path; /* of the directory, absolute */
};

/* One line of mountinfo that mounts cgroups. */
struct cgroup_mount {
    char *path;      /* where, inside the line, octal escapes undone */
    bool is_v2;      /* else one hierarchy of v1 */
    bool has_events; /* v1: it has the perf_event controller */
};

/* Parses one line of /proc/self/mountinfo in place; `line` is cut into pieces.
 * mount_ret: borrows from `line`. Returns: whether it mounts cgroups. */
bool cgroup_mount_parse(char *line, struct cgroup_mount *mount_ret);

/* Opens the cgroup that `name` means: the path of its directory, or its path below the mount, with
 * or without a slash in front (as /proc/PID/cgroup tells it).
 * cgroup_ret: owned by the caller (cgroup_deinit()). Returns: NULL; ERROR_NOT_FOUND;
 * ERROR_UNSUPPORTED (no cgroups here, or one of a hierarchy that perf events do not know);
 * ERROR_PERMISSION. */
struct error *cgroup_open(const char *name, struct cgroup *cgroup_ret) MUST_CHECK;

/* Called once for each process found. Returns: NULL to go on; any error ends the enumeration. */
typedef struct error *cgroup_visit_fn(void *context, pid_t pid);

/* Visits the processes that are in the cgroup now, or in one below it; groups that vanish meanwhile
 * or can't be read are passed over. Returns: NULL; the visitor's error; error_no_memory. */
struct error *cgroup_visit(const struct cgroup *cgroup, cgroup_visit_fn *visit,
                           void *context) MUST_CHECK;

/* Tells whether it still exists. */
bool cgroup_is_there(const struct cgroup *cgroup);

/* Closes and frees; one with fd -1 and no path is fine. */
void cgroup_deinit(struct cgroup *cgroup);

#endif
