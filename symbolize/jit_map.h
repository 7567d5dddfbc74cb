/* perf-PID.map: what a JIT says of the code it made, "START SIZE NAME" in hex, one entry per line.
 *
 * Written by the target, hence hostile. Entries may overlap: the last one written wins.
 * Ownership: the caller owns the table. Threads: none.
 * Source: Linux tools/perf/Documentation/jit-interface.txt.
 */
#ifndef SYMBOLIZE_JIT_MAP_H
#define SYMBOLIZE_JIT_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "symbolize/symbolize.h"

struct jit_map;

/* Tells whether there is a map of the process that is not used: written by another user, or left
 * behind by an earlier process of that pid. */
bool jit_map_is_refused(const struct process *process);

/* Parses the text of a perf-PID.map; lines that make no sense are skipped.
 * text: num_bytes bytes and a NUL behind them; heap memory, consumed and changed in every case.
 * map_ret: owned by the caller. Returns: NULL or error_no_memory. */
struct error *jit_map_parse_take(char *text, size_t num_bytes, struct jit_map **map_ret) MUST_CHECK;

/* Frees the table. NULL is fine. */
void jit_map_destroy(struct jit_map *map);

/* Finds the name of the code at `pc`. Returns: valid as long as the map; NULL when nothing covers
 * it. */
const char *jit_map_find(const struct jit_map *map, uint64_t pc);

/* Reads file and line of the declaration from the name that V8 gives to JavaScript code:
 * "JS:*hot /srv/app.js:3:14", "LazyCompile:~cold /srv/app.js:7". arena: where the file goes.
 * symbol: gets filename and start_line; left alone when there is no place in the name. */
void jit_name_place(const char *name, struct arena *arena, struct symbol *symbol);

/* Tells how many entries were taken. */
size_t jit_map_count(const struct jit_map *map);

#endif
