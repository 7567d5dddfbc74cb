/* The executable mappings of one address space, and the only place where addresses are converted:
 * pc -> module and elf_addr (for CFI), pc -> profile mapping and profile pc (for frames).
 *
 * An address space is shared by fork children until one of them changes it (refcounted, copied on
 * write). `generation` is unique over the program and changes when an existing range changes
 * meaning, so caches keyed by (pc, generation) never answer for another file. Not the whole VM map:
 * only executable ranges. Text of /proc/PID/maps is hostile. Ownership: refcounted. Threads: none.
 * Source: proc(5) /proc/PID/maps, PERF_RECORD_MMAP2, unwinding.md 7 (bias per mapping; huge-page
 * holes).
 */
#ifndef TARGET_MAPS_H
#define TARGET_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "profile/mapping.h"
#include "profile/stack_table.h"
#include "target/module.h"

/* One executable range of an address space. */
struct vma {
    uint64_t start;
    uint64_t limit;
    uint64_t file_off;
    struct module *module; /* NULL for anonymous and unknown memory */
    uint64_t bias;         /* elf_addr = pc - bias; per mapping (module != NULL and has_bias) */
    bool has_bias;
    uint32_t kind;          /* enum mapping_kind */
    uint32_t mapping;       /* profile mapping id */
    uint64_t profile_shift; /* profile pc = pc + profile_shift (wraps) */
};

struct maps {
    uint32_t refcount;
    uint32_t generation;
    struct vma *vmas; /* sorted by start, not overlapping */
    size_t num_vmas, capacity;
};

/* One line of /proc/PID/maps. */
struct maps_line {
    uint64_t start;
    uint64_t limit;
    uint64_t file_off;
    uint32_t prot; /* PROT_* */
    uint32_t dev_major, dev_minor;
    uint64_t inode;
    const char *path; /* points into the line; "" for anonymous; octal escapes undone in place */
};

/* Parses one line of /proc/PID/maps (without or with its newline, which is cut off).
 * line: changed in place. parsed_ret: the fields. Returns: false when it is not such a line. */
bool maps_line_parse(char *line, struct maps_line *parsed_ret);

/* Makes an empty address space. maps_ret: one reference, owned by the caller. */
struct error *maps_create(struct maps **maps_ret) MUST_CHECK;

/* Takes one more reference. Returns: maps. */
struct maps *maps_get(struct maps *maps);

/* Gives one reference back. NULL is fine. */
void maps_put(struct maps *maps);

/* Makes *maps private (copying it when it is shared) before a change. Returns: NULL or
 * error_no_memory. */
struct error *maps_unshare(struct maps **maps) MUST_CHECK;

/* Inserts a range, cutting or removing what it overlaps; merges nothing. The maps must be private.
 * vma: copied, all fields filled in. Returns: NULL or error_no_memory. */
struct error *maps_insert(struct maps *maps, const struct vma *vma) MUST_CHECK;

/* Finds the range that holds `pc`. Returns: a row valid until the next change, or NULL. */
const struct vma *maps_find(const struct maps *maps, uint64_t pc);

/* Finds the first range that ends above `pc`: it holds pc or comes next. Returns: as maps_find().
 */
const struct vma *maps_find_next(const struct maps *maps, uint64_t pc);

/* Tells the address as linked. vma: holds pc and has_bias. */
static inline uint64_t vma_elf_addr(const struct vma *vma, uint64_t pc)
{
    return pc - vma->bias;
}

/* Tells the pc in the profile mapping's address space. vma: holds pc. */
static inline uint64_t vma_profile_pc(const struct vma *vma, uint64_t pc)
{
    return pc + vma->profile_shift;
}

/* Tells the address as linked of a profile pc, from the profile mapping alone (for symbolize/).
 * elf_addr_ret: the address. Returns: false when module has no segment there. */
bool mapping_elf_addr(const struct mapping *mapping, const struct module *module,
                      uint64_t profile_pc, uint64_t *elf_addr_ret);

#endif
