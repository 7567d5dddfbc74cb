/* Surviving files that shrink while they are mapped: a page that lies beyond the end of its file
 * reads as zeros instead of killing us with SIGBUS.
 *
 * The handler replaces the faulting page by an anonymous page of zeros when the fault is a
 * BUS_ADRERR, else restores the default action. Parsers then see nonsense and fail cleanly.
 * Threads: process-wide. Source: sigaction(2) (BUS_ADRERR), mmap(2).
 */
#ifndef BASE_SIGBUS_H
#define BASE_SIGBUS_H

/* Installs the handler; once, early in main(). */
void sigbus_guard_install(void);

/* Tells how many pages had to be replaced so far. */
unsigned long sigbus_guard_count(void);

#endif
