#include "cmd/scope.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/procfs.h"
#include "target/diagnose.h"

#define MAX_PROC_STAT_BYTES ((size_t)16 << 20)

struct scope scope_command(void)
{
    return (struct scope){.cgroup.fd = -1};
}

void scope_deinit(struct scope *scope)
{
    for (size_t i = 0; i < scope->num_tasks; i++) {
        if (scope->tasks[i].pidfd >= 0)
            close(scope->tasks[i].pidfd);
    }
    free(scope->tasks);
    cgroup_deinit(&scope->cgroup);
    cpu_list_deinit(&scope->cpus);
    *scope = scope_command();
}

/* --- what the user typed -------------------------------------------------------------------- */

static struct error *add_task(struct scope *scope, pid_t pid, pid_t tid)
{
    for (size_t i = 0; i < scope->num_tasks; i++)
        if (scope->tasks[i].tid == tid)
            return NULL;
    RETURN_IF_ERROR(array_reserve(&scope->tasks, &scope->capacity, scope->num_tasks + 1,
                                  sizeof(*scope->tasks)));
    scope->tasks[scope->num_tasks++] = (struct scope_task){.pid = pid, .tid = tid, .pidfd = -1};
    return NULL;
}

/* Reads a number as a process or thread id. Returns: false when the text is no number at all. */
static bool parse_id(const char *text, pid_t *id_ret)
{
    char *end;
    long number;

    errno = 0;
    number = strtol(text, &end, 10);
    if (*end || end == text)
        return false;
    *id_ret = errno || number <= 0 || number > INT32_MAX ? 0 : (pid_t)number;
    return true;
}

/* One item of -p: a number is a pid, all else a process name. */
static struct error *add_process(struct scope *scope, const char *item)
{
    CLEANUP(free) pid_t *found = NULL;
    size_t num_found = 0;
    pid_t pid;

    if (!*item)
        return error_create(ERROR_USAGE, "type: cprofiler record -p 1234,5678",
                            "record: -p has an empty entry");
    if (parse_id(item, &pid)) {
        if (!pid)
            return error_create(ERROR_USAGE, "type: cprofiler record -p 1234",
                                "record: '%s' is no process id", item);
        return add_task(scope, pid, pid);
    }
    RETURN_IF_ERROR(diagnose_find_by_name(item, &found, &num_found));
    for (size_t i = 0; i < num_found; i++)
        RETURN_IF_ERROR(add_task(scope, found[i], found[i]));
    return NULL;
}

static struct error *add_thread(struct scope *scope, const char *item)
{
    pid_t pid, tid;

    if (!*item)
        return error_create(ERROR_USAGE, "type: cprofiler record -t 1234,5678",
                            "record: -t has an empty entry");
    if (!parse_id(item, &tid) || !tid)
        return error_create(ERROR_USAGE,
                            "type: cprofiler record -t 1234,1235; list them with: ps -eL",
                            "record: '%s' is no thread id", item);
    RETURN_IF_ERROR(diagnose_thread(tid, &pid));
    return add_task(scope, pid, tid);
}

/* Calls `add` for each item between commas. */
static struct error *add_list(struct scope *scope, const char *list,
                              struct error *(*add)(struct scope *scope, const char *item))
{
    CLEANUP(free) char *copy = strdup(list);
    char *rest = copy;
    char *item;

    if (!copy)
        return &error_no_memory;
    while ((item = strsep(&rest, ",")))
        RETURN_IF_ERROR(add(scope, item));
    return NULL;
}

struct error *scope_add_processes(struct scope *scope, const char *list)
{
    scope->kind = SCOPE_PROCESSES;
    return add_list(scope, list, add_process);
}

struct error *scope_add_threads(struct scope *scope, const char *list)
{
    scope->kind = SCOPE_THREADS;
    return add_list(scope, list, add_thread);
}

struct error *scope_set_cgroup(struct scope *scope, const char *name)
{
    scope->kind = SCOPE_CGROUP;
    return cgroup_open(name, &scope->cgroup);
}

struct error *scope_set_cpus(struct scope *scope, const char *list)
{
    RETURN_IF_ERROR(error_prefix_take(cpu_list_parse(list, &scope->cpus), "record: -C"));
    return cpu_list_check_online(&scope->cpus);
}

