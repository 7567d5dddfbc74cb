#include "symbolize/dwarf_lines.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"

#define TABLE_MAX_NAMES ((size_t)1 << 20)
#define NAME_MAX_BYTES 65536
#define STEPS_PER_NAME 4 /* a name costs memory, too */
#define MAX_FORMATS 16

/* How the entries of a list are laid out in DWARF 5 (6.2.4). */
struct entry_format {
    size_t num;
    struct {
        uint64_t content; /* DW_LNCT_* */
        uint64_t form;
    } fields[MAX_FORMATS];
};

/* The registers of the state machine that matter (6.2.2), and where the places are. */
struct machine {
    uint64_t elf_addr;
    uint64_t file;
    int64_t line;
    bool has_row; /* the sequence has one that is not finished by the next */
    bool is_dead; /* the sequence is of code that the linker threw away */
    struct {
        uint64_t elf_addr;
        uint64_t file;
        int64_t line;
    } row;
    size_t next_place; /* first one at or behind the row */
    struct dwarf_places places;
    struct dwarf_line *lines;
};

static struct error *add_name(struct dwarf_line_name **names, size_t *num, size_t *capacity,
                              struct dwarf_line_name name)
{
    RETURN_IF_ERROR(array_reserve(names, capacity, *num + 1, sizeof(name)));
    if (name.num_bytes >= NAME_MAX_BYTES)
        name.num_bytes = 0;
    (*names)[(*num)++] = name;
    return NULL;
}

/* Reads an inline string. Returns: false at the empty one that ends a list. */
static bool read_name(struct dwarf_bytes *bytes, struct dwarf_line_name *name)
{
    const struct dwarf_format format = {0};
    struct dwarf_value value;

    if (!dwarf_form_read(bytes, DW_FORM_string, 0, format, &value) || value.number == 0)
        return false;
    *name = (struct dwarf_line_name){
        .bytes = (const char *)value.bytes,
        .num_bytes = value.number < NAME_MAX_BYTES ? (uint32_t)value.number : 0};
    return true;
}

/* The lists of DWARF 2 to 4: entry 0 is the compilation directory, or no file. */
static struct error *read_old_names(struct dwarf_line_table *table, struct dwarf_bytes *bytes,
                                    struct dwarf_budget *budget)
{
    struct dwarf_line_name name = {0};

    RETURN_IF_ERROR(add_name(&table->dirs, &table->num_dirs, &table->dirs_capacity, name));
    RETURN_IF_ERROR(add_name(&table->files, &table->num_files, &table->files_capacity, name));
    while (table->num_dirs < TABLE_MAX_NAMES && read_name(bytes, &name) &&
           dwarf_budget_take(budget, STEPS_PER_NAME))
        RETURN_IF_ERROR(add_name(&table->dirs, &table->num_dirs, &table->dirs_capacity, name));
    while (table->num_files < TABLE_MAX_NAMES && read_name(bytes, &name) &&
           dwarf_budget_take(budget, STEPS_PER_NAME)) {
        uint64_t dir = dwarf_bytes_read_uleb(bytes);

        name.dir = dir > UINT32_MAX ? 0 : (uint32_t)dir;
        dwarf_bytes_read_uleb(bytes); /* time */
        dwarf_bytes_read_uleb(bytes); /* size */
        RETURN_IF_ERROR(add_name(&table->files, &table->num_files, &table->files_capacity, name));
    }
    return NULL;
}

static void read_entry_format(struct dwarf_bytes *bytes, struct entry_format *format)
{
    size_t num = dwarf_bytes_read(bytes, 1);

    format->num = 0;
    for (size_t i = 0; i < num; i++) {
        uint64_t content = dwarf_bytes_read_uleb(bytes);
        uint64_t form = dwarf_bytes_read_uleb(bytes);

        if (i == MAX_FORMATS) {
            dwarf_bytes_fail(bytes);
            return;
        }
        format->fields[format->num].content = content;
        format->fields[format->num++].form = form;
    }
}

static bool read_entry(const struct dwarf_unit *unit, struct dwarf_format format,
                       struct dwarf_bytes *bytes, const struct entry_format *entry,
                       struct dwarf_line_name *name)
{
    *name = (struct dwarf_line_name){0};
    for (size_t i = 0; i < entry->num; i++) {
        struct dwarf_value value;
        size_t num_bytes;

        if (entry->fields[i].form > UINT16_MAX ||
            !dwarf_form_read(bytes, (unsigned)entry->fields[i].form, 0, format, &value))
            return false;
        if (entry->fields[i].content == DW_LNCT_path) {
            name->bytes = dwarf_unit_string(unit, &value, &num_bytes);
            name->num_bytes = name->bytes && num_bytes < NAME_MAX_BYTES ? (uint32_t)num_bytes : 0;
        } else if (entry->fields[i].content == DW_LNCT_directory_index) {
            name->dir = value.number > UINT32_MAX ? 0 : (uint32_t)value.number;
        }
    }
    return true;
}

