/* What the heap's BPF programs (sampler/bpf/heap.bpf.c) and sampler/heap_bpf.c agree on: the values
 * of their maps and the record of a sample.
 *
 * Compiled for the kernel and for us. Threads: none. Source: docs/adr/0023.
 */
#ifndef SAMPLER_BPF_HEAP_H
#define SAMPLER_BPF_HEAP_H

#include <linux/types.h>

#define HEAP_BPF_MAX_SITES 1024 /* different ones; processes share theirs */
#define HEAP_BPF_MAX_CALLERS 4
#define HEAP_BPF_NO_ARGUMENT 15u
/* A larger allocation by a function that may throw is not caught at its return: an exception could
 * not find its way past the breakpoint there, and large ones are those that fail. */
#define HEAP_BPF_MAX_THROWING_BYTES (16u << 20)

/* What malloc gives by itself: MALLOC_ALIGNMENT of glibc on x86-64. */
#define HEAP_BPF_SMALL_ALIGNMENT 16

/* What a function does with its arguments (0..4: rdi, rsi, rdx, rcx, rax). */
struct heap_bpf_site {
    __u8 is_free;    /* frees its old_argument, allocates nothing */
    __u8 is_stepped; /* counted apart */
    __u8 may_throw;
    __u8 entry_only; /* never catch the return: the address stays unknown */
    __u8 size_argument;
    __u8 count_argument; /* by which the size is multiplied, or HEAP_BPF_NO_ARGUMENT */
    __u8 old_argument;   /* what it frees before (realloc), or ... */
    __u8 out_argument;   /* where it writes the address, returning 0 for success, or ... */
    __u32 num_callers;
    __u16 null_passes_on;  /* without old memory it calls another probed function: no call itself */
    __u16 small_passes_on; /* memalign: the same, with an alignment <= HEAP_BPF_SMALL_ALIGNMENT */
    __s64 caller_start[HEAP_BPF_MAX_CALLERS]; /* return addresses to skip, relative to the site */
    __s64 caller_limit[HEAP_BPF_MAX_CALLERS];
};

/* The cookie of a breakpoint: which of `sites`, and whose. */
#define HEAP_BPF_COOKIE(process, site) ((__u64)(process) << 32 | (site))

/* What is said to the programs. */
struct heap_bpf_control {
    __u64 rate; /* mean distance of samples; 0: sampling is off */
};

/* What each CPU counts. */
struct heap_bpf_cpu {
    __u64 position; /* bytes allocated so far */
    __u64 next;     /* the position that the next sample holds; 0: not drawn */
    __u64 rate;     /* with which it was drawn */
    __u64 num_allocs;
    __u64 num_frees;
    __u64 num_stepped;
    __u64 num_nested;
    __u64 num_samples;
    __u64 num_lost;
    __u64 num_untracked;
    __u64 num_put;   /* into `live` */
    __u64 num_taken; /* out of it */
};

/* Key of `live`; its value is the id of the sample. */
struct heap_bpf_key {
    __u64 address;
    __u64 process;
};

/* What a sample carries as PERF_SAMPLE_RAW. address 0: it was taken at the call, not at the return,
 * so that the return address is still on the stack. */
struct heap_bpf_record {
    __u64 id;
    __u64 size;
    __u64 rate;
    __u64 address;
    __u64 probe_pc;
};

/* The kernel pads raw data so that it ends, with its 32-bit size in front, at a multiple of 8. */
#define HEAP_BPF_RAW_BYTES ((sizeof(struct heap_bpf_record) + 4 + 7) / 8 * 8 - 4)

#endif
