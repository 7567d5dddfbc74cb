/* Which of a module's allocator functions call or jump to which, directly or through the module's
 * own PLT and GOT; for sampler/probe_site.h alone.
 *
 * Found in the code: relative calls and jumps, and those through a slot that a relocation fills.
 * Ownership: the caller owns the list. Threads: none. Source: System V ABI AMD64 5.2 (PLT), gabi
 * "Relocation".
 */
#ifndef SAMPLER_PROBE_CALLS_H
#define SAMPLER_PROBE_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "target/allocator.h"
#include "target/module.h"

#define PROBE_CALLS_ELSEWHERE SIZE_MAX

/* One way from a function into another. */
struct probe_call {
    size_t from;              /* index in the set */
    size_t to;                /* the same; PROBE_CALLS_ELSEWHERE: an allocator's function that is
                                 not in the set: of another module */
    enum allocator_role role; /* of what is called */
    bool is_jump;             /* a tail call: nothing comes back to `from` */
    bool is_indirect;         /* `from` calls or jumps to an internal function, and that jumps: of
                                 memalign and the like alone, who hand small alignments on so */
};

struct probe_calls {
    struct probe_call *calls; /* no two alike */
    size_t num_calls, capacity;
};

/* Code of all functions of a set, by index. */
struct probe_code {
    uint8_t *bytes;
    size_t num_bytes;
};

/* Reads the code of one function, of a long one the beginning.
 * code_ret: bytes owned by the caller (free()). Returns: NULL; ERROR_FAILED; error_no_memory. */
struct error *probe_code_read(const struct module *module,
                              const struct allocator_function *function,
                              struct probe_code *code_ret) MUST_CHECK;

/* Finds the calls among the functions of a set. codes: of each of them.
 * calls_ret: owned by the caller (free(calls_ret->calls)). Returns: NULL or error_no_memory. */
struct error *probe_calls_find(const struct module *module, const struct allocator_set *set,
                               const struct probe_code *codes,
                               struct probe_calls *calls_ret) MUST_CHECK;

#endif
