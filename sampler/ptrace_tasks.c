#include "sampler/ptrace_tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/procfs.h"

#define SCAN_INTERVAL_NS 100000000ULL    /* for children, and threads that replaced each other */
#define RETELL_INTERVAL_NS 1000000000ULL /* mappings that changed without a change of size */
#define MAX_FILE_BYTES ((size_t)1 << 20)
#define MAX_OPEN_SCHEDSTATS 1024u
/* Fields of /proc/PID/stat by their numbers in proc(5). */
#define STAT_START_CODE 26
#define STAT_START_STACK 28
#define STAT_ENV_START 50

void ptrace_tasks_init(struct ptrace_tasks *tasks, bool follow_children)
{
    *tasks = (struct ptrace_tasks){.follow_children = follow_children};
}

void ptrace_tasks_deinit(struct ptrace_tasks *tasks)
{
    for (size_t i = 0; i < tasks->num_threads; i++)
        if (tasks->threads[i].schedstat_fd >= 0)
            close(tasks->threads[i].schedstat_fd);
    free(tasks->threads);
    free(tasks->processes);
    *tasks = (struct ptrace_tasks){0};
}

/* Reads a small file of /proc. Returns: heap text, or NULL when it is gone or not ours to read. */
static char *read_text(const char *path)
{
    char *text = NULL;
    CLEANUP(error_destroy) struct error *err = NULL;

    err = file_read_all(AT_FDCWD, path, MAX_FILE_BYTES, &text, NULL);
    return err ? NULL : text;
}

static bool read_image(pid_t pid, struct ptrace_image *image_ret)
{
    char path[64];
    CLEANUP(free) char *text = NULL;
    char *field;
    int number = 2;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    text = read_text(path);
    field = text ? strrchr(text, ')') : NULL; /* comm, field 2, may hold blanks */
    if (!field || field[1] != ' ' || field[2] == 'Z' || field[2] == 'X')
        return false;
    *image_ret = (struct ptrace_image){0};
    while ((field = strchr(field, ' '))) {
        uint64_t value = strtoull(++field, NULL, 10);

        number++;
        if (number == STAT_START_CODE)
            image_ret->start_code = value;
        else if (number == STAT_START_STACK)
            image_ret->start_stack = value;
        else if (number == STAT_ENV_START)
            image_ret->env_start = value;
    }
    return true;
}

static uint64_t read_num_pages(pid_t pid)
{
    char path[64];
    CLEANUP(free) char *text = NULL;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    text = read_text(path);
    return text ? strtoull(text, NULL, 10) : 0;
}

static struct ptrace_process *find_process(struct ptrace_tasks *tasks, pid_t pid)
{
    for (size_t i = 0; i < tasks->num_processes; i++)
        if (tasks->processes[i].pid == pid && tasks->processes[i].is_alive)
            return &tasks->processes[i];
    return NULL;
}

static struct ptrace_thread *find_thread(struct ptrace_tasks *tasks, pid_t tid)
{
    for (size_t i = 0; i < tasks->num_threads; i++)
        if (tasks->threads[i].tid == tid)
            return &tasks->threads[i];
    return NULL;
}

/* Drops processes that have ended, so that a storm of children does not grow the table. */
static void forget_ended(struct ptrace_tasks *tasks)
{
    size_t kept = 0;

    for (size_t i = 0; i < tasks->num_processes; i++)
        if (tasks->processes[i].is_alive)
            tasks->processes[kept++] = tasks->processes[i];
    tasks->num_processes = kept;
}

static struct error *add_process(struct ptrace_tasks *tasks, pid_t pid, bool is_waiting,
                                 bool is_new)
{
    struct ptrace_process process = {
        .pid = pid, .is_waiting = is_waiting, .is_new = is_new, .is_alive = true};

    if (!read_image(pid, &process.image))
        return error_create(ERROR_GONE, NULL, "process %d has ended", (int)pid);
    forget_ended(tasks);
    RETURN_IF_ERROR(array_reserve(&tasks->processes, &tasks->processes_capacity,
                                  tasks->num_processes + 1, sizeof(*tasks->processes)));
    tasks->processes[tasks->num_processes++] = process;
    return NULL;
}

/* Opens schedstat of a thread. Returns: -1 when it cannot be opened. */
static int open_schedstat(const struct ptrace_thread *thread)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)thread->pid, (int)thread->tid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Reads the first number of schedstat: ns on a CPU. Returns: false when the thread is gone. */
static bool read_schedstat(const struct ptrace_thread *thread, uint64_t *cpu_ns_ret)
{
    char text[96];
    CLEANUP(close) int opened = thread->schedstat_fd < 0 ? open_schedstat(thread) : -1;
    int fd = thread->schedstat_fd < 0 ? opened : thread->schedstat_fd;
    ssize_t length = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);

    if (length <= 0)
        return false;
    text[length] = '\0';
    *cpu_ns_ret = strtoull(text, NULL, 10);
    return true;
}

