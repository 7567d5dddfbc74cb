#include <dwarf.h>
#include <elfutils/libdw.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "symbolize/debug_files.h"
#include "symbolize/dwarf_lines.h"
#include "symbolize/dwarf_units.h"
#include "symbolize/symbolize.h"

struct dwarf_state {
    Dwarf *dwarf;
    Dwarf *alt;
    struct dwarf_units *units;
    struct dwarf_lines lines;
};

static void dwarf_close(void *opened)
{
    struct dwarf_state *state = opened;

    dwarf_units_destroy(state->units);
    dwarf_end(state->dwarf);
    dwarf_end(state->alt);
    free(state);
}

DEFINE_CLEANUP(dwarf_close, struct dwarf_state *)

static struct error *dwarf_open(const struct symbolize_input *input, void **state_ret)
{
    CLEANUP(dwarf_close) struct dwarf_state *state = NULL;

    *state_ret = NULL;
    if (!input->files)
        return NULL;
    RETURN_IF_ERROR(debug_files_load_dwarf(input->files));
    if (!input->files->dwarf)
        return NULL;
    state = calloc(1, sizeof(*state));
    if (!state)
        return &error_no_memory;
    state->lines.arena = input->arena;
    state->dwarf = dwarf_begin_elf(input->files->dwarf, DWARF_C_READ, NULL);
    if (!state->dwarf)
        return error_create(ERROR_FAILED, NULL, "%s: debug info is not readable: %s",
                            input->module->path, dwarf_errmsg(-1));
    if (input->files->alt) {
        state->alt = dwarf_begin_elf(input->files->alt, DWARF_C_READ, NULL);
        dwarf_setalt(state->dwarf, state->alt);
    }
    RETURN_IF_ERROR(dwarf_units_create(state->dwarf, input->deadline_ns, &state->units));
    log_debug("%s: %zu units with code", input->module->path, state->units->num_units);
    *state_ret = take_ptr(state);
    return NULL;
}

static bool is_c(int language)
{
    switch (language) {
    case DW_LANG_C89:
    case DW_LANG_C:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case DW_LANG_Mips_Assembler:
    case 0x2c: /* DW_LANG_C17 (DWARF issue 181221.1) */
        return true;
    default:
        return false;
    }
}

static struct symbol make_symbol(const struct dwarf_scope_info *info, int language,
                                 const char *path, int64_t line)
{
    struct symbol symbol = {
        .name = info->name,
        .system_name = info->linkage_name,
        .filename = path,
        .line = line,
    };

    /* In C and Go the name is what the linker sees, unless the compiler made a clone. */
    if (!symbol.system_name[0] && (is_c(language) || language == DW_LANG_Go))
        symbol.system_name = symbol.name;
    symbol.is_final = language == DW_LANG_Go;
    if (!symbol.filename[0])
        symbol.filename = info->decl_path;
    /* The declaration's line means something only in the same file. */
    if (!strcmp(symbol.filename, info->decl_path))
        symbol.start_line = info->decl_line;
    return symbol;
}

/* Fills in one symbol for each scope, from the innermost to the physical function. Of a chain that
 * is too long the middle is left out. */
static void fill_frames(struct dwarf_state *state, struct dwarf_unit *unit, uint32_t scope,
                        const char *path, int64_t line, struct symbol_frames *frames)
{
    frames->num_symbols = 0;
    while (scope != DWARF_SCOPE_NONE) {
        const struct dwarf_scope_info *info = dwarf_scopes_info(unit->scopes, scope, &state->lines);
        uint32_t parent = unit->scopes->scopes[scope].parent;

        if (!info)
            return;
        if (frames->num_symbols < SYMBOL_MAX_INLINES - 1 || parent == DWARF_SCOPE_NONE)
            frames->symbols[frames->num_symbols++] = make_symbol(info, unit->language, path, line);
        path = info->call_path;
        line = info->call_line;
        scope = parent;
    }
}

static bool dwarf_lookup(void *opened, uint64_t elf_addr, struct symbol_frames *frames_ret)
{
    struct dwarf_state *state = opened;
    struct dwarf_unit *unit = dwarf_units_find(state->units, elf_addr);
    uint32_t scope;
    const char *path = "";
    int64_t line = 0;
    bool has_line;

    if (!unit)
        return false;
    has_line = dwarf_lines_find(&state->lines, &unit->die, elf_addr, &path, &line);
    scope = unit->scopes ? dwarf_scopes_find(unit->scopes, elf_addr) : DWARF_SCOPE_NONE;
    if (scope != DWARF_SCOPE_NONE) {
        fill_frames(state, unit, scope, path, line, frames_ret);
        return frames_ret->num_symbols > 0;
    }
    if (!has_line)
        return false;
    frames_ret->num_symbols = 1;
    frames_ret->symbols[0] =
        (struct symbol){.name = "", .system_name = "", .filename = path, .line = line};
    return true;
}

const struct symbolize_ops symbolize_dwarf = {
    .name = "DWARF",
    .open = dwarf_open,
    .lookup = dwarf_lookup,
    .close = dwarf_close,
};