/* One list of DWARF 5. */
static struct error *read_names(const struct dwarf_unit *unit, struct dwarf_format format,
                                struct dwarf_bytes *bytes, struct dwarf_line_name **names,
                                size_t *num, size_t *capacity)
{
    struct entry_format entry;
    uint64_t count;

    read_entry_format(bytes, &entry);
    count = dwarf_bytes_read_uleb(bytes);
    if (bytes->is_bad || entry.num == 0)
        return NULL;
    for (uint64_t i = 0; i < count && i < TABLE_MAX_NAMES; i++) {
        struct dwarf_line_name name;

        if (!read_entry(unit, format, bytes, &entry, &name) ||
            !dwarf_budget_take(unit->file->budget, STEPS_PER_NAME))
            return NULL;
        RETURN_IF_ERROR(add_name(names, num, capacity, name));
    }
    return NULL;
}

/* Reads the fixed part of the header. Returns: false when it makes no sense. */
static bool read_header(struct dwarf_line_table *table, struct dwarf_bytes *bytes)
{
    uint64_t length = dwarf_bytes_read(bytes, 4);

    table->format.offset_bytes = 4;
    if (length == UINT32_MAX) {
        table->format.offset_bytes = 8;
        length = dwarf_bytes_read(bytes, 8);
    }
    if (bytes->is_bad || length > dwarf_bytes_left(bytes))
        return false;
    bytes->limit = bytes->at + length;
    table->format.version = (uint8_t)dwarf_bytes_read(bytes, 1);
    if (dwarf_bytes_read(bytes, 1) != 0 || table->format.version < 2 || table->format.version > 5)
        return false;
    if (table->format.version >= 5)
        dwarf_bytes_skip(bytes, 2); /* sizes of addresses and segment selectors */
    length = dwarf_bytes_read(bytes, table->format.offset_bytes);
    if (bytes->is_bad || length > dwarf_bytes_left(bytes))
        return false;
    table->program = (struct dwarf_bytes){.at = bytes->at + length, .limit = bytes->limit};
    bytes->limit = bytes->at + length;
    table->min_instruction_bytes = (uint8_t)dwarf_bytes_read(bytes, 1);
    if (table->format.version >= 4)
        dwarf_bytes_skip(bytes, 1); /* operations of an instruction: 1 on x86 */
    dwarf_bytes_skip(bytes, 1);     /* default_is_stmt */
    table->line_base = (int8_t)dwarf_bytes_read(bytes, 1);
    table->line_range = (uint8_t)dwarf_bytes_read(bytes, 1);
    table->opcode_base = (uint8_t)dwarf_bytes_read(bytes, 1);
    for (unsigned i = 1; i < table->opcode_base; i++)
        table->operand_counts[i] = (uint8_t)dwarf_bytes_read(bytes, 1);
    return !bytes->is_bad && table->line_range > 0 && table->opcode_base > 0;
}

struct error *dwarf_line_table_create(const struct dwarf_unit *unit,
                                      struct dwarf_line_table **table_ret)
{
    CLEANUP(dwarf_line_table_destroy) struct dwarf_line_table *table = NULL;
    struct dwarf_budget *budget = unit->file->budget;
    struct dwarf_bytes bytes;
    size_t num_bytes;

    *table_ret = NULL;
    if (!unit->has_line)
        return NULL;
    bytes = dwarf_file_bytes(unit->file, DWARF_SECTION_LINE, unit->line_offset);
    table = calloc(1, sizeof(*table));
    if (!table)
        return &error_no_memory;
    if (bytes.is_bad || !read_header(table, &bytes))
        return NULL;
    table->comp_dir.bytes = dwarf_unit_string(unit, &unit->comp_dir, &num_bytes);
    if (table->comp_dir.bytes && num_bytes < NAME_MAX_BYTES)
        table->comp_dir.num_bytes = (uint32_t)num_bytes;
    if (table->format.version < 5) {
        RETURN_IF_ERROR(read_old_names(table, &bytes, budget));
    } else {
        RETURN_IF_ERROR(read_names(unit, table->format, &bytes, &table->dirs, &table->num_dirs,
                                   &table->dirs_capacity));
        RETURN_IF_ERROR(read_names(unit, table->format, &bytes, &table->files, &table->num_files,
                                   &table->files_capacity));
    }
    *table_ret = take_ptr(table);
    return NULL;
}

