/* What /proc tells of a live process: its name and threads, owner, namespace pid, and mappings. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/procfs.h"
#include "target/diagnose.h"
#include "target/target_internal.h"

#define MAX_MAPS_BYTES ((size_t)64 << 20) /* 65530 mappings (vm.max_map_count) of 1 KB each */
#define MAX_STATUS_BYTES 65536
#define REREAD_INTERVAL_NS 10000000ULL
#define MAX_REREAD_INTERVAL_NS 1000000000ULL

/* Reads the last number of a line: the pid in the innermost namespace ends NSpid (proc(5)). */
static uint32_t last_number(const char *field)
{
    unsigned long value = 0;

    while (*field && *field != '\n') {
        char *end;

        value = strtoul(field, &end, 10);
        if (end == field)
            break;
        field = end;
    }
    return value <= INT_MAX ? (uint32_t)value : 0;
}

void target_status_read(struct target *target, struct process_row *row)
{
    CLEANUP(free) char *status = NULL;
    const char *field;
    char path[32];

    if (row->has_status || row->process.has_ended)
        return;
    snprintf(path, sizeof(path), "/proc/%u/status", row->process.pid);
    CLEANUP(error_destroy)
    struct error *err = file_read_all(AT_FDCWD, path, MAX_STATUS_BYTES, &status, NULL);
    row->has_status = !err || err->kind != ERROR_NO_MEMORY; /* what is gone stays gone */
    if (err)
        return;
    free(row->process.root);
    row->process.root = NULL;
    error_destroy(module_table_root(target->modules, row->process.pid, &row->process.root));
    field = procfs_status_find(status, "NSpid");
    if (field)
        row->process.ns_pid = last_number(field);
    field = procfs_status_find(status, "Uid");
    if (field)
        row->process.uid = (uint32_t)strtoul(field, NULL, 10);
}

/* All lines of a maps text, pointing into it. */
struct maps_text {
    char *content;
    struct maps_line *lines;
    size_t num_lines, capacity;
};

static void cleanup_maps_text(struct maps_text *text)
{
    free(text->content);
    free(text->lines);
}

/* Splits the text into lines and parses them; lines that are none are left out. */
static struct error *maps_text_parse(struct maps_text *text)
{
    char *next;

    for (char *line = text->content; line && *line; line = next) {
        struct maps_line parsed;

        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (!maps_line_parse(line, &parsed))
            continue;
        RETURN_IF_ERROR(array_reserve(&text->lines, &text->capacity, text->num_lines + 1,
                                      sizeof(*text->lines)));
        text->lines[text->num_lines++] = parsed;
    }
    return NULL;
}

/* Finds the piece of file whose hole is the anonymous line `i`: its neighbours on both sides are
 * parts of one file, as far from each other there as here (unwinding.md 7). Returns: the line
 * before. */
static const struct maps_line *hole_owner_line(const struct maps_text *text, size_t i)
{
    const struct maps_line *line = &text->lines[i];
    const struct maps_line *before, *after;

    if (i == 0 || i + 1 >= text->num_lines || line->inode != 0 || line->path[0] != '\0')
        return NULL;
    before = line - 1;
    after = line + 1;
    if (before->inode == 0 || before->limit != line->start || after->start != line->limit ||
        before->inode != after->inode || before->dev_major != after->dev_major ||
        before->dev_minor != after->dev_minor ||
        after->file_off - before->file_off != after->start - before->start)
        return NULL;
    return before;
}

/* Adds all executable lines. exe: path of the main executable, "" for none. */
static struct error *maps_text_add(struct target *target, struct process_row *row,
                                   const struct maps_text *text, const char *exe,
                                   bool *has_changed_ret)
{
    for (size_t i = 0; i < text->num_lines; i++) {
        const struct maps_line *line = &text->lines[i];
        const struct maps_line *owner;
        struct range range;

        if (!(line->prot & PROT_EXEC))
            continue;
        owner = hole_owner_line(text, i);
        range = (struct range){.start = line->start, .limit = line->limit, .is_exact = true};
        range.file_off = owner ? owner->file_off + (line->start - owner->start) : line->file_off;
        line = owner ? owner : line;
        range.dev_major = line->dev_major;
        range.dev_minor = line->dev_minor;
        range.inode = line->inode;
        range.path = line->path;
        range.is_main = exe[0] != '\0' && strcmp(exe, line->path) == 0;
        RETURN_IF_ERROR(target_range_add(target, row, &range, has_changed_ret));
    }
    return NULL;
}

