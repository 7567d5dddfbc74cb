#include "symbolize/jit_dump.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/dwarf_bytes.h"
#include "base/hash.h"
#include "base/hash_index.h"
#include "base/log.h"
#include "symbolize/interval_map.h"
#include "symbolize/jit_map.h"

#define DUMP_MAGIC 0x4a695444 /* "JiTD" */
#define DUMP_HEADER_BYTES 40
#define RECORD_HEADER_BYTES 16
#define LOAD_BYTES 56  /* with its header, up to the name */
#define MOVE_BYTES 64  /* with its header */
#define DEBUG_BYTES 32 /* with its header, up to the first entry */
#define ENTRY_BYTES 16 /* of a line, up to the file name */
#define MAX_ENTRIES ((uint64_t)1 << 16)
#define MAX_CODES ((size_t)4 << 20)
#define NAME_MAX_BYTES 8192
#define SAME_PATH 0xff /* begins "\xff\0": the file of the entry before */
/* V8 shifts the addresses of its lines by the ELF header that perf inject puts before the code. */
#define ELF_SHIFT_BYTES 64

enum record_id { RECORD_LOAD, RECORD_MOVE, RECORD_DEBUG_INFO, RECORD_CLOSE };

/* Offsets are into the bytes of the dump. */
struct code {
    uint64_t start; /* where it is */
    uint64_t num_bytes;
    uint64_t made_at; /* where it was when its lines were written; same as start unless moved */
    size_t name, limit;
    size_t lines, lines_limit; /* its debug record; 0 = none */
};

struct jit_dump {
    const uint8_t *bytes;
    size_t num_bytes;
    struct code *codes;
    size_t num_codes, capacity;
    struct interval_map ranges;
    bool has_low_lines; /* some line begins in the first bytes of its code: no shift */
};

/* Reading the log: which lines wait for their code, and which code has which index. */
struct reading {
    struct jit_dump *dump;
    struct hash_index by_index; /* code_index -> number in codes */
    size_t lines, lines_limit;
};

static struct error *add_code(struct reading *reading, const struct code *code, uint64_t index)
{
    struct jit_dump *dump = reading->dump;

    if (code->num_bytes == 0 || code->start + code->num_bytes < code->start ||
        dump->num_codes >= MAX_CODES)
        return NULL;
    RETURN_IF_ERROR(
        array_reserve(&dump->codes, &dump->capacity, dump->num_codes + 1, sizeof(*dump->codes)));
    RETURN_IF_ERROR(
        hash_index_insert(&reading->by_index, hash_u64(index), (uint32_t)dump->num_codes));
    dump->codes[dump->num_codes++] = *code;
    return NULL;
}

static struct error *read_load(struct reading *reading, size_t off, size_t limit)
{
    const struct jit_dump *dump = reading->dump;
    struct code code = {.name = off + LOAD_BYTES, .limit = limit};

    if (limit - off <= LOAD_BYTES)
        return NULL;
    code.start = dwarf_u64_at(dump->bytes, off + 32);
    code.num_bytes = dwarf_u64_at(dump->bytes, off + 40);
    code.made_at = code.start;
    if (reading->lines > 0 &&
        dwarf_u64_at(dump->bytes, reading->lines + RECORD_HEADER_BYTES) == code.start) {
        code.lines = reading->lines;
        code.lines_limit = reading->lines_limit;
    }
    reading->lines = 0;
    return add_code(reading, &code, dwarf_u64_at(dump->bytes, off + 48));
}

/* Code that was moved keeps its name; for samples from before, the old place keeps it, too. */
static struct error *read_move(struct reading *reading, size_t off, size_t limit)
{
    struct jit_dump *dump = reading->dump;
    struct hash_index_cursor cursor;
    uint64_t old_start, index;
    uint32_t item;

    if (limit - off < MOVE_BYTES)
        return NULL;
    old_start = dwarf_u64_at(dump->bytes, off + 32);
    index = dwarf_u64_at(dump->bytes, off + 56);
    cursor = hash_index_first(&reading->by_index, hash_u64(index));
    for (int i = 0; i < 64 && hash_index_next(&reading->by_index, &cursor, &item); i++) {
        struct code code = dump->codes[item];

        if (code.start != old_start)
            continue;
        code.start = dwarf_u64_at(dump->bytes, off + 40);
        return add_code(reading, &code, index);
    }
    return NULL;
}

static void note_lines(struct reading *reading, size_t off, size_t limit)
{
    struct jit_dump *dump = reading->dump;

    reading->lines = 0;
    if (limit - off < DEBUG_BYTES + ENTRY_BYTES || dwarf_u64_at(dump->bytes, off + 24) == 0)
        return;
    reading->lines = off;
    reading->lines_limit = limit;
    dump->has_low_lines |= dwarf_u64_at(dump->bytes, off + DEBUG_BYTES) -
                               dwarf_u64_at(dump->bytes, off + RECORD_HEADER_BYTES) <
                           ELF_SHIFT_BYTES;
}