void dwarf_line_table_destroy(struct dwarf_line_table *table)
{
    if (!table)
        return;
    free(table->dirs);
    free(table->files);
    free(table);
}

/* A row ends where the next one begins: the places between get its line. */
static inline void finish_row(struct machine *machine, uint64_t limit)
{
    struct dwarf_places places = machine->places;
    size_t at = machine->next_place;

    if (at == places.num || places.addrs[at] >= limit || machine->is_dead)
        return;
    for (; at < places.num && places.addrs[at] < limit; at++) {
        if (!machine->lines[at].is_found)
            machine->lines[at] = (struct dwarf_line){
                .file = machine->row.file, .line = machine->row.line, .is_found = true};
    }
    machine->next_place = at;
}

/* Linkers leave 0 (bfd, gold) or -1 (lld) as the address of what they threw away. */
static bool is_dead_addr(uint64_t elf_addr)
{
    return elf_addr == 0 || elf_addr >= UINT64_MAX - 1;
}

static inline void emit_row(struct machine *machine)
{
    if (machine->has_row && machine->elf_addr > machine->row.elf_addr) {
        finish_row(machine, machine->elf_addr);
    } else if (!machine->has_row || machine->elf_addr < machine->row.elf_addr) {
        machine->is_dead |= is_dead_addr(machine->elf_addr);
        machine->next_place = dwarf_places_from(machine->places, machine->elf_addr);
    }
    machine->has_row = true;
    machine->row.elf_addr = machine->elf_addr;
    machine->row.file = machine->file;
    machine->row.line = machine->line;
}

static void start_sequence(struct machine *machine)
{
    machine->elf_addr = 0;
    machine->file = 1;
    machine->line = 1;
    machine->has_row = false;
    machine->is_dead = false;
}

static void run_extended(struct machine *machine, struct dwarf_bytes *bytes)
{
    uint64_t length = dwarf_bytes_read_uleb(bytes);
    const uint8_t *end;

    if (length == 0 || length > dwarf_bytes_left(bytes))
        return;
    end = bytes->at + length;
    switch (dwarf_bytes_read(bytes, 1)) {
    case DW_LNE_end_sequence:
        if (machine->has_row && machine->elf_addr > machine->row.elf_addr)
            finish_row(machine, machine->elf_addr);
        start_sequence(machine);
        break;
    case DW_LNE_set_address:
        if (length == 1 + DWARF_ADDRESS_BYTES)
            machine->elf_addr = dwarf_bytes_read(bytes, DWARF_ADDRESS_BYTES);
        break;
    default: /* discriminators, and vendors' */
        break;
    }
    bytes->at = end;
}

static void run_standard(const struct dwarf_line_table *table, struct machine *machine,
                         struct dwarf_bytes *bytes, uint8_t opcode)
{
    switch (opcode) {
    case DW_LNS_copy:
        emit_row(machine);
        break;
    case DW_LNS_advance_pc:
        machine->elf_addr += dwarf_bytes_read_uleb(bytes) * table->min_instruction_bytes;
        break;
    case DW_LNS_advance_line:
        machine->line = (int64_t)((uint64_t)machine->line + (uint64_t)dwarf_bytes_read_sleb(bytes));
        break;
    case DW_LNS_set_file:
        machine->file = dwarf_bytes_read_uleb(bytes);
        break;
    case DW_LNS_const_add_pc:
        machine->elf_addr += (uint64_t)((255 - table->opcode_base) / table->line_range) *
                             table->min_instruction_bytes;
        break;
    case DW_LNS_fixed_advance_pc:
        machine->elf_addr += dwarf_bytes_read(bytes, 2);
        break;
    default:
        for (unsigned i = 0; i < table->operand_counts[opcode]; i++)
            dwarf_bytes_read_uleb(bytes);
    }
}

/* What a special opcode adds (6.2.5.1). */
struct advance {
    uint32_t elf_addr;
    int32_t line;
};

/* Divides once for each opcode instead of once for each row. advances: [256]. */
static void special_opcodes(const struct dwarf_line_table *table, struct advance *advances)
{
    for (unsigned opcode = table->opcode_base; opcode < 256; opcode++) {
        unsigned adjusted = opcode - table->opcode_base;

        advances[opcode].elf_addr = adjusted / table->line_range * table->min_instruction_bytes;
        advances[opcode].line = table->line_base + (int32_t)(adjusted % table->line_range);
    }
}

void dwarf_line_table_run(const struct dwarf_line_table *table, struct dwarf_budget *budget,
                          struct dwarf_places places, struct dwarf_line *lines)
{
    struct machine machine = {.places = places, .lines = lines};
    struct dwarf_bytes bytes = table->program;
    struct advance advances[256];

