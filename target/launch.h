/* Launching a command so that it is profiled from its first instruction: fork, wait for the go,
 * execve.
 *
 * The command inherits exactly our environment, descriptors (ours are all close-on-exec), limits,
 * signal dispositions, mask and umask as they were when cprofiler started (launch_remember()).
 * Ownership: the caller owns the launch. Threads: none.
 * Source: execvp(3), fork(2), design.md 6.
 */
#ifndef TARGET_LAUNCH_H
#define TARGET_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct launch; /* a child between fork and the end */

/* Remembers signal dispositions, mask and limits as they are; first thing in main(). */
void launch_remember(void);

/* Tells whether `signal_number` was ignored at launch_remember() time. */
bool launch_was_ignored(int signal_number);

/* Looks `command` up as execvp would and forks a child that waits for launch_go().
 * argv: NULL-terminated, argv[0] is the command. launch_ret: owned by the caller.
 * Returns: NULL; ERROR_NOT_FOUND "no such command" or ERROR_PERMISSION "not executable" with a
 * hint. */
struct error *launch_start(char *const *argv, struct launch **launch_ret) MUST_CHECK;

/* Tells the file that is executed. Borrowed. */
const char *launch_path(const struct launch *launch);

/* Tells the pid of the child. */
pid_t launch_pid(const struct launch *launch);

/* Lets the child execve. Returns: NULL, or why execve failed (the child is reaped then). */
struct error *launch_go(struct launch *launch) MUST_CHECK;

/* Tells a pidfd that polls readable when the command ended; -1 where the kernel has none. */
int launch_pidfd(const struct launch *launch);

/* Looks whether the command has ended (wait: waits for it, EINTR included).
 * status_ret: wait status as of waitpid(2), written when true is returned. cpu_ns_ret: CPU time of
 * the command and its waited-for children (wait4(2)), ns; may be NULL.
 */
bool launch_wait(struct launch *launch, bool wait, int *status_ret, unsigned long long *cpu_ns_ret);

/* Tells the most memory that was resident in the command, or in one of its children, once it has
 * ended; bytes. 0: not known, since it was less than we had when we forked it. */
unsigned long long launch_peak_rss(const struct launch *launch);

/* Frees. A child that never got its go is killed and reaped; a running command is left alone. */
void launch_destroy(struct launch *launch);

#endif
