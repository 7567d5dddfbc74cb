#include "symbolize/gopclntab.h"

#include <string.h>

#define GO_MAX_STRING_BYTES 8192
#define GO_MAX_VALUE_STEPS (1 << 20)
#define GO_PCDATA_INLINE_INDEX 2  /* abi.PCDATA_InlTreeIndex */
#define GO_FUNCDATA_INLINE_TREE 3 /* abi.FUNCDATA_InlTree */
#define GO_NO_FUNCDATA UINT32_MAX

/* One function record (runtime._func), found. */
struct go_function {
    uint64_t entry; /* elf_addr */
    uint64_t limit;
    uint64_t record; /* offset of the record */
    uint32_t name;
    uint32_t file_values; /* offset in the pc-value tables; 0 = none */
    uint32_t line_values;
    uint32_t num_pcdata;
    uint32_t unit; /* first entry in the file numbers */
    uint32_t start_line;
    uint64_t pcdata; /* offset of its array */
    uint32_t num_funcdata;
};

static bool read_bytes(const struct gopclntab *table, uint64_t offset, void *value, size_t size)
{
    if (offset > table->num_bytes || table->num_bytes - offset < size)
        return false;
    memcpy(value, table->bytes + offset, size);
    return true;
}

static bool read_u32(const struct gopclntab *table, uint64_t offset, uint32_t *value)
{
    return read_bytes(table, offset, value, sizeof(*value));
}

/* Copies a NUL-terminated string of the table. Returns: "" when it lies outside. */
static const char *read_string(const struct gopclntab *table, uint64_t offset, struct arena *arena)
{
    const char *start = (const char *)table->bytes + offset;
    const char *copy;
    size_t room;

    if (offset >= table->num_bytes)
        return "";
    room = table->num_bytes - offset;
    copy = arena_copy(arena, start,
                      strnlen(start, room < GO_MAX_STRING_BYTES ? room : GO_MAX_STRING_BYTES));
    return copy ? copy : "";
}

static bool read_offsets(struct gopclntab *table, size_t first)
{
    uint64_t *const parts[] = {&table->names, &table->units, &table->files, &table->values,
                               &table->functions};

    for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
        if (!read_bytes(table, first + 8 * i, parts[i], 8) || *parts[i] > table->num_bytes)
            return false;
    }
    return true;
}

static size_t entry_bytes(const struct gopclntab *table)
{
    return table->version == GOPCLNTAB_1_16 ? 8 : 4;
}

bool gopclntab_parse(const uint8_t *bytes, size_t num_bytes, struct gopclntab *table_ret)
{
    struct gopclntab table = {.bytes = bytes, .num_bytes = num_bytes};
    uint32_t magic;
    uint64_t room;

    if (!read_u32(&table, 0, &magic) || num_bytes < 72 || bytes[6] != 1 || bytes[7] != 8)
        return false;
    switch (magic) {
    case 0xfffffffa:
        table.version = GOPCLNTAB_1_16;
        break;
    case 0xfffffff0:
        table.version = GOPCLNTAB_1_18;
        break;
    case 0xfffffff1:
        table.version = GOPCLNTAB_1_20;
        break;
    default:
        return false;
    }
    memcpy(&table.num_functions, bytes + 8, sizeof(table.num_functions));
    if (table.version != GOPCLNTAB_1_16)
        memcpy(&table.text, bytes + 24, sizeof(table.text));
    if (!read_offsets(&table, table.version == GOPCLNTAB_1_16 ? 24 : 32))
        return false;
    room = (num_bytes - table.functions) / (2 * entry_bytes(&table));
    if (table.num_functions == 0 || table.num_functions >= room || table.num_functions > INT32_MAX)
        return false;
    *table_ret = table;
    return true;
}

/* Start address and record of entry `at`; entry num_functions has only an address: the end of text.
 */
