/* jitdump: what a JIT compiler says of the code it made, with source lines (node --perf-prof,
 * perf's agent for Java, LLVM, Mono). A binary log, found by the mark its writer leaves: an
 * executable mapping of the file (struct process, jit_dump).
 *
 * Written by the target while we read, hence hostile. Of code that lies at the same place the last
 * entry wins. Code bytes and unwind information in it are passed over.
 * Ownership: the caller owns the table, which borrows the bytes. Threads: none.
 * Source: Linux tools/perf/Documentation/jitdump-specification.txt.
 */
#ifndef SYMBOLIZE_JIT_DUMP_H
#define SYMBOLIZE_JIT_DUMP_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "symbolize/symbolize.h"

struct jit_dump;

/* Reads the records up to the first that makes no sense (its writer may be in the middle of it).
 * bytes: outlive the result; they may change meanwhile. dump_ret: owned by the caller; NULL when
 * this is no jitdump of x86-64. Returns: NULL or error_no_memory. */
struct error *jit_dump_parse(const uint8_t *bytes, size_t num_bytes,
                             struct jit_dump **dump_ret) MUST_CHECK;

/* Frees the table. NULL is fine. */
void jit_dump_destroy(struct jit_dump *dump);

/* Finds the code at `pc`. arena: where strings go.
 * symbol_ret: its name, and file and line when they were written. Returns: false when nothing
 * covers it. */
bool jit_dump_find(const struct jit_dump *dump, uint64_t pc, struct arena *arena,
                   struct symbol *symbol_ret);

/* Tells how many pieces of code were taken. */
size_t jit_dump_count(const struct jit_dump *dump);

DEFINE_CLEANUP(jit_dump_destroy, struct jit_dump *)

#endif
