#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/log.h"
#include "symbolize/debug_files.h"
#include "symbolize/dwarf_index.h"
#include "symbolize/dwarf_lines.h"
#include "symbolize/dwarf_names.h"
#include "symbolize/dwarf_scopes.h"
#include "symbolize/symbolize.h"

/* What was found out about one place. */
struct answer {
    struct dwarf_line line;
    uint32_t scope;
    bool is_resolved; /* the unit was asked, whatever came of it */
};

/* Places that are asked for together: those of one unit are answered by one pass over it. */
struct batch {
    struct dwarf_places places;
    struct dwarf_unit **units; /* by place; NULL = none */
    struct answer *answers;    /* by place */
    uint32_t *order;           /* numbers of places, those of one unit side by side */
};

struct dwarf_state {
    struct dwarf_budget budget;
    struct dwarf_index index;
    struct dwarf_scopes scopes;
    struct arena *arena; /* borrowed: where strings go */
    bool *is_cut;        /* borrowed: see struct symbolize_input; may be NULL */
    struct batch batch;
    uint64_t single_addr; /* the one place of a batch that is asked for on its own */
};

static void batch_deinit(struct batch *batch)
{
    free(batch->units);
    free(batch->answers);
    free(batch->order);
}

static void dwarf_close(void *opened)
{
    struct dwarf_state *state = opened;

    batch_deinit(&state->batch);
    dwarf_scopes_deinit(&state->scopes);
    dwarf_index_deinit(&state->index);
    free(state);
}

DEFINE_CLEANUP(dwarf_close, struct dwarf_state *)

static int order_compare(const void *left, const void *right, void *context)
{
    struct dwarf_unit *const *units = context;
    const uint32_t *a = left;
    const uint32_t *b = right;

    if (units[*a] != units[*b])
        return (uintptr_t)units[*a] < (uintptr_t)units[*b] ? -1 : 1;
    return *a < *b ? -1 : *a > *b;
}

/* Finds the units of the places. batch: zeroed; to be deinitialised in every case. */
static struct error *batch_init(struct batch *batch, struct dwarf_state *state,
                                struct dwarf_places places)
{
    batch->places = places;
    batch->units = calloc(places.num + 1, sizeof(*batch->units));
    batch->answers = calloc(places.num + 1, sizeof(*batch->answers));
    batch->order = calloc(places.num + 1, sizeof(*batch->order));
    if (!batch->units || !batch->answers || !batch->order || places.num > UINT32_MAX)
        return &error_no_memory;
    RETURN_IF_ERROR(dwarf_index_find(&state->index, places, batch->units));
    for (uint32_t i = 0; i < places.num; i++)
        batch->order[i] = i;
    qsort_r(batch->order, places.num, sizeof(*batch->order), order_compare, batch->units);
    return NULL;
}

static struct error *dwarf_open(const struct symbolize_input *input, void **state_ret)
{
    CLEANUP(dwarf_close) struct dwarf_state *state = NULL;
    struct dwarf_places places = {.addrs = input->places, .num = input->num_places};

    *state_ret = NULL;
    if (!input->files)
        return NULL;
    RETURN_IF_ERROR(debug_files_load_dwarf(input->files));
    if (!input->files->dwarf)
        return NULL;
    state = calloc(1, sizeof(*state));
    if (!state)
        return &error_no_memory;
    state->arena = input->arena;
    state->is_cut = input->is_cut;
    dwarf_budget_init(&state->budget, DEBUG_FILES_MAX_BYTES, input->deadline_ns);
    dwarf_index_init(&state->index, input->files, &state->budget);
    RETURN_IF_ERROR(batch_init(&state->batch, state, places));
    log_debug("%s: %zu units with code", input->module->path, state->index.main.num);
    *state_ret = take_ptr(state);
    return NULL;
}

/* The places of one unit: numbers in the batch, and their addresses side by side. */
struct unit_places {
    const uint32_t *numbers;
    uint64_t *addrs;
    struct dwarf_line *lines;
    struct dwarf_found_scope *found;
    size_t num;
};

static void unit_places_deinit(struct unit_places *places)
{
    free(places->addrs);
    free(places->lines);
    free(places->found);
}

static struct error *unit_places_init(struct unit_places *places, const struct batch *batch,
                                      const struct dwarf_unit *unit)
{
    size_t first = array_search(batch->places.num, at,
                                (uintptr_t)batch->units[batch->order[at]] < (uintptr_t)unit);

    places->numbers = &batch->order[first];
    while (first + places->num < batch->places.num &&
           batch->units[places->numbers[places->num]] == unit)
        places->num++;
    places->addrs = calloc(places->num + 1, sizeof(*places->addrs));
    places->lines = calloc(places->num + 1, sizeof(*places->lines));
    places->found = calloc(places->num + 1, sizeof(*places->found));
    if (!places->addrs || !places->lines || !places->found)
        return &error_no_memory;
    for (size_t i = 0; i < places->num; i++) {
        places->addrs[i] = batch->places.addrs[places->numbers[i]];
        places->found[i].scope = DWARF_SCOPE_NONE;
    }
    return NULL;
}