struct error *target_maps_read(struct target *target, struct process_row *row, bool is_main,
                               bool *has_changed_ret)
{
    __attribute__((cleanup(cleanup_maps_text))) struct maps_text text = {0};
    char exe[PATH_MAX] = "";
    char path[32];

    if (is_main) {
        snprintf(path, sizeof(path), "/proc/%u/exe", target_row_task(row));
        ssize_t length = readlink(path, exe, sizeof(exe) - 1);
        exe[length > 0 ? length : 0] = '\0';
    }
    snprintf(path, sizeof(path), "/proc/%u/maps", target_row_task(row));
    RETURN_IF_ERROR(file_read_all(AT_FDCWD, path, MAX_MAPS_BYTES, &text.content, NULL));
    RETURN_IF_ERROR(maps_text_parse(&text));
    /* Ranges that are gone stay until something else is there: samples from before may be on the
     * way. Only when there are far too many, the truth of now has to do. */
    if (row->process.maps->num_vmas >= TARGET_MAX_VMAS) {
        struct maps *empty = NULL;

        RETURN_IF_ERROR(maps_create(&empty));
        maps_put(row->process.maps);
        row->process.maps = empty;
    }
    return maps_text_add(target, row, &text, exe, has_changed_ret);
}

bool target_reread_maps(struct target *target, struct process *process)
{
    struct process_row *row = (struct process_row *)process;
    uint64_t now_ns = clock_monotonic_ns();
    bool has_changed = false;

    if (process->has_ended || now_ns < row->reread_after_ns)
        return false;
    /* Set before reading: what is found anew may ask for a re-read itself. */
    row->reread_after_ns = now_ns + REREAD_INTERVAL_NS;
    process->maps_reread = true;
    error_destroy(target_maps_read(target, row, false, &has_changed));
    if (has_changed || row->reread_interval_ns == 0)
        row->reread_interval_ns = REREAD_INTERVAL_NS;
    else if (row->reread_interval_ns < MAX_REREAD_INTERVAL_NS)
        row->reread_interval_ns *= 2;
    row->reread_after_ns = clock_monotonic_ns() + row->reread_interval_ns;
    return has_changed;
}

/* Adds the names of all threads that /proc lists; those that go meanwhile are left out. */
static struct error *threads_read(struct target *target, struct process_row *row)
{
    CLEANUP(free) pid_t *tids = NULL;
    pid_t pid = (pid_t)row->process.pid;
    size_t num_tids;
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    RETURN_IF_ERROR(procfs_list_ids(path, &tids, &num_tids));
    for (size_t i = 0; i < num_tids; i++) {
        char comm[PROCFS_COMM_BYTES * 4];
        uint32_t name;

        CLEANUP(error_destroy) struct error *gone = procfs_comm_read(pid, tids[i], comm);
        if (gone)
            continue;
        RETURN_IF_ERROR(target_name_add(target, comm, &name));
        RETURN_IF_ERROR(target_thread_set(target, row, (uint32_t)tids[i], name));
    }
    return NULL;
}

/* Finds or makes the row of a live process. A pid that was used by another process is a new one.
 * has_leader_ended_ret: whether its main thread is a zombie. */
static struct error *row_obtain(struct target *target, pid_t pid, bool *has_leader_ended_ret,
                                struct process_row **row_ret)
{
    struct process_row *row = target_row_find(target, (uint32_t)pid);
    struct procfs_stat stat;
    uint32_t name;

