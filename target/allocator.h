/* Which functions of a module allocate and free memory, known by their names, and which of those of
 * all modules in a process are the ones that its code calls.
 *
 * Not where a probe goes, nor which of them pass a call on to another (sampler/probe_site.h).
 * Names: those of C, jemalloc's *allocx, the families with a prefix (je_, _rjem_, mi_, tc_, rp,
 * sn_, dl), C++'s operator new and delete. Symbols at one address are one function; IFUNC symbols
 * are no code of the function and are only counted. Symbols come from .dynsym and .symtab; the file
 * is hostile. Ownership: the caller owns a set; names are constants. Threads: none. Source: gabi
 * (symbol table), malloc(3), posix_memalign(3), jemalloc(3), the headers of mimalloc, gperftools
 * and rpmalloc, Itanium C++ ABI 5.1.5 (names of operators), ISO C23 7.24.3.
 */
#ifndef TARGET_ALLOCATOR_H
#define TARGET_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "target/module.h"

/* What a call of the function means; which argument is what: allocator_arguments. */
enum allocator_role {
    ALLOCATOR_MALLOC,            /* malloc(size, ...): valloc, mallocx, too */
    ALLOCATOR_NEW,               /* the same, but it may throw: no return probe survives that */
    ALLOCATOR_CALLOC,            /* calloc(count, size, ...) */
    ALLOCATOR_MEMALIGN,          /* memalign(alignment, size), mi_heap_malloc(heap, size) */
    ALLOCATOR_POSIX_MEMALIGN,    /* posix_memalign(&pointer, alignment, size): 0 is success */
    ALLOCATOR_REALLOC,           /* realloc(old, size, ...) */
    ALLOCATOR_REALLOCARRAY,      /* reallocarray(old, count, size, ...) */
    ALLOCATOR_HEAP_CALLOC,       /* mi_heap_calloc(heap, count, size, ...) */
    ALLOCATOR_HEAP_REALLOC,      /* mi_heap_realloc(heap, old, size, ...) */
    ALLOCATOR_HEAP_REALLOCARRAY, /* mi_heap_reallocn(heap, old, count, size, ...) */
    ALLOCATOR_CALLOC_MOVED, /* a calloc some way in: count in rax, size in rsi. No name has it */
    ALLOCATOR_FREE,         /* free(old, ...): operator delete, sdallocx, too */
    ALLOCATOR_NUM_ROLES,
};

#define ALLOCATOR_NO_ARGUMENT (-1)
#define ALLOCATOR_NAME_BYTES 40

/* The numbers of the arguments, 0 (rdi) to 3 (rcx), 4 where one was moved to rax; or
 * ALLOCATOR_NO_ARGUMENT. */
struct allocator_arguments {
    int8_t size;  /* bytes, or bytes of one element */
    int8_t count; /* of elements: size times count are asked for */
    int8_t old;   /* pointer that is freed or moved */
    int8_t out;   /* where the pointer is written; else it is the result */
};

/* By role. */
extern const struct allocator_arguments allocator_arguments[ALLOCATOR_NUM_ROLES];

/* Whose a name is: it decides which definition counts where several modules have one. */
enum allocator_family {
    ALLOCATOR_C,   /* malloc: one definition for the whole process, the first found */
    ALLOCATOR_CXX, /* operator new: counts beside the malloc of its own module only */
    ALLOCATOR_OWN, /* je_malloc: each definition stands for itself */
};

struct allocator_function {
    char name[ALLOCATOR_NAME_BYTES]; /* as in the symbol table */
    enum allocator_role role;
    enum allocator_family family;
    uint64_t elf_addr;
    uint64_t file_off;
    uint64_t num_bytes; /* of its code, as far as it lies in the file; never 0 */
};

/* Functions of one module, sorted by elf_addr and name. */
struct allocator_set {
    struct allocator_function *functions;
    size_t num_functions, capacity;
    uint32_t num_ifuncs; /* names that are IFUNC symbols: not in the set */
    bool is_libc;        /* has __libc_start_main, the entry of a C library */
    bool is_loader;      /* the dynamic linker of glibc: its malloc is for itself */
};

/* Finds the allocator functions of a module. set_ret: empty (no functions) for a module without
 * ELF, symbols or such names; a function has an entry for each of its names. Owned by the caller
 * (allocator_set_deinit()).
 * Returns: NULL or error_no_memory. */
struct error *allocator_find(const struct module *module, struct allocator_set *set_ret) MUST_CHECK;

/* Frees. A zeroed set is fine. */
void allocator_set_deinit(struct allocator_set *set);

/* One module of a process. */
struct allocator_candidate {
    const struct allocator_set *set; /* all that it has; borrowed */
    bool is_main;                    /* the executable */
};

/* Picks what the code of a process calls. Of each C name the definition of the executable, else of
 * the first library in the order given, libc's last; operators new and delete of the module whose
 * malloc was picked; each function with a prefix.
 * candidates: modules in the order that the dynamic linker searches them, as far as known.
 * chosen_ret: room for num_candidates sets: the functions of each candidate that count, each once,
 * by its plainest name; owned by the caller. num_ret: functions in all; 0: there is nothing to
 * probe (allocator_missing()). Returns: NULL or error_no_memory, then chosen_ret is all empty. */
struct error *allocator_choose(const struct allocator_candidate *candidates, size_t num_candidates,
                               struct allocator_set *chosen_ret, size_t *num_ret) MUST_CHECK;

/* Makes the error for a process without a known allocator: stripped and static, or none at all.
 * process: "process 1234 (redis-server)" or the name of a command. Returns: ERROR_UNSUPPORTED with
 * `--heap-mode growth` as the remedy; never NULL. */
struct error *allocator_missing(const char *process) MUST_CHECK;

#endif
