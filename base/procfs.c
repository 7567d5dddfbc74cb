#include "base/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"

#define PROCFS_PATH_BYTES 64
#define PROCFS_STAT_MAX_BYTES 65536
#define NS_PER_S 1000000000ULL

/* A process that is gone shows as ENOENT (its directory) or ESRCH (a file opened before). */
static struct error *procfs_gone_take(struct error *err)
{
    if (err && (err->errno_value == ENOENT || err->errno_value == ESRCH))
        err->kind = ERROR_GONE;
    return err;
}

static struct error *procfs_read(const char *path, char **content_ret)
{
    return procfs_gone_take(
        file_read_all(AT_FDCWD, path, PROCFS_STAT_MAX_BYTES, content_ret, NULL));
}

/* Reads the unsigned number at *text and the blanks before it; moves *text behind it. */
static bool text_read_u64(const char **text, uint64_t *value_ret)
{
    char *limit;

    while (**text == ' ')
        ++*text;
    if (!isdigit((unsigned char)**text))
        return false;
    errno = 0;
    unsigned long long value = strtoull(*text, &limit, 10);
    if (errno)
        return false;
    *text = limit;
    *value_ret = value;
    return true;
}

/* Skips `num_fields` blank-separated fields. */
static bool text_skip_fields(const char **text, int num_fields)
{
    for (int i = 0; i < num_fields; i++) {
        *text += strspn(*text, " ");
        size_t length = strcspn(*text, " \n");
        if (!length)
            return false;
        *text += length;
    }
    return true;
}

struct error *procfs_stat_parse(const char *text, struct procfs_stat *stat_ret)
{
    struct procfs_stat stat = {0};
    uint64_t children[2];
    uint64_t ppid;

    /* comm is any bytes, blanks and parentheses included: proc(5) puts it between the first '(' and
     * the last ')'. */
    const char *open = strchr(text, '(');
    const char *close = strrchr(text, ')');
    if (!open || !close || close < open)
        return error_create(ERROR_FAILED, NULL, "stat: no process name in it");
    size_t comm_bytes = (size_t)(close - open - 1);
    if (comm_bytes > sizeof(stat.comm) - 1)
        comm_bytes = sizeof(stat.comm) - 1;
    memcpy(stat.comm, open + 1, comm_bytes);

    /* Fields by their numbers in proc(5): 3 state, 4 ppid, 14 utime, 15 stime, 16 cutime, 17
     * cstime, 22 starttime. */
    const char *next = close + 1;
    next += strspn(next, " ");
    stat.state = *next;
    if (!isalpha((unsigned char)*next) || !text_skip_fields(&next, 1) ||
        !text_read_u64(&next, &ppid) || ppid > INT_MAX || !text_skip_fields(&next, 9) ||
        !text_read_u64(&next, &stat.utime_ticks) || !text_read_u64(&next, &stat.stime_ticks) ||
        !text_read_u64(&next, &children[0]) || !text_read_u64(&next, &children[1]) ||
        !text_skip_fields(&next, 4) || !text_read_u64(&next, &stat.start_time_ticks))
        return error_create(ERROR_FAILED, NULL, "stat: fields missing behind the process name");
    stat.children_ticks = children[0] + children[1];
    stat.ppid = (pid_t)ppid;
    *stat_ret = stat;
    return NULL;
}

struct error *procfs_stat_read(pid_t pid, struct procfs_stat *stat_ret)
{
    char path[PROCFS_PATH_BYTES];
    CLEANUP(free) char *text = NULL;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    RETURN_IF_ERROR(procfs_read(path, &text));
    return error_prefix_take(procfs_stat_parse(text, stat_ret), "%s", path);
}

struct error *procfs_comm_read(pid_t pid, pid_t tid, char *comm)
{
    char path[PROCFS_PATH_BYTES];
    CLEANUP(free) char *text = NULL;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", pid, tid);
    RETURN_IF_ERROR(procfs_read(path, &text));
    size_t length = strlen(text);
    /* The kernel adds one newline; others belong to the name. */
    if (length && text[length - 1] == '\n')
        length--;
    if (length > PROCFS_COMM_BYTES * 4 - 1)
        length = PROCFS_COMM_BYTES * 4 - 1;
    memcpy(comm, text, length);
    comm[length] = '\0';
    return NULL;
}

/* Reads the first field of one thread's schedstat: ns on a CPU (Documentation/scheduler/
 * sched-stats.rst). ERROR_GONE when the thread ended, which is no failure. */
static struct error *procfs_schedstat_read(pid_t pid, pid_t tid, uint64_t *cpu_ns_ret)
{
    char path[PROCFS_PATH_BYTES];
    CLEANUP(free) char *text = NULL;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
    RETURN_IF_ERROR(procfs_read(path, &text));
    const char *next = text;
    if (!text_read_u64(&next, cpu_ns_ret))
        return error_create(ERROR_UNSUPPORTED, NULL, "%s: not a number", path);
    return NULL;
}