static bool read_entry(const struct gopclntab *table, uint64_t at, uint64_t *start_ret,
                       uint64_t *record_ret)
{
    uint64_t offset = table->functions + 2 * entry_bytes(table) * at;
    uint32_t start32;
    uint32_t record32;

    if (table->version == GOPCLNTAB_1_16)
        return read_bytes(table, offset, start_ret, 8) &&
               read_bytes(table, offset + 8, record_ret, 8);
    if (!read_u32(table, offset, &start32) || !read_u32(table, offset + 4, &record32))
        return false;
    *start_ret = table->text + start32;
    *record_ret = record32;
    return true;
}

static bool find_entry(const struct gopclntab *table, uint64_t elf_addr,
                       struct go_function *function)
{
    uint64_t low = 0;
    uint64_t high = table->num_functions;
    uint64_t unused;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint64_t start;

        if (!read_entry(table, middle, &start, &unused))
            return false;
        if (start <= elf_addr)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || !read_entry(table, low - 1, &function->entry, &function->record) ||
        !read_entry(table, low, &function->limit, &unused))
        return false;
    function->record += table->functions;
    return elf_addr < function->limit && function->record < table->num_bytes;
}

/* Reads the fields of runtime._func that tell names and places. */
static bool read_function(const struct gopclntab *table, struct go_function *function)
{
    uint64_t at = function->record + entry_bytes(table);
    uint64_t tail;
    uint8_t num_funcdata;

    if (!read_u32(table, at, &function->name) ||
        !read_u32(table, at + 16, &function->file_values) ||
        !read_u32(table, at + 20, &function->line_values) ||
        !read_u32(table, at + 24, &function->num_pcdata) ||
        !read_u32(table, at + 28, &function->unit))
        return false;
    tail = at + 32;
    function->start_line = 0;
    if (table->version == GOPCLNTAB_1_20) {
        if (!read_u32(table, tail, &function->start_line))
            return false;
        tail += 4;
    }
    if (!read_bytes(table, tail + 3, &num_funcdata, 1))
        return false;
    function->num_funcdata = num_funcdata;
    function->pcdata = tail + 4;
    return true;
}

static bool read_varint(const struct gopclntab *table, uint64_t *offset, uint32_t *value_ret)
{
    uint32_t value = 0;

    for (unsigned shift = 0; shift < 35 && *offset < table->num_bytes; shift += 7) {
        uint8_t byte = table->bytes[(*offset)++];

        if (shift < 32)
            value |= (uint32_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *value_ret = value;
            return true;
        }
    }
    return false;
}

/* Reads a pc-value table: pairs of a zigzag value step and a pc step (runtime.pcvalue).
 * values: its offset, 0 = no table. Returns: the value at elf_addr, -1 when there is none. */
static int64_t value_at(const struct gopclntab *table, const struct go_function *function,
                        uint32_t values, uint64_t elf_addr)
{
    uint64_t offset = table->values + values;
    uint64_t pc = function->entry;
    uint32_t value = UINT32_MAX;

    if (values == 0)
        return -1;
    for (int step = 0; step < GO_MAX_VALUE_STEPS; step++) {
        uint32_t value_step;
        uint32_t pc_step;

        if (!read_varint(table, &offset, &value_step) || (value_step == 0 && step > 0) ||
            !read_varint(table, &offset, &pc_step))
            return -1;
        value += value_step & 1 ? ~(value_step >> 1) : value_step >> 1;
        pc += pc_step;
        if (elf_addr < pc)
            return (int32_t)value;
    }
    return -1;
}

static const char *file_name(const struct gopclntab *table, const struct go_function *function,
                             int64_t number, struct arena *arena)
{
    uint32_t offset;

    if (number < 0 ||
        !read_u32(table, table->units + 4 * (function->unit + (uint64_t)number), &offset) ||
        offset == UINT32_MAX)
        return "";
    return read_string(table, table->files + offset, arena);
}