/* Answers all places of a unit that are in the batch. */
static void resolve(struct dwarf_state *state, struct batch *batch, struct dwarf_unit *unit)
{
    struct unit_places of_unit = {0};
    struct error *err = unit_places_init(&of_unit, batch, unit);
    struct dwarf_unit *full = err ? NULL : dwarf_index_full_unit(&state->index, unit);
    struct dwarf_places places = {.addrs = of_unit.addrs, .num = of_unit.num};
    struct dwarf_line_table *lines = err ? NULL : dwarf_unit_lines(unit);

    if (lines)
        dwarf_line_table_run(lines, &state->budget, places, of_unit.lines);
    if (full)
        err = dwarf_scopes_walk(&state->scopes, &state->index.abbrevs, full, places, of_unit.found);
    for (size_t i = 0; i < of_unit.num; i++) {
        struct answer *answer = &batch->answers[of_unit.numbers[i]];

        answer->is_resolved = true;
        if (of_unit.lines)
            answer->line = of_unit.lines[i];
        answer->scope = !err && of_unit.found ? of_unit.found[i].scope : DWARF_SCOPE_NONE;
    }
    error_destroy(err); /* out of memory for one unit: what there is is still told */
    unit_places_deinit(&of_unit);
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

static struct symbol make_symbol(const struct dwarf_function *function, int language,
                                 const char *path, int64_t line)
{
    struct symbol symbol = {
        .name = function->name,
        .system_name = function->linkage_name,
        .filename = path,
        .line = line,
    };

    /* In C and Go the name is what the linker sees, unless the compiler made a clone. */
    if (!symbol.system_name[0] && (is_c(language) || language == DW_LANG_Go))
        symbol.system_name = symbol.name;
    symbol.is_final = language == DW_LANG_Go;
    if (!symbol.filename[0])
        symbol.filename = function->decl_path;
    /* The declaration's line means something only in the same file. */
    if (!strcmp(symbol.filename, function->decl_path))
        symbol.start_line = function->decl_line;
    return symbol;
}

static const struct dwarf_function *function_of(struct dwarf_state *state,
                                                struct dwarf_scope *scope)
{
    if (!scope->function)
        scope->function = dwarf_function_read(&state->index, scope->unit, scope->die, state->arena);
    return scope->function;
}

/* Fills in one symbol for each scope, from the innermost to the physical function. Of a chain that
 * is too long the middle is left out. */
static void fill_frames(struct dwarf_state *state, uint32_t number, const char *path, int64_t line,
                        struct symbol_frames *frames)
{
    frames->num_symbols = 0;
    while (number != DWARF_SCOPE_NONE) {
        struct dwarf_scope *scope = &state->scopes.scopes[number];
        const struct dwarf_function *function = function_of(state, scope);
        bool is_last = scope->parent == DWARF_SCOPE_NONE;

        if (!function)
            return;
        if (frames->num_symbols < SYMBOL_MAX_INLINES - 1 || is_last)
            frames->symbols[frames->num_symbols++] =
                make_symbol(function, scope->unit->language, path, line);
        path = function->call_path;
        line = function->call_line;
        number = scope->parent;
    }
}

/* Tells what is known of a place of a batch. Returns: false when nothing is. */
static bool tell(struct dwarf_state *state, struct batch *batch, size_t number,
                 struct symbol_frames *frames_ret)
{
    struct dwarf_unit *unit = batch->units[number];
    struct answer *answer = &batch->answers[number];
    const char *path = NULL;

    if (!unit)
        return false;
    if (!answer->is_resolved)
        resolve(state, batch, unit);
    if (answer->line.is_found && unit->lines)
        path = dwarf_line_table_path(unit->lines, answer->line.file, state->arena);
    if (answer->scope != DWARF_SCOPE_NONE) {
        fill_frames(state, answer->scope, path ? path : "", answer->line.line, frames_ret);
        return frames_ret->num_symbols > 0;
    }
    if (!path)
        return false;
    frames_ret->num_symbols = 1;
    frames_ret->symbols[0] =
        (struct symbol){.name = "", .system_name = "", .filename = path, .line = answer->line.line};
    return true;
}

/* A place that nobody announced. */
static bool tell_single(struct dwarf_state *state, uint64_t elf_addr,
                        struct symbol_frames *frames_ret)
{
    struct dwarf_places places = {.addrs = &state->single_addr, .num = 1};
    struct batch batch = {0};
    struct error *err;
    bool is_known = false;

    state->single_addr = elf_addr;
    err = batch_init(&batch, state, places);
    if (!err)
        is_known = tell(state, &batch, 0, frames_ret);
    error_destroy(err);
    batch_deinit(&batch);
    return is_known;
}

/* Once the budget is spent nothing is told any more: names would lack their namespaces, stacks some
 * inlined functions, and nobody could see that. */
static bool dwarf_lookup(void *opened, uint64_t elf_addr, struct symbol_frames *frames_ret)
{
    struct dwarf_state *state = opened;
    struct dwarf_places places = state->batch.places;
    size_t number = dwarf_places_from(places, elf_addr);
    bool is_known = false;

    if (!state->budget.is_spent && number < places.num && places.addrs[number] == elf_addr)
        is_known = tell(state, &state->batch, number, frames_ret);
    else if (!state->budget.is_spent)
        is_known = tell_single(state, elf_addr, frames_ret);
    if (!state->budget.is_spent)
        return is_known;
    if (state->is_cut)
        *state->is_cut = true;
    return false;
}

const struct symbolize_ops symbolize_dwarf = {
    .name = "DWARF",
    .open = dwarf_open,
    .lookup = dwarf_lookup,
    .close = dwarf_close,
};
