/* Where fields lie in a struct of the running kernel, told by the kernel's own BTF.
 *
 * Does for a handful of fields what CO-RE relocation does in general, without reading all types:
 * libbpf parses all 5 MB of /sys/kernel/btf/vmlinux at every start (10 ms), here only the pages up
 * to the struct are read. Not a BTF library: no types, no sizes, direct fields and those inside
 * anonymous structs and unions only. All offsets in the file are checked, work is bounded by its
 * size. Ownership: none kept. Threads: any.
 * Source: kernel Documentation/bpf/btf.rst, include/uapi/linux/btf.h.
 */
#ifndef SAMPLER_BTF_OFFSET_H
#define SAMPLER_BTF_OFFSET_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Finds fields of struct `struct_name` in the BTF file at `path` ("/sys/kernel/btf/vmlinux").
 * names: num_names field names. offsets_ret: room for as many, bytes from the start of the struct.
 * Returns: NULL; ERROR_UNSUPPORTED when the file is not there, is no BTF, or knows no such field
 * (a bit field counts as unknown); error_no_memory. */
struct error *btf_offset_find(const char *path, const char *struct_name, const char *const *names,
                              size_t num_names, uint32_t *offsets_ret) MUST_CHECK;

/* The same with the content of the file in memory. content: num_bytes bytes, borrowed. */
struct error *btf_offset_parse(const void *content, size_t num_bytes, const char *struct_name,
                               const char *const *names, size_t num_names,
                               uint32_t *offsets_ret) MUST_CHECK;

#endif