/* An inlined call (runtime.inlinedCall). */
struct inlined_call {
    uint32_t name;
    uint32_t start_line;
    uint32_t parent_pc; /* offset of the call in the function */
    int64_t parent;     /* 1.18: index of the call that it was inlined into, -1 the function */
    int64_t file;       /* 1.18: place of the call */
    int64_t line;
};

static bool read_inlined(const struct gopclntab *table, const struct go_function *function,
                         int64_t index, struct inlined_call *call_ret)
{
    size_t size = table->version == GOPCLNTAB_1_20 ? 16 : 20;
    uint32_t words[5] = {0};
    uint32_t tree;

    if (!table->gofunc || function->num_funcdata <= GO_FUNCDATA_INLINE_TREE || index < 0 ||
        !read_u32(table,
                  function->pcdata + 4 * ((uint64_t)function->num_pcdata + GO_FUNCDATA_INLINE_TREE),
                  &tree) ||
        tree == GO_NO_FUNCDATA)
        return false;
    if (tree > table->gofunc_bytes || (table->gofunc_bytes - tree) / size <= (uint64_t)index)
        return false;
    memcpy(words, table->gofunc + tree + size * (uint64_t)index, size);
    if (table->version == GOPCLNTAB_1_20)
        *call_ret =
            (struct inlined_call){.name = words[1], .parent_pc = words[2], .start_line = words[3]};
    else
        *call_ret = (struct inlined_call){.parent = (int16_t)(words[0] & 0xffff),
                                          .file = (int32_t)words[1],
                                          .line = (int32_t)words[2],
                                          .name = words[3],
                                          .parent_pc = words[4]};
    return call_ret->parent_pc < function->limit - function->entry &&
           call_ret->name < table->num_bytes;
}

static uint32_t inline_values(const struct gopclntab *table, const struct go_function *function)
{
    uint32_t values;

    if (table->version == GOPCLNTAB_1_16 || function->num_pcdata <= GO_PCDATA_INLINE_INDEX ||
        !read_u32(table, function->pcdata + 4 * GO_PCDATA_INLINE_INDEX, &values))
        return 0;
    return values;
}

static void push(struct symbol_frames *frames, const char *name, const char *path, int64_t line,
                 uint32_t start_line)
{
    frames->symbols[frames->num_symbols++] = (struct symbol){
        .name = name,
        .system_name = name,
        .filename = path,
        .line = line > 0 ? line : 0,
        .start_line = start_line <= INT32_MAX ? (int64_t)start_line : 0,
        .is_final = true,
    };
}

bool gopclntab_lookup(const struct gopclntab *table, uint64_t elf_addr, struct arena *arena,
                      struct symbol_frames *frames_ret)
{
    struct go_function function = {0};
    struct inlined_call call;
    uint64_t pc = elf_addr;
    uint32_t inlines;
    int64_t index;
    int64_t line;
    const char *path;

    if ((table->text == 0 && table->version != GOPCLNTAB_1_16) ||
        !find_entry(table, elf_addr, &function) || !read_function(table, &function))
        return false;
    inlines = inline_values(table, &function);
    index = value_at(table, &function, inlines, pc);
    path = file_name(table, &function, value_at(table, &function, function.file_values, pc), arena);
    line = value_at(table, &function, function.line_values, pc);
    frames_ret->num_symbols = 0;
    while (frames_ret->num_symbols < SYMBOL_MAX_INLINES - 1 &&
           read_inlined(table, &function, index, &call)) {
        push(frames_ret, read_string(table, table->names + call.name, arena), path, line,
             call.start_line);
        pc = function.entry + call.parent_pc;
        if (table->version == GOPCLNTAB_1_20) {
            int64_t file = value_at(table, &function, function.file_values, pc);

            index = value_at(table, &function, inlines, pc);
            path = file_name(table, &function, file, arena);
            line = value_at(table, &function, function.line_values, pc);
        } else {
            index = call.parent;
            path = file_name(table, &function, call.file, arena);
            line = call.line;
        }
    }
    push(frames_ret, read_string(table, table->names + function.name, arena), path, line,
         function.start_line);
    return true;
}