/* --- the tasks ------------------------------------------------------------------------------ */

struct error *scope_hold(struct scope *scope)
{
    for (size_t i = 0; i < scope->num_tasks; i++) {
        struct scope_task *task = &scope->tasks[i];

        RETURN_IF_ERROR(diagnose_process(task->pid));
        if (scope->kind == SCOPE_PROCESSES)
            task->pidfd = (int)syscall(SYS_pidfd_open, task->pid, 0);
    }
    return NULL;
}

enum sampler_scope scope_for_sampler(const struct scope *scope)
{
    switch (scope->kind) {
    case SCOPE_THREADS:
        return SAMPLER_THREADS;
    case SCOPE_SYSTEM:
        return SAMPLER_SYSTEM;
    case SCOPE_CGROUP:
        return SAMPLER_CGROUP;
    case SCOPE_COMMAND:
    case SCOPE_PROCESSES:
        break;
    }
    return SAMPLER_PROCESSES;
}

bool scope_is_open(const struct scope *scope)
{
    return scope->kind == SCOPE_SYSTEM || scope->kind == SCOPE_CGROUP;
}

static bool task_is_alive(const struct scope_task *task)
{
    struct pollfd poll_fd = {.fd = task->pidfd, .events = POLLIN};
    struct procfs_stat stat;

    if (task->has_ended)
        return false;
    if (task->pidfd >= 0)
        return poll(&poll_fd, 1, 0) == 0;
    CLEANUP(error_destroy) struct error *err = procfs_stat_read(task->tid, &stat);
    return !err && stat.state != 'Z' && stat.state != 'X';
}

bool scope_is_alive(struct scope *scope)
{
    bool is_alive = false;

    if (scope->kind == SCOPE_SYSTEM || scope->kind == SCOPE_COMMAND)
        return true;
    if (scope->kind == SCOPE_CGROUP)
        return cgroup_is_there(&scope->cgroup);
    for (size_t i = 0; i < scope->num_tasks; i++) {
        struct scope_task *task = &scope->tasks[i];

        task->has_ended = !task_is_alive(task);
        is_alive |= !task->has_ended;
    }
    return is_alive;
}

int scope_wait_fd(const struct scope *scope)
{
    return scope->num_tasks == 1 ? scope->tasks[0].pidfd : -1;
}

/* --- CPU time by the kernel's accounting ---------------------------------------------------- */

/* Of a process, with its threads that ended. */
static bool process_cpu_ns(pid_t pid, uint64_t *cpu_ns_ret)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    struct procfs_stat stat;

    err = procfs_stat_read(pid, &stat);
    if (err)
        return false;
    *cpu_ns_ret =
        (stat.utime_ticks + stat.stime_ticks) * 1000000000ULL / (uint64_t)sysconf(_SC_CLK_TCK);
    return true;
}

/* Of one thread: the first number of schedstat, ns (kernel documentation, sched-stats.rst). */
static bool thread_cpu_ns(pid_t pid, pid_t tid, uint64_t *cpu_ns_ret)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    CLEANUP(free) char *text = NULL;
    char path[64];
    char *end;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid, (int)tid);
    err = file_read_all(AT_FDCWD, path, 4096, &text, NULL);
    if (err)
        return false;
    *cpu_ns_ret = strtoull(text, &end, 10);
    return end != text;
}

static bool task_cpu_ns(const struct scope *scope, const struct scope_task *task,
                        uint64_t *cpu_ns_ret)
{
    return scope->kind == SCOPE_THREADS ? thread_cpu_ns(task->pid, task->tid, cpu_ns_ret)
                                        : process_cpu_ns(task->pid, cpu_ns_ret);
}

/* Reads one line of /proc/stat: "cpuN user nice system idle iowait ..." (proc(5)).
 * idle_ticks_ret: idle + iowait. Returns: false when it is no such line; "cpu ", the sum of all, is
 * none. */
static bool parse_idle(const char *line, uint32_t *cpu_ret, uint64_t *idle_ticks_ret)
{
    uint64_t numbers[6];
    char *end;

    if (strncmp(line, "cpu", 3) != 0 || !isdigit((unsigned char)line[3]))
        return false;
    line += 3;
    for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++, line = end) {
        numbers[i] = strtoull(line, &end, 10);
        if (end == line)
            return false;
    }
    *cpu_ret = (uint32_t)numbers[0];
    *idle_ticks_ret = numbers[4] + numbers[5];
    return true;
}

