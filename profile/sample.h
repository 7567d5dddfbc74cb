/* A sample: one event as it was taken, before unwinding. And the other things a kernel event stream
 * tells: mmap, comm, fork, exit. These are the nouns that pass from sampler/ to target/ and
 * unwind/.
 *
 * Pointers inside are borrowed from the sampler's ring and valid only during the handler call.
 * Threads: values. Source: perf_event_open(2) (record layouts), linux/perf_event.h.
 */
#ifndef PROFILE_SAMPLE_H
#define PROFILE_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Registers are numbered as DWARF does on x86-64 (System V ABI AMD64 figure 3.36):
 * 0 rax, 1 rdx, 2 rcx, 3 rbx, 4 rsi, 5 rdi, 6 rbp, 7 rsp, 8..15 r8..r15, 16 return address = rip.
 */
#define SAMPLE_NUM_REGS 17
#define SAMPLE_REG_BP 6
#define SAMPLE_REG_SP 7
#define SAMPLE_REG_IP 16

/* An allocation that was sampled (sampler/heap.h). Its stack is that of the caller, taken when the
 * allocator returned: regs[SAMPLE_REG_IP] is one less than the return address. */
struct heap_sample {
    uint64_t id;         /* of this sample in this session; never 0 */
    uint64_t size_bytes; /* as asked for */
    uint64_t rate_bytes; /* mean distance of samples when it was drawn; 0: by count, see weight */
    uint64_t address;    /* what the allocator returned */
    uint64_t probe_pc;   /* where in the allocator the breakpoint is */
};

struct sample {
    uint32_t pid; /* thread group; in our pid namespace */
    uint32_t tid;
    uint32_t cpu;
    uint32_t event;   /* which of the sampler's events it is, by index */
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t
        weight;  /* what it stands for, in the unit of its sample type (ns of CPU for cpu-clock) */
    uint64_t pc; /* where the event hit (PERF_SAMPLE_IP); kernel pc when in the kernel */

    const uint64_t *kernel_pcs; /* leaf first, PERF_CONTEXT_* markers removed; may be NULL */
    size_t num_kernel_pcs;      /* callers are return addresses as the kernel recorded them */

    bool in_kernel;     /* the event hit in kernel mode */
    bool has_user_regs; /* false for kernel threads */
    bool is_32bit;      /* the task runs the 32-bit ABI: regs must not be used for unwinding */
    uint64_t regs[SAMPLE_NUM_REGS]; /* user registers, DWARF order */

    const uint8_t *stack;     /* bytes of user stack from regs[SAMPLE_REG_SP] upward; may be NULL */
    size_t stack_bytes;       /* how many of them the kernel really copied (dyn_size) */
    size_t stack_asked_bytes; /* how many were asked for: stack_bytes == asked means there may be
                                 more */

    const struct heap_sample *heap; /* an allocation; NULL: none */
};

enum event_type {
    EVENT_SAMPLE,
    EVENT_MMAP,
    EVENT_COMM,
    EVENT_FORK,
    EVENT_EXIT,
    EVENT_MAPS, /* mappings of `pid` may have changed, and only /proc knows how */
    EVENT_LOSS,
};

/* A new executable mapping (PERF_RECORD_MMAP2). */
struct mmap_event {
    uint64_t start;
    uint64_t limit;
    uint64_t file_off;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint64_t inode;
    uint32_t prot;    /* PROT_* */
    const char *path; /* NUL-terminated, borrowed; "//anon" for anonymous memory */
};

/* A new name of a task; is_exec: the name came with an execve (PERF_RECORD_MISC_COMM_EXEC). */
struct comm_event {
    const char *comm; /* NUL-terminated, borrowed, any bytes */
    bool is_exec;
};

/* A new thread (pid == ppid) or process (PERF_RECORD_FORK). */
struct fork_event {
    uint32_t parent_pid;
    uint32_t parent_tid;
};

struct event {
    enum event_type type;
    uint32_t pid;
    uint32_t tid;
    uint64_t time_ns; /* CLOCK_MONOTONIC; events are delivered in this order */
    union {
        const struct sample *sample;
        struct mmap_event mmap;
        struct comm_event comm;
        struct fork_event fork;
        struct {
            uint32_t kind; /* enum loss_kind: LOST, SIDEBAND, THROTTLED, MALFORMED */
            uint64_t count;
        } loss;
    };
};

/* Receives events in order of time. context: whatever was given to drain. */
typedef void event_handler_fn(void *context, const struct event *event);

#endif
