/* Where in an allocator's function the breakpoint goes, and which hits are nested in another
 * function's call and do not count.
 *
 * The kernel emulates few instructions at a uprobe (push of a register, nop, relative jumps and
 * calls); all others it runs out of line by a single step, which costs many times more. So the site
 * is slid: the first emulated instruction on the straight way from the entry, reached by every call
 * before a branch was taken, with the arguments still in their registers and the stack pointer
 * still at the return address.
 *
 * A function that hands each call on to another of them needs no probe: the other one sees the call
 * (operator new of libstdc++, reallocarray). One that does so in part (realloc of a null pointer is
 * malloc) keeps it, and the inner hit is told by its return address.
 *
 * Not attaching (sampler/heap.h). Code is hostile. Ownership: the caller owns the sites. Threads:
 * none. Source: arch/x86/kernel/uprobes.c (branch_setup_xol_ops, push_setup_xol_ops), System V ABI
 * AMD64 3.2.3, heap.md 0 and 1.
 */
#ifndef SAMPLER_PROBE_SITE_H
#define SAMPLER_PROBE_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "target/allocator.h"
#include "target/module.h"

#define HEAP_MAX_CALLERS 4

/* One place for a breakpoint. */
struct heap_site {
    char name[ALLOCATOR_NAME_BYTES]; /* of the function */
    uint64_t file_off;               /* where the breakpoint goes */
    uint64_t entry_off;              /* file offset of the function's entry, <= file_off */
    uint32_t role;                   /* enum allocator_role */
    bool is_stepped;                 /* the kernel single-steps here: a hit is dear */
    bool null_passes_on;  /* of a role with `old`: with old == NULL it jumps on to another function
                           * that has a site: the hit here does not count */
    bool small_passes_on; /* of memalign: with an alignment that malloc has anyway it
                           * jumps on to another function that has a site, likewise */
    uint32_t num_callers;
    struct {
        int64_t start, limit;    /* [start, limit): offsets from the site */
    } callers[HEAP_MAX_CALLERS]; /* a return address in here: nested in another's call. Only
                                  * for roles that allocate */
};

struct heap_sites {
    struct heap_site *sites;
    size_t num_sites, capacity;
    uint32_t num_passed_on;     /* functions without a site, since they hand every call on */
    uint32_t num_refused;       /* functions without a site: their code can't have a uprobe */
    uint32_t num_counted_twice; /* ways from one function into another that no site can tell */
};

/* Where the site of one function is. */
struct probe_slide {
    size_t offset;            /* of the site from the entry */
    bool is_stepped;          /* no emulated instruction was found, the site is the entry */
    enum allocator_role role; /* by which the arguments are read there: a malloc that has moved its
                                 size to rsi is as a memalign, a calloc may be one that is moved */
};

/* Looks for the site in the code of one function. Neither the site nor what is before it is reached
 * a second time in a call.
 * code: its bytes from the entry. Returns: false when the kernel accepts no uprobe there. */
bool probe_site_slide(const uint8_t *code, size_t num_bytes, enum allocator_role role,
                      struct probe_slide *slide_ret);

/* Makes the sites of one module. chosen: its functions that count in the process
 * (allocator_choose()). sites_ret: owned by the caller (heap_sites_deinit()); none for an empty
 * set. Returns: NULL; ERROR_FAILED when the file can't be read; error_no_memory. */
struct error *heap_sites_make(const struct module *module, const struct allocator_set *chosen,
                              struct heap_sites *sites_ret) MUST_CHECK;

/* Frees. A zeroed list is fine. */
void heap_sites_deinit(struct heap_sites *sites);

#endif