/* Adds up how long the CPUs to sample were idle since boot, ns. The idle columns of /proc/stat are
 * measured, those of busy time are counted by ticks, too many of them on virtual machines.
 * num_cpus_ret: how many CPUs these are. */
static bool system_idle_ns(const struct scope *scope, uint64_t *idle_ns_ret, size_t *num_cpus_ret)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    CLEANUP(free) char *text = NULL;
    uint64_t ticks = 0;
    char *rest;
    char *line;

    err = file_read_all(AT_FDCWD, "/proc/stat", MAX_PROC_STAT_BYTES, &text, NULL);
    if (err)
        return false;
    *num_cpus_ret = 0;
    rest = text;
    while ((line = strsep(&rest, "\n"))) {
        uint64_t idle_ticks;
        uint32_t cpu;

        if (!parse_idle(line, &cpu, &idle_ticks) ||
            (scope->cpus.num_cpus && !cpu_list_has(&scope->cpus, cpu)))
            continue;
        ticks += idle_ticks;
        ++*num_cpus_ret;
    }
    *idle_ns_ret = ticks * 1000000000ULL / (uint64_t)sysconf(_SC_CLK_TCK);
    return *num_cpus_ret > 0;
}

/* How much CPU time was spent on anything but idling since scope_begin(). */
static bool system_due_ns(const struct scope *scope, uint64_t *due_ns_ret)
{
    uint64_t wall_ns = clock_monotonic_ns() - scope->start_ns;
    uint64_t idle_ns;
    size_t num_cpus;

    if (!scope->start_ns || !system_idle_ns(scope, &idle_ns, &num_cpus))
        return false;
    idle_ns -= scope->idle_before_ns;
    *due_ns_ret = wall_ns * num_cpus > idle_ns ? wall_ns * num_cpus - idle_ns : 0;
    return true;
}

void scope_begin(struct scope *scope)
{
    size_t num_cpus;

    if (scope->kind == SCOPE_SYSTEM && system_idle_ns(scope, &scope->idle_before_ns, &num_cpus))
        scope->start_ns = clock_monotonic_ns();
    for (size_t i = 0; i < scope->num_tasks; i++)
        scope->tasks[i].has_cpu =
            task_cpu_ns(scope, &scope->tasks[i], &scope->tasks[i].cpu_before_ns);
}

bool scope_due_ns(const struct scope *scope, uint64_t *due_ns_ret)
{
    uint64_t due_ns = 0;

    if (scope->kind == SCOPE_SYSTEM)
        return system_due_ns(scope, due_ns_ret);
    /* The rest is accounted for all CPUs together. */
    if (scope->num_tasks == 0 || scope->cpus.num_cpus)
        return false;
    for (size_t i = 0; i < scope->num_tasks; i++) {
        uint64_t now_ns;

        if (!scope->tasks[i].has_cpu || !task_cpu_ns(scope, &scope->tasks[i], &now_ns))
            return false;
        due_ns += now_ns - scope->tasks[i].cpu_before_ns;
    }
    *due_ns_ret = due_ns;
    return true;
}

/* --- telling -------------------------------------------------------------------------------- */

void scope_name(const struct scope *scope, char *text, size_t text_bytes)
{
    char comm[PROCFS_COMM_BYTES * 4] = "process";
    const char *slash;

    switch (scope->kind) {
    case SCOPE_COMMAND:
    case SCOPE_SYSTEM:
        snprintf(text, text_bytes, "system");
        return;
    case SCOPE_CGROUP:
        slash = strrchr(scope->cgroup.path, '/');
        snprintf(text, text_bytes, "cgroup-%.64s", slash ? slash + 1 : scope->cgroup.path);
        return;
    case SCOPE_PROCESSES:
    case SCOPE_THREADS:
        break;
    }
    error_destroy(procfs_comm_read(scope->tasks[0].pid, scope->tasks[0].tid, comm));
    snprintf(text, text_bytes, "%.64s-%d", *comm ? comm : "process", (int)scope->tasks[0].tid);
}

const char *scope_kind_name(const struct scope *scope)
{
    static const char *const names[] = {"command", "processes", "threads", "system", "cgroup"};

    return names[scope->kind];
}
