/* What it is called: gives every location of a stack table its lines (function, file, line, inlined
 * callers), and the mappings their has_* flags.
 *
 * Cold path: runs at stop or at a report, once per distinct (module, elf_addr), module by module,
 * the one with the largest share first. A location that gets no name gets one synthetic line,
 * "libfoo.so+0x1a2b", so that every location has a line.
 * A name is given only when a symbol or DIE really covers the address; no nearest-symbol guessing.
 * Goes to the network only when options.debuginfod says so. Everything read is hostile; memory and
 * time are bounded. Ownership: the caller owns the symbolizer; it borrows target and table.
 * Threads: one. Source: DWARF 5, gabi, unwinding.md 6, pprof.md 6.
 */
#ifndef SYMBOLIZE_SYMBOLIZE_H
#define SYMBOLIZE_SYMBOLIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "profile/loss.h"
#include "profile/stack_table.h"
#include "target/target.h"

#define SYMBOL_MAX_INLINES 64

/* One function at an address. Strings are valid until the chain is closed; never NULL. */
struct symbol {
    const char *name;        /* as found, still mangled when the source has no better */
    const char *system_name; /* linkage name; "" when unknown */
    const char *filename;    /* absolute when known; "" unknown */
    int64_t line;       /* line at the address (innermost) or of the call (callers); 0 unknown */
    int64_t start_line; /* declaration; 0 unknown */
    bool is_final;      /* name is readable as it is (Go, JIT, kernel): never demangled or cut */
};

/* What one source says of one address: innermost inlined function first, the physical one last. */
struct symbol_frames {
    const char *hint; /* set by the caller before a look-up: how debug info names the physical
                       * function, to choose among aliases; NULL = not known */
    size_t num_symbols;
    struct symbol symbols[SYMBOL_MAX_INLINES];
};

struct debug_files;

/* What a source gets to look into. */
struct symbolize_input {
    const struct module *module;   /* NULL for kernel and anonymous memory */
    struct debug_files *files;     /* the module's file and its debug files; NULL without module */
    const struct mapping *mapping; /* the profile mapping being named */
    const struct process *process; /* for MAPPING_ANON: whose memory it is; may be NULL */
    struct arena *arena;    /* strings of answers go here; lives as long as the source is open */
    uint64_t deadline_ns;   /* for debug info; CLOCK_MONOTONIC; 0 none */
    const uint64_t *places; /* what will be asked for: ascending, no doubles. A source may answer
                             * these all at once; others take it longer. NULL = not known */
    size_t num_places;
    bool *is_cut; /* set by a look-up that ended for want of time, or at a bound of size: the source
                   * may know more. NULL = nobody asks */
};

/* One source of names: own DWARF, symbol table, kallsyms, perf-PID.map ... The chain asks them in
 * order; the first that knows the address answers. */
struct symbolize_ops {
    const char *name;
    /* Opens the source for one mapping. state_ret: owned by the caller, NULL when this source has
     * nothing for it (no error). Returns: NULL, or an error (noted, the chain goes on with the next
     * source). */
    struct error *(*open)(const struct symbolize_input *input, void **state_ret);
    /* Looks up one address: elf_addr for modules, the profile pc else.
     * Returns: false when it does not know (frames_ret untouched). */
    bool (*lookup)(void *state, uint64_t place, struct symbol_frames *frames_ret);
    void (*close)(void *state);
};

extern const struct symbolize_ops symbolize_dwarf;
extern const struct symbolize_ops symbolize_elf_symtab;
extern const struct symbolize_ops symbolize_gopclntab;
extern const struct symbolize_ops symbolize_plt;
extern const struct symbolize_ops symbolize_kallsyms;
extern const struct symbolize_ops symbolize_jit_dump;
extern const struct symbolize_ops symbolize_jit_map;

/* Which places get a name. */
enum symbolize_scope {
    SYMBOLIZE_ALL,   /* all; one that has no name gets its synthetic line */
    SYMBOLIZE_HERE,  /* those that nobody can name later or elsewhere: the kernel's, JIT code, the
                      * vdso, files without a build-id or gone from the disk. The others stay
                      * without lines, and their mappings without has_functions. */
    SYMBOLIZE_FILES, /* those in mappings that have a module; nothing else is touched */
};

/* Called while a debug file comes from a server, about once a second.
 * name: path of the module. num_bytes of total_bytes (0: not known yet) are there.
 * Returns: false to give up, on this file and all that would follow. */
typedef bool symbolize_fetch_fn(void *context, const char *name, uint64_t num_bytes,
                                uint64_t total_bytes);

/* What came of asking servers. */
struct symbolize_fetches {
    uint64_t num_files; /* got, from the cache or a server */
    uint64_t num_bytes;
    uint64_t num_missing;
    bool is_stopped; /* by the caller, or for want of time */
};

struct symbolize_options {
    enum symbolize_scope scope;
    bool again;   /* look places up again that have lines; one that is not found keeps its lines */
    bool inlines; /* expand inlined functions and lines; false: names of physical functions only,
                   * and no debug info is read */
    uint64_t timeout_ns; /* 0 = none: stop looking up after this long, name the rest synthetically.
                          * Debug info, and its fetching, gets three quarters of it: what is left
                          * is for the symbol tables of all the others */
    const char *debug_dir; /* more debug directories, as /usr/lib/debug, separated by ':'; NULL =
                            * none */
    bool debuginfod;       /* ask servers for debug files that are not here */
    symbolize_fetch_fn *fetch; /* NULL = nobody is told */
    void *fetch_context;
    const uint64_t *location_weights; /* [num_locations] share of each location; NULL: all equal */
};

/* What came out, for the summary. */
struct symbolize_result {
    uint64_t num_locations; /* places, without reason frames */
    uint64_t num_named;     /* of these, with a function name */
    uint64_t weight_total;  /* the same, weighted by location_weights */
    uint64_t weight_named;
    uint64_t num_left; /* places out of scope that have no lines */
    uint64_t weight_left;
    uint32_t worst_mapping;       /* mapping id with the most unnamed weight; 0 = none */
    uint64_t worst_num_locations; /* unnamed locations there */
    uint64_t duration_ns;
    struct symbolize_fetches fetches;
    struct loss loss; /* UNSYMBOLIZED, SYMBOL_TIMEOUT, DEBUG_INFO_TIMEOUT, UNREADABLE */
};

/* Gives lines to every location of `table` in scope that has none yet, or only a synthetic one from
 * an earlier time, and sets the flags of the mappings in scope.
 * result_ret: filled in on success. Returns: NULL or error_no_memory; single failures are losses.
 */
struct error *symbolize_table(struct stack_table *table, struct target *target,
                              const struct symbolize_options *options,
                              struct symbolize_result *result_ret) MUST_CHECK;

/* Tells whether a location has no lines, or only the synthetic one of a place without a name. */
bool location_needs_name(const struct stack_table *table, const struct location *location);

/* Turns a linker symbol into a readable name: C++, Rust (legacy, v0), D by libiberty without
 * parameters; clone suffixes (.cold, .constprop.0, .part.1, ...) dropped. symbol: any bytes,
 * bounded in length. arena: where the result goes. Returns: the name; `symbol` itself when it is
 * not mangled; NULL when out of memory. */
const char *symbol_demangle(struct arena *arena, const char *symbol);

#endif
