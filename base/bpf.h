/* The system call bpf(2), which glibc has no name for.
 *
 * Ownership: what it returns is the caller's. Threads: none. Source: bpf(2), linux/bpf.h.
 */
#ifndef BASE_BPF_H
#define BASE_BPF_H

#include <linux/bpf.h>

/* Calls bpf(2). attr: all that the command does not use is zero. Returns: what the kernel returns
 * (a descriptor or 0), or a negative errno value. */
int bpf_call(enum bpf_cmd command, union bpf_attr *attr);

#endif
