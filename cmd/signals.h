/* Signals that end a recording: the first asks politely, a second SIGINT ends at once.
 *
 * SIGINT, SIGTERM and SIGHUP set a flag and make signals_fd() readable, so that whatever was
 * recorded is kept. A second SIGINT removes temporary output files and ends the program
 * immediately. A signal that was ignored when we started stays ignored (nohup), except SIGTERM. A
 * signal sent by a process (not typed at the terminal, which sends it to the command as well) is
 * passed on to the launched command.
 * Threads: process-wide. Source: sigaction(2), signal-safety(7).
 */
#ifndef CMD_SIGNALS_H
#define CMD_SIGNALS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* Installs the handlers. Returns: NULL or an error when no pipe can be made. */
struct error *signals_install(void) MUST_CHECK;

/* Tells a descriptor that polls readable once a signal came. */
int signals_fd(void);

/* Tells the first signal that came; 0 while there was none. */
int signals_received(void);

/* Forgets the signal that came: the next one is a first one again, which asks politely. */
void signals_rearm(void);

/* From now on passes signals on to `pid` (0: to nobody). */
void signals_forward_to(pid_t pid);

/* Ends this program as a command ended that had wait status `status`: by the same signal (without a
 * core of our own) or with the same exit status. Does not return for a signal; else returns the
 * status. */
int signals_end_as(int status);

#endif