/* Adds a thread. is_from_start: what it used before we found it counts, too: it is younger than the
 * recording. */
static struct error *add_thread(struct ptrace_tasks *tasks, pid_t pid, pid_t tid,
                                bool is_from_start)
{
    struct ptrace_thread *thread;

    RETURN_IF_ERROR(array_reserve(&tasks->threads, &tasks->threads_capacity, tasks->num_threads + 1,
                                  sizeof(*tasks->threads)));
    thread = &tasks->threads[tasks->num_threads];
    *thread = (struct ptrace_thread){.pid = pid, .tid = tid, .schedstat_fd = -1, .is_seen = true};
    if (tasks->num_open < MAX_OPEN_SCHEDSTATS)
        thread->schedstat_fd = open_schedstat(thread);
    tasks->num_open += thread->schedstat_fd >= 0;
    if (!is_from_start && read_schedstat(thread, &thread->cpu_ns))
        thread->cpu_taken_ns = thread->cpu_ns;
    tasks->num_threads++;
    return NULL;
}

struct error *ptrace_tasks_add(struct ptrace_tasks *tasks, pid_t pid, pid_t tid, bool is_waiting)
{
    if (!find_process(tasks, pid))
        RETURN_IF_ERROR(add_process(tasks, pid, is_waiting, false));
    return find_thread(tasks, tid) ? NULL : add_thread(tasks, pid, tid, false);
}

static void tell(const struct ptrace_sink *sink, struct event *event)
{
    event->time_ns = sink->now_ns;
    if (sink->handler)
        sink->handler(sink->context, event);
}

static void tell_comm(const struct ptrace_sink *sink, pid_t pid, pid_t tid, bool is_exec)
{
    char comm[PROCFS_COMM_BYTES * 4] = "";
    struct event event = {.type = EVENT_COMM, .pid = (uint32_t)pid, .tid = (uint32_t)tid};
    CLEANUP(error_destroy) struct error *gone = procfs_comm_read(pid, tid, comm);

    if (gone && !is_exec)
        return;
    event.comm = (struct comm_event){.comm = comm, .is_exec = is_exec};
    tell(sink, &event);
}

static void tell_fork(const struct ptrace_sink *sink, pid_t parent_pid, pid_t pid, pid_t tid)
{
    struct event event = {
        .type = EVENT_FORK,
        .pid = (uint32_t)pid,
        .tid = (uint32_t)tid,
        .fork = {.parent_pid = (uint32_t)parent_pid, .parent_tid = (uint32_t)parent_pid},
    };

    tell(sink, &event);
}

/* Takes a thread out of the table and tells its end. */
static void remove_thread(struct ptrace_tasks *tasks, size_t index, const struct ptrace_sink *sink)
{
    struct ptrace_thread *thread = &tasks->threads[index];
    struct event event = {
        .type = EVENT_EXIT, .pid = (uint32_t)thread->pid, .tid = (uint32_t)thread->tid};

    if (thread->schedstat_fd >= 0) {
        close(thread->schedstat_fd);
        tasks->num_open--;
    }
    *thread = tasks->threads[--tasks->num_threads];
    tell(sink, &event);
}

/* Adds the threads of a process that are new, forgets those that are gone. */
static struct error *scan_threads(struct ptrace_tasks *tasks, pid_t pid,
                                  const struct ptrace_sink *sink)
{
    CLEANUP(free) pid_t *tids = NULL;
    CLEANUP(error_destroy) struct error *gone = NULL;
    size_t num_tids = 0;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    gone = procfs_list_ids(path, &tids, &num_tids);
    if (gone && gone->kind == ERROR_NO_MEMORY)
        return take_ptr(gone);
    for (size_t i = 0; i < tasks->num_threads; i++)
        if (tasks->threads[i].pid == pid)
            tasks->threads[i].is_seen = false;
    for (size_t i = 0; i < num_tids; i++) {
        struct ptrace_thread *thread = find_thread(tasks, tids[i]);

        if (thread) {
            thread->is_seen = true;
            continue;
        }
        RETURN_IF_ERROR(add_thread(tasks, pid, tids[i], true));
        tell_fork(sink, pid, pid, tids[i]);
        tell_comm(sink, pid, tids[i], false);
    }
    for (size_t i = tasks->num_threads; i-- > 0;)
        if (tasks->threads[i].pid == pid && !tasks->threads[i].is_seen)
            remove_thread(tasks, i, sink);
    return NULL;
}