    special_opcodes(table, advances);
    start_sequence(&machine);
    while (bytes.at < bytes.limit && dwarf_budget_take(budget, 1)) {
        uint8_t opcode = *bytes.at++;

        if (opcode >= table->opcode_base) {
            machine.elf_addr += advances[opcode].elf_addr;
            machine.line += advances[opcode].line;
            emit_row(&machine);
        } else if (opcode == 0) {
            run_extended(&machine, &bytes);
        } else {
            run_standard(table, &machine, &bytes, opcode);
        }
    }
}

/* One part of a path on its way into the arena. */
static size_t append(char *path, size_t num_bytes, struct dwarf_line_name part)
{
    if (part.num_bytes == 0)
        return num_bytes;
    if (part.bytes[0] == '/')
        num_bytes = 0;
    else if (num_bytes > 0 && path[num_bytes - 1] != '/')
        path[num_bytes++] = '/';
    memcpy(path + num_bytes, part.bytes, part.num_bytes);
    return num_bytes + part.num_bytes;
}

/* Drops "./" and "/./" from a path, in place. */
static void drop_dots(char *path)
{
    char *to = path;

    for (const char *from = path; *from;) {
        bool is_start = from == path || from[-1] == '/';

        if (is_start && from[0] == '.' && from[1] == '/')
            from += 2;
        else
            *to++ = *from++;
    }
    *to = '\0';
}

/* Drops "x/.." from a relative path, in place: units below different directories name one header.
 */
static void drop_parents(char *path)
{
    size_t num_kept = 0; /* bytes that no ".." takes away: "../../" */
    size_t num_bytes = 0;

    for (const char *from = path; *from;) {
        size_t part = strcspn(from, "/");
        size_t step = part + (from[part] == '/');

        if (part == 0) {
            from++;
            continue;
        }
        if (part == 2 && !memcmp(from, "..", 2) && num_bytes > num_kept) {
            num_bytes--; /* the slash */
            while (num_bytes > num_kept && path[num_bytes - 1] != '/')
                num_bytes--;
        } else {
            memmove(path + num_bytes, from, step);
            num_bytes += step;
            if (part == 2 && !memcmp(path + num_bytes - step, "..", 2))
                num_kept = num_bytes;
        }
        from += step;
    }
    path[num_bytes] = '\0';
}

static bool starts_with(const struct dwarf_line_name *dir, const char *component)
{
    size_t num_bytes = strlen(component);

    return dir->num_bytes >= num_bytes && !memcmp(dir->bytes, component, num_bytes) &&
           (dir->num_bytes == num_bytes || dir->bytes[num_bytes] == '/');
}

/* Tells whether a directory is relative to the compilation directory. One that is itself relative
 * was made so by -ffile-prefix-map, which shortened other absolute ones, too: those (and entry 0 of
 * DWARF 5, the compilation directory once more) are relative to the same unknown place. Debian's
 * libc has "./csu" of "/build/glibc/csu", openjdk "make/hotspot" of "/build/openjdk/make/hotspot":
 * what begins likewise was shortened; "..", and "." by -I., were not. */
static bool is_below(const struct dwarf_line_name *dir, const struct dwarf_line_name *root)
{
    bool is_dotted = starts_with(dir, ".");

    if (root->bytes[0] == '/' || starts_with(dir, "..") || starts_with(dir, "./.."))
        return true;
    if (!starts_with(root, "."))
        return is_dotted;
    return !is_dotted || (dir->num_bytes == 1 && root->num_bytes > 2);
}

const char *dwarf_line_table_path(const struct dwarf_line_table *table, uint64_t file,
                                  struct arena *arena)
{
    struct dwarf_line_name name;
    struct dwarf_line_name dir = {0};
    struct dwarf_line_name root = table->comp_dir;
    size_t num_bytes = 0;
    char *path;

    if (file >= table->num_files || table->files[file].num_bytes == 0)
        return "";
    name = table->files[file];
    if (name.dir < table->num_dirs)
        dir = table->dirs[name.dir];
    /* "<built-in>" and its like are no files. */
    if (name.bytes[0] == '<')
        root.num_bytes = dir.num_bytes = 0;
    if (root.num_bytes > 0 && dir.num_bytes > 0 && !is_below(&dir, &root))
        root.num_bytes = 0;
    path = arena_alloc(arena, (size_t)root.num_bytes + dir.num_bytes + name.num_bytes + 3);
    if (!path)
        return NULL;
    num_bytes = append(path, num_bytes, root);
    num_bytes = append(path, num_bytes, dir);
    num_bytes = append(path, num_bytes, name);
    path[num_bytes] = '\0';
    drop_dots(path);
    if (path[0] != '/')
        drop_parents(path);
    return path;
}