static struct error *procfs_stat_cpu_ns(pid_t pid, uint64_t *cpu_ns_ret)
{
    struct procfs_stat stat = {0};

    RETURN_IF_ERROR(procfs_stat_read(pid, &stat));
    long ticks_per_s = sysconf(_SC_CLK_TCK);
    if (ticks_per_s <= 0)
        ticks_per_s = 100;
    *cpu_ns_ret = (stat.utime_ticks + stat.stime_ticks) * (NS_PER_S / (unsigned long)ticks_per_s);
    return NULL;
}

/* ret is set to false when schedstat cannot be had here (CONFIG_SCHED_INFO off, or no thread left).
 */
static struct error *procfs_sum_schedstat(pid_t pid, bool *is_known_ret, uint64_t *cpu_ns_ret)
{
    char directory[PROCFS_PATH_BYTES];
    CLEANUP(free) pid_t *tids = NULL;
    size_t num_tids;
    size_t num_read = 0;
    uint64_t sum_ns = 0;

    snprintf(directory, sizeof(directory), "/proc/%d/task", pid);
    RETURN_IF_ERROR(procfs_list_ids(directory, &tids, &num_tids));
    for (size_t i = 0; i < num_tids; i++) {
        uint64_t thread_ns;
        struct error *err = procfs_schedstat_read(pid, tids[i], &thread_ns);
        if (err == &error_no_memory)
            return err;
        if (!err) {
            sum_ns += thread_ns;
            num_read++;
        }
        error_destroy(err);
    }
    *is_known_ret = num_read > 0;
    *cpu_ns_ret = sum_ns;
    return NULL;
}

struct error *procfs_cpu_ns_read(pid_t pid, uint64_t *cpu_ns_ret)
{
    bool is_known = false;
    uint64_t cpu_ns = 0;

    RETURN_IF_ERROR(procfs_sum_schedstat(pid, &is_known, &cpu_ns));
    if (!is_known)
        return procfs_stat_cpu_ns(pid, cpu_ns_ret);
    *cpu_ns_ret = cpu_ns;
    return NULL;
}

static bool text_is_id(const char *name, pid_t *id_ret)
{
    const char *next = name;
    uint64_t id;

    if (!isdigit((unsigned char)*name) || !text_read_u64(&next, &id) || *next || id > INT_MAX)
        return false;
    *id_ret = (pid_t)id;
    return true;
}

static int compare_ids(const void *a, const void *b)
{
    pid_t id_a = *(const pid_t *)a;
    pid_t id_b = *(const pid_t *)b;

    return (id_a > id_b) - (id_a < id_b);
}

struct error *procfs_list_ids(const char *directory, pid_t **ids_ret, size_t *num_ids_ret)
{
    CLEANUP(closedir) DIR *dir = opendir(directory);
    CLEANUP(free) pid_t *ids = NULL;
    size_t num_ids = 0;
    size_t capacity = 0;

    if (!dir)
        return procfs_gone_take(error_from_errno(errno, NULL, "%s", directory));
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        /* ENOENT/ESRCH in mid-list: the process ended, what was read is what there was. */
        if (!entry && errno && errno != ENOENT && errno != ESRCH)
            return error_from_errno(errno, NULL, "%s", directory);
        if (!entry)
            break;
        pid_t id;
        if (!text_is_id(entry->d_name, &id))
            continue;
        RETURN_IF_ERROR(array_reserve(&ids, &capacity, num_ids + 1, sizeof(*ids)));
        ids[num_ids++] = id;
    }
    if (num_ids)
        qsort(ids, num_ids, sizeof(*ids), compare_ids);
    *ids_ret = take_ptr(ids);
    *num_ids_ret = num_ids;
    return NULL;
}

const char *procfs_status_find(const char *status, const char *key)
{
    size_t length = strlen(key);

    for (const char *line = status; line && *line;) {
        if (strncmp(line, key, length) == 0 && line[length] == ':')
            return line + length + 1;
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return NULL;
}

/* A line of a status in KB. Returns: bytes; 0 when there is no such line. */
static uint64_t status_bytes(const char *status, const char *key)
{
    const char *line = procfs_status_find(status, key);

    return line ? strtoull(line, NULL, 10) * 1024 : 0;
}

uint64_t procfs_self_peak_rss(void)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    CLEANUP(free) char *text = NULL;

    err = procfs_read("/proc/self/status", &text);
    return err ? 0 : status_bytes(text, "VmHWM");
}

struct error *procfs_memory_read(pid_t pid, struct procfs_memory *memory_ret)
{
    CLEANUP(free) char *text = NULL;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    RETURN_IF_ERROR(procfs_read(path, &text));
    *memory_ret = (struct procfs_memory){
        .rss_bytes = status_bytes(text, "VmRSS"),
        .peak_rss_bytes = status_bytes(text, "VmHWM"),
        .anon_bytes = status_bytes(text, "RssAnon"),
    };
    return NULL;
}
