/* In the kernel: at each call of an allocator's function, whether this one is sampled; at each call
 * that frees, whether what it frees was.
 *
 * Loaded by sampler/heap_bpf.c. One CPU's counters are shared by the threads that run on it, which
 * may take over from each other at any instruction: sums are added up atomically, and a draw that
 * two do at once costs one gap, which no estimate notices (a Poisson process has no memory).
 * Source: docs/adr/0023; kernel Documentation/trace/uprobetracer.rst.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/ptrace.h>

#include <bpf/bpf_helpers.h>

#include "sampler/bpf/heap.h"
#include "sampler/bpf/heap_gap.h"
#include "sampler/bpf/image.h"

#define MAX_PENDING 16384 /* threads that are in a sampled call at one time */
#define FILTER_BITS 14
#define FILTER_WORDS (1u << FILTER_BITS)
#define MAX_BYTES (1ull << 47) /* no allocation can be larger */

/* Where a breakpoint has no cookie of its own, its program has: HEAP_BPF_COOKIE(). Else 0. */
BPF_IMAGE_NUMBER(fixed_cookie);

SEC("maps")
struct bpf_image_map control = {BPF_MAP_TYPE_ARRAY, 4, sizeof(struct heap_bpf_control), 1};

SEC("maps")
struct bpf_image_map sites = {BPF_MAP_TYPE_ARRAY, 4, sizeof(struct heap_bpf_site),
                              HEAP_BPF_MAX_SITES};

SEC("maps")
struct bpf_image_map cpus = {BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct heap_bpf_cpu), 1};

/* The events that samples are written to, one for each CPU; as many as there are CPUs. */
SEC("maps") struct bpf_image_map outputs = {BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 1};

/* heap_bpf_key -> id of the sample; as large as the loader says. */
SEC("maps")
struct bpf_image_map live = {BPF_MAP_TYPE_HASH, sizeof(struct heap_bpf_key), 8, 1};

/* How many keys of `live` fall on each of its words, at index 0: most frees see a 0 there, and need
 * no look into the table. */
SEC("maps")
struct bpf_image_map filter = {BPF_MAP_TYPE_ARRAY, 4, FILTER_WORDS * sizeof(__u32), 1};

/* A call whose return is to be caught. */
struct pending_call {
    __u64 cookie;
    __u64 size;
    __u64 rate; /* 0: not sampled, but what it frees was */
    __u64 probe_pc;
    __u64 out; /* where it writes the address; 0: it returns it */
    struct heap_bpf_key old_key;
    __u64 old_id; /* of what it frees; 0: that is no sample */
};

/* Calls may be nested: the return of the inner one is not that of the outer one. */
struct pending_key {
    __u64 thread;
    __u64 return_slot; /* where on its stack the return address is */
};

SEC("maps")
struct bpf_image_map pending = {BPF_MAP_TYPE_HASH, sizeof(struct pending_key),
                                sizeof(struct pending_call), MAX_PENDING};

static __always_inline struct heap_bpf_cpu *this_cpu(void)
{
    __u32 zero = 0;

    return bpf_map_lookup_elem(&cpus, &zero);
}

/* Reads a register. The empty instruction keeps the compiler from choosing the address first and
 * reading then, which the kernel does not accept. */