static struct error *read_records(struct reading *reading)
{
    const struct jit_dump *dump = reading->dump;
    size_t limit = dwarf_u32_at(dump->bytes, 8);

    for (size_t off = limit; off >= DUMP_HEADER_BYTES && off < dump->num_bytes; off = limit) {
        size_t num_bytes;

        if (dump->num_bytes - off < RECORD_HEADER_BYTES)
            return NULL;
        num_bytes = dwarf_u32_at(dump->bytes, off + 4);
        if (num_bytes < RECORD_HEADER_BYTES || num_bytes > dump->num_bytes - off)
            return NULL;
        limit = off + num_bytes;
        switch (dwarf_u32_at(dump->bytes, off)) {
        case RECORD_LOAD:
            RETURN_IF_ERROR(read_load(reading, off, limit));
            break;
        case RECORD_MOVE:
            RETURN_IF_ERROR(read_move(reading, off, limit));
            break;
        case RECORD_DEBUG_INFO:
            note_lines(reading, off, limit);
            break;
        case RECORD_CLOSE:
            return NULL;
        default: /* unwind information, and what is yet to be invented */
            break;
        }
    }
    return NULL;
}

static struct error *build_ranges(struct jit_dump *dump)
{
    CLEANUP(free) struct interval *intervals = NULL;

    if (dump->num_codes == 0)
        return NULL;
    intervals = calloc(dump->num_codes, sizeof(*intervals));
    if (!intervals)
        return &error_no_memory;
    for (size_t i = 0; i < dump->num_codes; i++)
        intervals[i] = (struct interval){.start = dump->codes[i].start,
                                         .limit = dump->codes[i].start + dump->codes[i].num_bytes,
                                         .priority = i,
                                         .item = (uint32_t)i};
    return interval_map_build(intervals, dump->num_codes, &dump->ranges);
}

struct error *jit_dump_parse(const uint8_t *bytes, size_t num_bytes, struct jit_dump **dump_ret)
{
    CLEANUP(jit_dump_destroy) struct jit_dump *dump = calloc(1, sizeof(*dump));
    struct reading reading = {.dump = dump};
    struct error *err;

    *dump_ret = NULL;
    if (!dump)
        return &error_no_memory;
    dump->bytes = bytes;
    dump->num_bytes = num_bytes;
    if (num_bytes < DUMP_HEADER_BYTES || dwarf_u32_at(dump->bytes, 0) != DUMP_MAGIC ||
        dwarf_u32_at(dump->bytes, 4) != 1 || dwarf_u32_at(dump->bytes, 12) != EM_X86_64)
        return NULL;
    hash_index_init(&reading.by_index);
    err = read_records(&reading);
    hash_index_deinit(&reading.by_index);
    if (err)
        return err;
    RETURN_IF_ERROR(build_ranges(dump));
    *dump_ret = take_ptr(dump);
    return NULL;
}

void jit_dump_destroy(struct jit_dump *dump)
{
    if (!dump)
        return;
    interval_map_deinit(&dump->ranges);
    free(dump->codes);
    free(dump);
}

size_t jit_dump_count(const struct jit_dump *dump)
{
    return dump->num_codes;
}

/* Copies a string that ends before `limit`. Returns: "" when it does not. */
static const char *copy_string(const struct jit_dump *dump, size_t off, size_t limit,
                               struct arena *arena)
{
    const char *start = (const char *)dump->bytes + off;
    size_t num_bytes = strnlen(start, limit - off);
    const char *copy;

    if (num_bytes == limit - off)
        return "";
    copy = arena_copy(arena, start, num_bytes < NAME_MAX_BYTES ? num_bytes : NAME_MAX_BYTES);
    return copy ? copy : "";
}

/* A walk over the lines of one piece of code. */
struct line_walk {
    const struct code *code;
    uint64_t pc;       /* in the addresses of the lines */
    uint64_t shift;    /* of these against the code */
    size_t path_bytes; /* of each file name, with its NUL; 0: up to the NUL */
    size_t path;       /* of the entry that covers pc; 0 = none */
    uint32_t line;
};

/* Tells how many bytes a file name takes, its NUL included; 0 when it does not end. */
static size_t path_length(const struct jit_dump *dump, size_t path, size_t limit, size_t known)
{
    const uint8_t *start = dump->bytes + path;
    const uint8_t *end = memchr(start, '\0', limit - path);

    if (!end)
        return 0;
    if (known > 0 && !(start[0] == SAME_PATH && start[1] == '\0'))
        return known;
    return (size_t)(end - start) + 1;
}

