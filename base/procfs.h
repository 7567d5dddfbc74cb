/* Small readers of /proc: who a process is. Text from /proc is hostile (comm and paths are any
 * bytes).
 *
 * Not maps (target/maps.h). Every function takes a pid of our own pid namespace.
 * Threads: any. Source: proc(5), kernel Documentation/filesystems/proc.rst.
 */
#ifndef BASE_PROCFS_H
#define BASE_PROCFS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define PROCFS_COMM_BYTES 16 /* TASK_COMM_LEN, with the NUL */

struct procfs_stat {
    char comm[PROCFS_COMM_BYTES * 4]; /* as in stat, cut; any bytes but NUL */
    char state;                       /* R S D Z T t X ... */
    pid_t ppid;
    uint64_t utime_ticks; /* user time of all threads, in clock ticks (sysconf(_SC_CLK_TCK)) */
    uint64_t stime_ticks;
    uint64_t children_ticks;   /* user and system time of children that were waited for */
    uint64_t start_time_ticks; /* since boot: with the pid this identifies a process for good */
};

/* Parses the text of /proc/PID/stat. text: NUL-terminated; the comm field may hold blanks and
 * parentheses (the last ')' ends it). stat_ret: the fields. Returns: NULL or ERROR_FAILED. */
struct error *procfs_stat_parse(const char *text, struct procfs_stat *stat_ret) MUST_CHECK;

/* Reads /proc/PID/stat. Returns: NULL; ERROR_GONE when there is no such process (any more). */
struct error *procfs_stat_read(pid_t pid, struct procfs_stat *stat_ret) MUST_CHECK;

/* Reads the name of one thread, /proc/PID/task/TID/comm, without its newline.
 * comm: room for PROCFS_COMM_BYTES * 4 bytes. Returns: NULL; ERROR_GONE when it is gone. */
struct error *procfs_comm_read(pid_t pid, pid_t tid, char *comm) MUST_CHECK;

/* Tells the on-CPU time of a process in ns: sum over its threads' schedstat where that can be read,
 * else utime + stime. Threads that ended are not in the sum of schedstat.
 * cpu_ns_ret: the time. Returns: NULL or an error. */
struct error *procfs_cpu_ns_read(pid_t pid, uint64_t *cpu_ns_ret) MUST_CHECK;

/* Finds the line "KEY:\tvalue" in the text of a /proc/PID/status.
 * Returns: behind the colon, blanks first; NULL when there is no such line. */
const char *procfs_status_find(const char *status, const char *key);

/* Tells the peak resident memory of this program in bytes, since its execve: ru_maxrss of
 * getrusage(2) keeps that of the process that forked us. Returns: 0 when it cannot be read. Source:
 * proc(5) VmHWM. */
uint64_t procfs_self_peak_rss(void);

/* How much memory of a process is resident; 0 where nothing is told (it is a zombie). */
struct procfs_memory {
    uint64_t rss_bytes;
    uint64_t peak_rss_bytes; /* since its execve */
    uint64_t anon_bytes;     /* of no file: heap, stacks, anonymous mappings */
};

/* Reads /proc/PID/status. memory_ret: the figures. Returns: NULL; ERROR_GONE when there is no such
 * process (any more). Source: proc(5) VmRSS, VmHWM, RssAnon. */
struct error *procfs_memory_read(pid_t pid, struct procfs_memory *memory_ret) MUST_CHECK;

/* Lists the numeric names in a /proc directory ("/proc" or "/proc/PID/task"), ascending.
 * ids_ret: heap array owned by the caller (may be NULL when there are none). num_ids_ret: its
 * length. Returns: NULL; ERROR_GONE when the directory is not there. */
struct error *procfs_list_ids(const char *directory, pid_t **ids_ret,
                              size_t *num_ids_ret) MUST_CHECK;

#endif
