/* What a BPF program and its loader (sampler/bpf_loader.c) agree on.
 *
 *     SEC("maps") struct bpf_image_map children = {BPF_MAP_TYPE_HASH, 4, 4, 1024};
 *     BPF_IMAGE_NUMBER(tgid_offset);     known on the running host only, told by the loader
 *     ... BPF_IMAGE_VALUE(tgid_offset)
 *
 * Compiled for the kernel and for us. Threads: none. Source: bpf(2).
 */
#ifndef SAMPLER_BPF_IMAGE_H
#define SAMPLER_BPF_IMAGE_H

#include <linux/types.h>

/* A map: a global variable in section "maps". */
struct bpf_image_map {
    __u32 type; /* BPF_MAP_TYPE_* */
    __u32 key_bytes;
    __u32 value_bytes;
    __u32 max_entries;
};

#ifdef __bpf__

/* Declares a number: an undefined symbol, of whose address the compiler knows nothing. */
#define BPF_IMAGE_NUMBER(name) extern const char name[]

/* Tells the number. Behind the empty instruction it may be 0, which no address is. */
#define BPF_IMAGE_VALUE(name)                  \
    ({                                         \
        __u64 value_of_##name = (__u64)(name); \
        __asm__("" : "+r"(value_of_##name));   \
        value_of_##name;                       \
    })

#endif

#endif