    RETURN_IF_ERROR(procfs_stat_read(pid, &stat));
    if (!row || row->process.has_ended ||
        (row->process.start_time_ticks != 0 &&
         row->process.start_time_ticks != stat.start_time_ticks))
        RETURN_IF_ERROR(target_row_reset(target, (uint32_t)pid, &row));
    row->process.start_time_ticks = stat.start_time_ticks;
    RETURN_IF_ERROR(target_name_add(target, stat.comm, &name));
    RETURN_IF_ERROR(target_thread_set(target, row, (uint32_t)pid, name));
    *has_leader_ended_ret = stat.state == 'Z';
    *row_ret = row;
    return NULL;
}

/* Says why maps could not be read: the cause that diagnose finds, else the error itself. */
static struct error *maps_error_take(struct error *err, pid_t pid)
{
    struct error *cause;

    if (!err || err->kind == ERROR_NO_MEMORY)
        return err;
    if (err->kind == ERROR_NOT_FOUND || err->kind == ERROR_GONE) {
        error_destroy(err);
        return error_create(ERROR_GONE, NULL, "process %d has ended", (int)pid);
    }
    cause = diagnose_process(pid);
    if (!cause)
        return err;
    error_destroy(err);
    return cause;
}

/* Gives a process of which nothing could be read a name that tells so. */
static struct error *row_name_unseen(struct target *target, struct process_row *row)
{
    char text[32];
    uint32_t name;

    snprintf(text, sizeof(text), "[pid %u]", row->process.pid);
    RETURN_IF_ERROR(string_table_add(&target->table->strings, text, &name));
    return target_thread_set(target, row, row->process.pid, name);
}

struct error *target_row_see(struct target *target, uint32_t pid, struct process_row **row_ret)
{
    struct process_row *row;

    CLEANUP(error_destroy)
    struct error *err = target_add_process(target, (pid_t)pid, false, NULL);
    if (err && err->kind == ERROR_NO_MEMORY)
        return take_ptr(err);
    row = target_row_find(target, pid);
    /* Gone already, or not ours to look at: the events alone have to do. */
    if (err)
        target->loss.counts[LOSS_UNSEEN]++;
    if (!row)
        RETURN_IF_ERROR(target_row_reset(target, pid, &row));
    if (row->process.num_threads == 0 && row->process.comm == 0)
        RETURN_IF_ERROR(row_name_unseen(target, row));
    *row_ret = row;
    return NULL;
}

/* The one process that stands for all tasks that have no pid here: of other pid namespaces, or so
 * far in their end that theirs is taken away. */
static struct error *row_see_outsiders(struct target *target, struct process_row **row_ret)
{
    uint32_t name;

    RETURN_IF_ERROR(target_row_reset(target, 0, row_ret));
    RETURN_IF_ERROR(string_table_add(&target->table->strings, "[no pid]", &name));
    return target_thread_set(target, *row_ret, 0, name);
}

struct error *target_see(struct target *target, uint32_t pid, struct process **process_ret)
{
    struct process_row *row;

    if (pid == UINT32_MAX)
        pid = 0;
    row = target_row_find(target, pid);
    if (!row && target->follows_all) {
        if (pid == 0)
            RETURN_IF_ERROR(row_see_outsiders(target, &row));
        else
            RETURN_IF_ERROR(target_row_see(target, pid, &row));
    }
    *process_ret = row ? &row->process : NULL;
    return NULL;
}

struct error *target_add_process(struct target *target, pid_t pid, bool is_main,
                                 struct process **process_ret)
{
    struct process_row *row;
    bool has_changed = false;
    bool has_leader_ended;

    RETURN_IF_ERROR(row_obtain(target, pid, &has_leader_ended, &row));
    RETURN_IF_ERROR(threads_read(target, row));
    if (has_leader_ended) { /* main() called pthread_exit(3), its threads run on */
        row->has_leader_ended = true;
        target_thread_remove(row, (uint32_t)pid);
    }
    if (row->process.num_threads == 0) {
        RETURN_IF_ERROR(target_row_end(target, row));
        return error_create(ERROR_GONE, NULL, "process %d has ended", (int)pid);
    }
    row->has_status = false;
    target_status_read(target, row);
    RETURN_IF_ERROR(maps_error_take(target_maps_read(target, row, is_main, &has_changed), pid));
    if (process_ret)
        *process_ret = &row->process;
    return NULL;
}
