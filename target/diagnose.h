/* From a refusal to its cause and the one remedy: why can't this process be profiled here?
 *
 * Source: ptrace(2) (access modes), perf_event_open(2), capabilities(7), concurrency.md 6.
 * Threads: none.
 */
#ifndef TARGET_DIAGNOSE_H
#define TARGET_DIAGNOSE_H

#include <sys/types.h>

#include "base/error.h"

/* Checks that `pid` exists and may be profiled by us, before anything is opened.
 * Returns: NULL; ERROR_GONE "no process with pid 1234"; ERROR_PERMISSION "process 1234
 * (redis-server) belongs to user redis (uid 110)" with the hint "run as that user or with sudo";
 * ERROR_UNSUPPORTED for a kernel thread or a zombie. */
struct error *diagnose_process(pid_t pid) MUST_CHECK;

/* The same for one thread. pid_ret: its process. Returns: as above; ERROR_GONE "no thread with id
 * 1234". */
struct error *diagnose_thread(pid_t tid, pid_t *pid_ret) MUST_CHECK;

/* Finds the processes named `name` (comm or basename of argv[0] or of the executable), ours
 * excluded. pids_ret: heap array owned by the caller. num_pids_ret: its length, >= 1. Returns:
 * NULL; ERROR_NOT_FOUND "no process named ..." */
struct error *diagnose_find_by_name(const char *name, pid_t **pids_ret,
                                    size_t *num_pids_ret) MUST_CHECK;

#endif