/* Walks all entries. Returns: false when one of them makes no sense: then none is trusted. */
static bool walk_lines(const struct jit_dump *dump, struct line_walk *walk)
{
    const struct code *code = walk->code;
    uint64_t num_entries = dwarf_u64_at(dump->bytes, code->lines + 24);
    size_t off = code->lines + DEBUG_BYTES;
    size_t last_path = 0;

    walk->path = 0;
    if (num_entries > MAX_ENTRIES)
        return false;
    for (uint64_t i = 0; i < num_entries; i++) {
        size_t path = off + ENTRY_BYTES;
        size_t path_bytes;
        uint64_t place;
        uint32_t line;

        if (code->lines_limit - off <= ENTRY_BYTES)
            return false;
        place = dwarf_u64_at(dump->bytes, off) - walk->shift;
        line = dwarf_u32_at(dump->bytes, off + 8);
        if (place - code->made_at > code->num_bytes || line > INT32_MAX)
            return false;
        path_bytes = path_length(dump, path, code->lines_limit, walk->path_bytes);
        if (path_bytes == 0 || path_bytes > code->lines_limit - path)
            return false;
        if (dump->bytes[path] != SAME_PATH)
            last_path = path;
        if (place <= walk->pc) {
            walk->path = last_path;
            walk->line = line;
        }
        off = path + path_bytes;
    }
    return walk->path > 0;
}

/* Finds the line of `pc` in the code.
 *
 * V8 10 and 11 (node 18, 20) write file names from memory that is freed already: most bytes of them
 * are lost, a NUL may be among these. How long they were, and what they said, is known from the
 * name of the code, as long as nothing of another file was inlined. */
static void find_line(const struct jit_dump *dump, const struct code *code, uint64_t pc,
                      struct arena *arena, struct symbol *symbol)
{
    struct line_walk walk = {.code = code, .pc = pc - code->start + code->made_at};
    bool is_walked;

    if (!dump->has_low_lines)
        walk.shift = ELF_SHIFT_BYTES;
    is_walked = walk_lines(dump, &walk);
    if (symbol->filename[0]) {
        if (!is_walked) {
            walk.path_bytes = strlen(symbol->filename) + 1;
            if (strstr(symbol->name, " file://"))
                walk.path_bytes += strlen("file://");
            is_walked = walk_lines(dump, &walk);
        }
    } else if (is_walked) {
        symbol->filename = copy_string(dump, walk.path, code->lines_limit, arena);
    }
    if (is_walked)
        symbol->line = walk.line;
}

bool jit_dump_find(const struct jit_dump *dump, uint64_t pc, struct arena *arena,
                   struct symbol *symbol_ret)
{
    const struct interval_segment *segment = interval_map_find(&dump->ranges, pc);
    const struct code *code = segment ? &dump->codes[segment->item] : NULL;

    if (!code)
        return false;
    *symbol_ret = (struct symbol){.name = copy_string(dump, code->name, code->limit, arena),
                                  .filename = "",
                                  .is_final = true};
    symbol_ret->system_name = symbol_ret->name;
    if (!symbol_ret->name[0])
        return false;
    jit_name_place(symbol_ret->name, arena, symbol_ret);
    if (code->lines > 0)
        find_line(dump, code, pc, arena, symbol_ret);
    return true;
}

/* --- the source ----------------------------------------------------------------------------- */

struct dump_state {
    struct jit_dump *dump;
    struct arena *arena;
    void *bytes;
    size_t num_bytes;
};

static void dump_close(void *opened)
{
    struct dump_state *state = opened;

    jit_dump_destroy(state->dump);
    if (state->bytes != MAP_FAILED)
        munmap(state->bytes, state->num_bytes);
    free(state);
}

DEFINE_CLEANUP(dump_close, struct dump_state *)

static struct error *dump_open(const struct symbolize_input *input, void **state_ret)
{
    const struct module *file = input->process ? input->process->jit_dump : NULL;
    CLEANUP(dump_close) struct dump_state *state = NULL;
    struct stat status;

    *state_ret = NULL;
    if (!file || file->fd < 0 || fstat(file->fd, &status) < 0 || status.st_size <= 0)
        return NULL;
    state = calloc(1, sizeof(*state));
    if (!state)
        return &error_no_memory;
    state->arena = input->arena;
    state->num_bytes = (size_t)status.st_size;
    /* Mapped, not read: it holds all code, which nobody asks for. See base/sigbus.h. */
    state->bytes = mmap(NULL, state->num_bytes, PROT_READ, MAP_PRIVATE, file->fd, 0);
    if (state->bytes == MAP_FAILED)
        return error_create(ERROR_FAILED, NULL, "cannot map %s", file->path);
    RETURN_IF_ERROR(jit_dump_parse(state->bytes, state->num_bytes, &state->dump));
    if (!state->dump)
        return NULL;
    log_debug("%s: %zu pieces of code", file->path, jit_dump_count(state->dump));
    *state_ret = take_ptr(state);
    return NULL;
}

static bool dump_lookup(void *opened, uint64_t pc, struct symbol_frames *frames_ret)
{
    const struct dump_state *state = opened;
    struct symbol symbol;

    if (!jit_dump_find(state->dump, pc, state->arena, &symbol))
        return false;
    frames_ret->num_symbols = 1;
    frames_ret->symbols[0] = symbol;
    return true;
}

const struct symbolize_ops symbolize_jit_dump = {
    .name = "jitdump",
    .open = dump_open,
    .lookup = dump_lookup,
    .close = dump_close,
};
