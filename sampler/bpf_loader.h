/* An object file of BPF programs that this program carries inside itself, loaded by bpf(2) alone.
 *
 * For what our own build makes of sampler/bpf/: one program in each section, named after what it
 * hangs on ("perf_event", "raw_tracepoint/NAME", "uprobe/ANY"); maps and numbers as
 * sampler/bpf/image.h says. Not for other object files: no BTF, no CO-RE (fields of the kernel come
 * from btf_offset.h). libbpf, which can all that, spends more CPU on probing the kernel than our
 * programs ever take (docs/adr/0011). Ownership: images are borrowed, descriptors are the caller's.
 * Threads: none. Source: bpf(2), elf(5), kernel Documentation/bpf/llvm_reloc.rst.
 */
#ifndef SAMPLER_BPF_LOADER_H
#define SAMPLER_BPF_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* The bytes of an object file, 8-byte aligned. */
struct bpf_image {
    const uint8_t *bytes;
    size_t num_bytes;
};

/* What a name in a program stands for: the descriptor of a map, or a number. */
struct bpf_symbol {
    const char *name;
    uint64_t value;
};

/* Creates the map `name` of the image. flags: BPF_F_*. max_entries: 0 for what the image says.
 * Returns: a descriptor, or a negative errno value: -EPERM without CAP_BPF, -ENOENT when the image
 * has no such map, -ENOEXEC when it is not what this loader is for. */
int bpf_loader_create_map(const struct bpf_image *image, const char *name, uint32_t flags,
                          uint32_t max_entries);

/* Loads the program in section `section`, with symbols[0..num_symbols) for what it refers to.
 * attach_type: enum bpf_attach_type, where the type of program has several; else 0. Returns: a
 * descriptor, or a negative errno value: -EPERM without CAP_BPF and CAP_PERFMON, -EINVAL or -EACCES
 * when the kernel refuses the program, -ENOENT when the section or a symbol is missing, -ENOEXEC
 * when the image is not what this loader is for. */
int bpf_loader_load(const struct bpf_image *image, const char *section, uint32_t attach_type,
                    const struct bpf_symbol *symbols, size_t num_symbols);

/* Says why the kernel refuses what bpf(2) was asked for. err: a positive errno value. what: what
 * did not work, for people. remedy: where it can't be done at all; NULL: none. Returns:
 * ERROR_PERMISSION, ERROR_UNSUPPORTED or error_no_memory. */
struct error *bpf_loader_refusal(int err, const char *what, const char *remedy) MUST_CHECK;

/* Hangs a program of a "raw_tracepoint/NAME" section there, until the descriptor is closed.
 * Returns: a descriptor or a negative errno value. */
int bpf_loader_attach(const char *section, int program_fd);

#endif