/* Adds one child process that a thread of `parent_pid` started. */
static struct error *add_child(struct ptrace_tasks *tasks, pid_t parent_pid, pid_t pid,
                               const struct ptrace_sink *sink)
{
    struct error *err;

    if (find_process(tasks, pid))
        return NULL;
    err = add_process(tasks, pid, false, true);
    if (err && err->kind == ERROR_GONE) {
        error_destroy(err);
        return NULL;
    }
    RETURN_IF_ERROR(err);
    tell_fork(sink, parent_pid, pid, pid);
    return add_thread(tasks, pid, pid, true);
}

/* Adds the children that a process has now. Without CONFIG_PROC_CHILDREN there are none to see. */
static struct error *scan_children(struct ptrace_tasks *tasks, pid_t pid,
                                   const struct ptrace_sink *sink)
{
    for (size_t i = 0; i < tasks->num_threads; i++) {
        char path[64];
        CLEANUP(free) char *text = NULL;
        char *next;

        if (tasks->threads[i].pid != pid)
            continue;
        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid,
                 (int)tasks->threads[i].tid);
        text = read_text(path);
        for (char *word = text; word && *word; word = next) {
            long child = strtol(word, &next, 10);

            if (next == word || child <= 0)
                break;
            RETURN_IF_ERROR(add_child(tasks, pid, (pid_t)child, sink));
        }
    }
    return NULL;
}

struct error *ptrace_tasks_scan(struct ptrace_tasks *tasks, const struct ptrace_sink *sink)
{
    for (size_t i = 0; i < tasks->num_processes; i++) { /* children found are looked at as well */
        struct ptrace_process *process = &tasks->processes[i];
        pid_t pid = process->pid;
        struct stat status = {0};
        char path[64];
        bool is_due = sink->now_ns - process->scanned_at_ns >= SCAN_INTERVAL_NS;

        if (!process->is_alive || process->is_waiting)
            continue;
        snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
        process->is_alive = stat(path, &status) == 0;
        if (!is_due && process->is_alive && status.st_nlink == process->num_threads)
            continue;
        process->num_threads = status.st_nlink;
        process->scanned_at_ns = sink->now_ns;
        RETURN_IF_ERROR(scan_threads(tasks, pid, sink));
        if (tasks->follow_children && is_due)
            RETURN_IF_ERROR(scan_children(tasks, pid, sink));
    }
    return NULL;
}

bool ptrace_tasks_tell_image(struct ptrace_tasks *tasks, pid_t pid, const struct ptrace_sink *sink)
{
    struct ptrace_process *process = find_process(tasks, pid);
    struct event event = {.type = EVENT_MAPS, .pid = (uint32_t)pid, .tid = (uint32_t)pid};
    struct ptrace_image image;
    uint64_t num_pages;
    bool is_other;

    if (process && process->looked_at_ns == sink->now_ns)
        return true;
    if (!process || !read_image(pid, &image))
        return false;
    is_other = memcmp(&image, &process->image, sizeof(image)) != 0;
    if (process->is_waiting && !is_other)
        return false;
    if (is_other || process->is_new)
        tell_comm(sink, pid, pid, true);
    num_pages = read_num_pages(pid);
    if (is_other || process->is_new || num_pages != process->num_pages ||
        sink->now_ns - process->told_at_ns >= RETELL_INTERVAL_NS) {
        tell(sink, &event);
        process->told_at_ns = sink->now_ns;
    }
    process->image = image;
    process->looked_at_ns = sink->now_ns;
    process->num_pages = num_pages;
    process->is_waiting = false;
    process->is_new = false;
    return true;
}

bool ptrace_thread_read_cpu(struct ptrace_tasks *tasks, struct ptrace_thread *thread,
                            uint64_t *used_ns_ret)
{
    uint64_t cpu_ns;

    if (!read_schedstat(thread, &cpu_ns))
        return false;
    if (cpu_ns > thread->cpu_ns) {
        tasks->cpu_ns += cpu_ns - thread->cpu_ns;
        thread->cpu_ns = cpu_ns;
    }
    *used_ns_ret = thread->cpu_ns - thread->cpu_taken_ns;
    return true;
}

bool ptrace_thread_is_running(const struct ptrace_thread *thread)
{
    char path[64];
    char text[8];
    CLEANUP(close) int fd = -1;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", (int)thread->pid, (int)thread->tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, text, sizeof(text)) >= 7 && memcmp(text, "running", 7) == 0;
}
