/* Go's function table (.gopclntab): what names, files, lines and inlined calls a Go program carries
 * for its own tracebacks, also when it is stripped. Go 1.16 and newer.
 *
 * Pure functions over bytes of a hostile file. Ownership: borrows all bytes; strings go to the
 * arena. Threads: none. Source: Go src/runtime/symtab.go, src/runtime/symtabinl.go,
 * src/debug/gosym/pclntab.go.
 */
#ifndef SYMBOLIZE_GOPCLNTAB_H
#define SYMBOLIZE_GOPCLNTAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "symbolize/symbolize.h"

/* Layouts, by the first Go version that writes them. */
enum gopclntab_version { GOPCLNTAB_1_16, GOPCLNTAB_1_18, GOPCLNTAB_1_20 };

struct gopclntab {
    enum gopclntab_version version;
    const uint8_t *bytes; /* the section */
    size_t num_bytes;
    uint64_t text;         /* runtime.text: what function offsets count from; 0 = not known */
    const uint8_t *gofunc; /* inline trees (go:func.*); NULL = not known */
    size_t gofunc_bytes;
    uint64_t num_functions;
    uint64_t names;     /* offsets in bytes: function names, */
    uint64_t units;     /* file numbers by unit, */
    uint64_t files;     /* file names, */
    uint64_t values;    /* pc-value tables, */
    uint64_t functions; /* and the table of functions */
};

/* Reads the header. table_ret: filled in, but for gofunc; text as the header has it.
 * Returns: false when this is no table that we know or its parts lie outside of it. */
bool gopclntab_parse(const uint8_t *bytes, size_t num_bytes, struct gopclntab *table_ret);

/* Looks up an address. arena: where strings go.
 * Returns: false when no function covers it or text is not known. */
bool gopclntab_lookup(const struct gopclntab *table, uint64_t elf_addr, struct arena *arena,
                      struct symbol_frames *frames_ret);

#endif
