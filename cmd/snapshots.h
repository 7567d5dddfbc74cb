/* Numbered snapshots of a heap profile while it is recorded: heap.0001.pprof, heap.0002.pprof, ...
 *
 * Naming functions takes long, and rings overflow meanwhile: each snapshot is named and written by
 * a child of our own, which has the profile as it was at that moment, and nothing of the kernel's.
 * One at a time; one that is due while another is being written comes when that is done.
 * A snapshot that can't be written ends the snapshots, not the recording.
 * Ownership: the caller's storage. Threads: none.
 */
#ifndef CMD_SNAPSHOTS_H
#define CMD_SNAPSHOTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "cmd/session.h"

struct snapshots {
    const char *path;     /* of the last one, without a number; borrowed */
    unsigned num_written; /* so far */
    unsigned num_skipped; /* since the one before was not ready */
    pid_t child;          /* that writes one now; 0: none */
    int report_fd;        /* what it says when it can't; valid with a child */
    bool has_failed;      /* no more are taken */
    char failure[256];    /* why */
};

/* Writes the next one; a session_snapshot_fn. context: a struct snapshots. */
void snapshots_take(void *context, struct session *session);

/* Waits until the one that is being written is there. */
void snapshots_finish(struct snapshots *snapshots);

/* Tells the file name of number `number`: FILE with it before the extension, behind FILE when it
 * has none. path_ret: room for path_bytes. Returns: false when it does not fit. */
bool snapshots_path(const char *path, unsigned number, char *path_ret, size_t path_bytes);

#endif
