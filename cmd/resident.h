/* How much memory the target has resident, now and at most, as /proc tells it.
 *
 * Ownership: plain values. Threads: none. Source: proc(5) VmRSS, VmHWM.
 */
#ifndef CMD_RESIDENT_H
#define CMD_RESIDENT_H

#include <stdbool.h>
#include <stdint.h>

#include "target/target.h"

struct resident {
    uint64_t looked_ns;  /* when it was looked at last */
    uint64_t now_bytes;  /* of all processes that lived then; 0: none */
    uint64_t peak_bytes; /* the most seen, of all together or of one */
};

/* Looks at all processes of the target that live, once a second, or now when `is_last`. */
void resident_look(struct resident *resident, struct target *target, bool is_last);

/* Takes note of the most that a command which has ended had. */
void resident_add_peak(struct resident *resident, uint64_t peak_bytes);

#endif
