#include "symbolize/dwarf_lines.h"

#include <dwarf.h>
#include <string.h>

#include "symbolize/elf_file.h"

static bool read_section(struct dwarf_lines *lines, Dwarf *dwarf)
{
    Elf *elf = dwarf_getelf(dwarf);

    if (lines->dwarf == dwarf)
        return lines->section != NULL;
    lines->dwarf = dwarf;
    lines->section = NULL;
    return elf_file_section_bytes(elf, ".debug_line", &lines->section, &lines->num_bytes) ||
           elf_file_section_bytes(elf, ".debug_line.dwo", &lines->section, &lines->num_bytes);
}

/* Tells whether the line program of a unit is of a sane size: libdw expands all of it at once. */
static bool program_is_sane(struct dwarf_lines *lines, Dwarf_Die *cu_die)
{
    Dwarf_Attribute attr;
    Dwarf_Word offset = 0;
    uint64_t length;
    uint32_t length32;

    if (!read_section(lines, dwarf_cu_getdwarf(cu_die->cu)))
        return false;
    /* A split unit without DW_AT_stmt_list has its file table at offset 0 (DWARF 5 7.3.2.2). */
    if (dwarf_attr(cu_die, DW_AT_stmt_list, &attr) && dwarf_formudata(&attr, &offset) != 0)
        return false;
    if (offset > lines->num_bytes || lines->num_bytes - offset < sizeof(length32) + sizeof(length))
        return false;
    memcpy(&length32, lines->section + offset, sizeof(length32));
    length = length32;
    if (length32 == UINT32_MAX) /* 64-bit DWARF (7.5.1) */
        memcpy(&length, lines->section + offset + sizeof(length32), sizeof(length));
    return length <= DWARF_LINES_MAX_PROGRAM_BYTES;
}

/* Loads the file table of a unit. Returns: false when it has none. */
static bool select_unit(struct dwarf_lines *lines, Dwarf_Die *cu_die)
{
    Dwarf_Attribute attr;

    if (lines->cu == cu_die->cu)
        return lines->files != NULL;
    lines->cu = cu_die->cu;
    lines->files = NULL;
    lines->comp_dir = dwarf_formstring(dwarf_attr_integrate(cu_die, DW_AT_comp_dir, &attr));
    if (!program_is_sane(lines, cu_die) ||
        dwarf_getsrcfiles(cu_die, &lines->files, &lines->num_files) != 0)
        lines->files = NULL;
    return lines->files != NULL;
}

/* Makes a path absolute and drops "/./" from it. */
static const char *clean_path(struct dwarf_lines *lines, const char *path)
{
    const char *comp_dir = lines->comp_dir;
    size_t dir_bytes = 0;
    size_t path_bytes = strlen(path);
    char *copy;
    char *dot;

    while (path[0] == '.' && path[1] == '/') {
        path += 2;
        path_bytes -= 2;
    }
    if (path[0] != '/' && path[0] != '<' && path[0] && comp_dir && comp_dir[0] == '/')
        dir_bytes = strlen(comp_dir);
    if (dir_bytes == 0 && !strstr(path, "/./"))
        return path;
    copy = arena_alloc(lines->arena, dir_bytes + path_bytes + 2);
    if (!copy)
        return "";
    memcpy(copy, comp_dir ? comp_dir : "", dir_bytes);
    if (dir_bytes > 0 && copy[dir_bytes - 1] != '/')
        copy[dir_bytes++] = '/';
    memcpy(copy + dir_bytes, path, path_bytes + 1);
    while ((dot = strstr(copy, "/./")))
        memmove(dot, dot + 2, strlen(dot + 2) + 1);
    return copy;
}

bool dwarf_lines_find(struct dwarf_lines *lines, Dwarf_Die *cu_die, uint64_t elf_addr,
                      const char **path_ret, int64_t *line_ret)
{
    Dwarf_Line *row;
    const char *path;
    int number = 0;

    if (!select_unit(lines, cu_die))
        return false;
    row = dwarf_getsrc_die(cu_die, elf_addr);
    if (!row)
        return false;
    path = dwarf_linesrc(row, NULL, NULL);
    if (dwarf_lineno(row, &number) != 0 || number < 0)
        number = 0;
    *path_ret = path ? clean_path(lines, path) : "";
    *line_ret = number;
    return true;
}

const char *dwarf_lines_path(struct dwarf_lines *lines, Dwarf_Attribute *attr)
{
    Dwarf_Die cu_die;
    Dwarf_Word index;
    const char *path;

    if (dwarf_formudata(attr, &index) != 0 ||
        !dwarf_cu_die(attr->cu, &cu_die, NULL, NULL, NULL, NULL, NULL, NULL))
        return "";
    if (!select_unit(lines, &cu_die) || index >= lines->num_files)
        return "";
    path = dwarf_filesrc(lines->files, index, NULL, NULL);
    /* libdw's name for the unused entry 0 of tables before DWARF 5. */
    if (!path || !strcmp(path, "???"))
        return "";
    return clean_path(lines, path);
}