#define READ_REGISTER(regs, name)             \
    ({                                        \
        __u64 value_of_##name = (regs)->name; \
        __asm__("" : "+r"(value_of_##name));  \
        value_of_##name;                      \
    })

static __always_inline __u64 argument(const struct pt_regs *regs, __u32 number)
{
    __u64 first = READ_REGISTER(regs, rdi);
    __u64 second = READ_REGISTER(regs, rsi);
    __u64 third = READ_REGISTER(regs, rdx);
    __u64 fourth = READ_REGISTER(regs, rcx);
    __u64 moved = READ_REGISTER(regs, rax);

    return number == 0   ? first
           : number == 1 ? second
           : number == 2 ? third
           : number == 3 ? fourth
                         : moved;
}

static __always_inline __u32 *filter_word(__u64 address)
{
    __u32 zero = 0;
    __u32 *words = bpf_map_lookup_elem(&filter, &zero);

    /* Fibonacci hashing; allocations are 16 bytes apart. */
    return words ? words + ((address >> 4) * 0x9e3779b97f4a7c15ull >> (64 - FILTER_BITS)) : 0;
}

/* Takes an address out of the table. Returns: the id of its sample; 0 when it was not there. */
static __always_inline __u64 take_live(struct heap_bpf_cpu *cpu, const struct heap_bpf_key *key)
{
    __u32 *word = filter_word(key->address);
    __u64 *found;
    __u64 id;

    if (!word || !*word)
        return 0;
    found = bpf_map_lookup_elem(&live, key);
    if (!found)
        return 0;
    id = *found;
    if (bpf_map_delete_elem(&live, key))
        return 0;
    __sync_fetch_and_add(word, -1);
    __sync_fetch_and_add(&cpu->num_taken, 1);
    return id;
}

/* Puts an address into the table. Returns: whether it is there now. */
static __always_inline int put_live(struct heap_bpf_cpu *cpu, const struct heap_bpf_key *key,
                                    __u64 id)
{
    __u32 *word = filter_word(key->address);
    long err = bpf_map_update_elem(&live, key, &id, BPF_NOEXIST);

    if (err == -EEXIST) /* it was freed unseen */
        return bpf_map_update_elem(&live, key, &id, BPF_ANY) == 0;
    if (err || !word) {
        __sync_fetch_and_add(&cpu->num_untracked, 1);
        return 0;
    }
    __sync_fetch_and_add(word, 1);
    __sync_fetch_and_add(&cpu->num_put, 1);
    return 1;
}

/* Writes a sample with the registers and the stack as they are now. */
static __always_inline int write_sample(struct pt_regs *regs, struct heap_bpf_cpu *cpu,
                                        struct heap_bpf_record *record)
{
    if (bpf_perf_event_output(regs, &outputs, BPF_F_CURRENT_CPU, record, sizeof(*record))) {
        __sync_fetch_and_add(&cpu->num_lost, 1);
        return 0;
    }
    __sync_fetch_and_add(&cpu->num_samples, 1);
    return 1;
}

/* A number that no other sample has: no two threads are at the same time on one CPU. */
static __always_inline __u64 new_id(void)
{
    return bpf_ktime_get_ns() << 12 | (bpf_get_smp_processor_id() & 4095);
}

/* Whether a call comes out of another that is probed, which stands for both. */
static __always_inline int is_nested(const struct pt_regs *regs, const struct heap_bpf_site *site)
{
    __u64 caller = 0;

    if (bpf_probe_read_user(&caller, sizeof(caller), (const void *)regs->rsp))
        return 0;
    caller -= regs->rip;
    for (__u32 i = 0; i < HEAP_BPF_MAX_CALLERS; i++) {
        if (i < site->num_callers && (__s64)caller >= site->caller_start[i] &&
            (__s64)caller < site->caller_limit[i])
            return 1;
    }
    return 0;
}

/* Tells how many bytes a call asks for. Returns: MAX_BYTES when that can't be had. */
static __always_inline __u64 asked_bytes(const struct pt_regs *regs,
                                         const struct heap_bpf_site *site)
{
    __u64 size = argument(regs, site->size_argument);
    __u64 count;

    if (size >= MAX_BYTES)
        return MAX_BYTES;
    if (site->count_argument == HEAP_BPF_NO_ARGUMENT)
        return size;
    count = argument(regs, site->count_argument);
    if ((size | count) >> 23 && size != 0 && count >= MAX_BYTES / size)
        return MAX_BYTES;
    return size * count;
}

/* Counts an allocation. Returns: the rate of the sample that it is; 0 when it is none. */
static __always_inline __u64 count_down(struct heap_bpf_cpu *cpu, __u64 size)
{
    struct heap_bpf_control *said;
    __u32 zero = 0;
    __u64 position;
    __u64 rate;

    __sync_fetch_and_add(&cpu->num_allocs, 1);
    __sync_fetch_and_add(&cpu->position, size);
    position = *(volatile __u64 *)&cpu->position;
    if (position <= cpu->next)
        return 0;
    said = bpf_map_lookup_elem(&control, &zero);
    if (!said || !said->rate) {
        cpu->next = 0;
        return 0;
    }
    rate = cpu->rate;
    if (!cpu->next) { /* the first since sampling is on: the process starts here */
        rate = said->rate;
        cpu->rate = rate;
        cpu->next = position - size + heap_gap(bpf_get_prandom_u32(), rate);
        if (position <= cpu->next)
            return 0;
    }
    cpu->rate = said->rate;
    cpu->next = position + heap_gap(bpf_get_prandom_u32(), said->rate);
    return rate;
}

/* Writes the sample of a call that is not to be caught at its return. */
static __always_inline void write_at_call(struct pt_regs *regs, struct heap_bpf_cpu *cpu,
                                          __u64 size, __u64 rate)
{
    struct heap_bpf_record record = {
        .id = new_id(), .size = size, .rate = rate, .probe_pc = regs->rip};

    __sync_fetch_and_add(&cpu->num_untracked, 1);
    write_sample(regs, cpu, &record);
}

/* A call that allocates. Returns: whether its return is to be caught. */
static __always_inline int on_alloc(struct pt_regs *regs, struct heap_bpf_cpu *cpu,
                                    const struct heap_bpf_site *site, __u64 cookie)
{
    struct pending_call call = {.cookie = cookie, .probe_pc = regs->rip};
    struct pending_key pending_key = {bpf_get_current_pid_tgid(), regs->rsp};

    if (site->old_argument != HEAP_BPF_NO_ARGUMENT) {
        call.old_key.address = argument(regs, site->old_argument);
        call.old_key.process = cookie >> 32;
        if (call.old_key.address)
            call.old_id = take_live(cpu, &call.old_key);
        else if (site->null_passes_on)
            return 0;
    }
    if (site->small_passes_on && argument(regs, 0) <= HEAP_BPF_SMALL_ALIGNMENT)
        return 0;
    call.size = asked_bytes(regs, site);
    if (call.size < MAX_BYTES)
        call.rate = count_down(cpu, call.size);
    if (!call.rate && !call.old_id)
        return 0;
    if (call.rate &&
        (site->entry_only || (site->may_throw && call.size > HEAP_BPF_MAX_THROWING_BYTES))) {
        write_at_call(regs, cpu, call.size, call.rate);
        return 0;
    }
    if (site->out_argument != HEAP_BPF_NO_ARGUMENT)
        call.out = argument(regs, site->out_argument);
    if (bpf_map_update_elem(&pending, &pending_key, &call, BPF_ANY)) {
        if (call.rate)
            write_at_call(regs, cpu, call.size, call.rate);
        return 0;
    }
    return 1;
}

/* Any call of a probed function. Returns: whether its return is to be caught. */
static __always_inline int on_call(struct pt_regs *regs)
{
    __u64 cookie = BPF_IMAGE_VALUE(fixed_cookie);
    struct heap_bpf_cpu *cpu = this_cpu();
    const struct heap_bpf_site *site;
    struct heap_bpf_key key;
    __u32 index;

    if (!cookie)
        cookie = bpf_get_attach_cookie(regs);
    index = cookie;
    site = bpf_map_lookup_elem(&sites, &index);
    if (!site || !cpu)
        return 0;
    if (site->num_callers && is_nested(regs, site)) {
        __sync_fetch_and_add(&cpu->num_nested, 1);
        return 0;
    }
    if (site->is_stepped)
        __sync_fetch_and_add(&cpu->num_stepped, 1);
    if (!site->is_free)
        return on_alloc(regs, cpu, site, cookie);
    key.address = argument(regs, site->old_argument);
    key.process = cookie >> 32;
    __sync_fetch_and_add(&cpu->num_frees, 1);
    take_live(cpu, &key);
    return 0;
}

/* Tells what a call that returns has allocated. Returns: 0 when it has failed. */
static __always_inline __u64 returned_address(const struct pt_regs *regs, __u64 out)
{
    __u64 address = 0;

    if (!out)
        return regs->rax;
    if ((__u32)regs->rax != 0 || bpf_probe_read_user(&address, sizeof(address), (const void *)out))
        return 0;
    return address;
}

/* The return of a call. regs: as after the return. */
static __always_inline void on_return(struct pt_regs *regs)
{
    struct pending_key pending_key = {bpf_get_current_pid_tgid(), regs->rsp - 8};
    struct pending_call *found = bpf_map_lookup_elem(&pending, &pending_key);
    struct heap_bpf_cpu *cpu = this_cpu();
    struct heap_bpf_record record = {0};
    struct heap_bpf_key key;
    struct pending_call call;
    int is_live;

    if (!found || !cpu)
        return;
    call = *found;
    bpf_map_delete_elem(&pending, &pending_key);
    record.address = returned_address(regs, call.out);
    if (!record.address) {
        if (call.old_id && call.size != 0) /* a realloc that failed has freed nothing */
            put_live(cpu, &call.old_key, call.old_id);
        return;
    }
    if (!call.rate)
        return;
    record.id = new_id();
    record.size = call.size;
    record.rate = call.rate;
    record.probe_pc = call.probe_pc;
    key.address = record.address;
    key.process = call.cookie >> 32;
    is_live = put_live(cpu, &key, record.id);
    if (!write_sample(regs, cpu, &record) && is_live)
        take_live(cpu, &key);
}

/* Both, of a session: returns 0 to be called at the return, too. There the program counter is the
 * caller's; at the call it is that of the breakpoint. */
SEC("uprobe/session")
int on_session(struct pt_regs *regs)
{
    if (bpf_get_func_ip(regs) == regs->rip)
        return !on_call(regs);
    on_return(regs);
    return 0;
}

/* Without sessions all returns are caught. The kernel takes any other result for a wish of its
 * own. */
SEC("uprobe/call")
int on_plain_call(struct pt_regs *regs)
{
    on_call(regs);
    return 0;
}

SEC("uprobe/return")
int on_plain_return(struct pt_regs *regs)
{
    on_return(regs);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
