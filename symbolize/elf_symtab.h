/* Function symbols of an ELF file as a sorted, flattened array: one binary search per address.
 *
 * Which table: the .symtab of the debug file, else the module's own, else MiniDebugInfo and
 * .dynsym, else .dynsym alone. Which symbol, where several cover an address: the one that starts
 * last (the innermost); at equal starts global before weak before local, functions before untyped
 * ones, fewer leading underscores, longest-standing (lowest index) first. A symbol of size 0
 * (assembler code) covers up to the next symbol, the next function that has CFI (strip -x takes
 * names away, not CFI), or the end of its section, and only in a full .symtab: in .dynsym and
 * MiniDebugInfo the next symbol may be far away, and naming by the nearest symbol would be a lie.
 * Ownership: the caller owns the table; it borrows the Elf handles. Threads: none. Source: gabi
 * "Symbol Table".
 */
#ifndef SYMBOLIZE_ELF_SYMTAB_H
#define SYMBOLIZE_ELF_SYMTAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "symbolize/debug_files.h"

struct elf_symtab;

/* Builds the table from the files of a module.
 * symtab_ret: owned by the caller, valid as long as `files`; NULL when there are no symbols.
 * Returns: NULL or error_no_memory. */
struct error *elf_symtab_create(const struct debug_files *files,
                                struct elf_symtab **symtab_ret) MUST_CHECK;

/* Frees the table. NULL is fine. */
void elf_symtab_destroy(struct elf_symtab *symtab);

/* Finds the symbol that covers `elf_addr`.
 * hint: name that debug info gives the function; where several symbols start at the same address,
 * the one of that name (or a clone of it: "hint.part.0") is chosen. NULL = none. arena: where the
 * name goes. Returns: the raw symbol name; NULL when none covers the address. */
const char *elf_symtab_find(const struct elf_symtab *symtab, uint64_t elf_addr, const char *hint,
                            struct arena *arena);

/* Tells how many symbols there are. */
size_t elf_symtab_count(const struct elf_symtab *symtab);

DEFINE_CLEANUP(elf_symtab_destroy, struct elf_symtab *)

#endif
