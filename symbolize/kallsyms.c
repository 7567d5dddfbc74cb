#include "symbolize/kallsyms.h"

#include <fcntl.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "symbolize/symbolize.h"

#define KALLSYMS_MAX_FILE_BYTES ((size_t)256 << 20)
#define KALLSYMS_MAX_TAIL_BYTES 8192 /* last function of a module: its end is not told */

struct kernel_symbol {
    uint64_t pc;
    const char *name;   /* into text */
    const char *module; /* into text, or "vmlinux" */
    uint32_t rank;      /* smaller = the better name for an address */
    bool is_text;
};

struct kallsyms {
    char *text;
    struct kernel_symbol *symbols; /* by pc, one for each pc */
    size_t num_symbols, capacity;
};

DEFINE_CLEANUP(kallsyms_destroy, struct kallsyms *)

static bool is_kernel_half(uint64_t pc)
{
    return pc >> 63;
}

/* A global name before a weak before a local one, then the one with fewer underscores in front
 * (__x64_sys_read is better than _stext is better than __pfx_...). */
static uint32_t name_rank(char type, const char *name)
{
    uint32_t rank = (uint32_t)strspn(name, "_");

    if (rank > 15)
        rank = 15;
    if (!strncmp(name, "__pfx_", 6))
        rank += 64;
    return rank + (type == 'T' ? 0 : type == 'W' || type == 'w' ? 16 : 32);
}

/* One line: "ffffffff81000000 T name" or the same with "\t[module]" behind. */
static bool parse_line(char *line, struct kernel_symbol *symbol_ret)
{
    char *at;
    char *module;
    uint64_t pc = strtoull(line, &at, 16);
    char type;

    if (at == line || at[0] != ' ' || !at[1] || at[2] != ' ' || !at[3] || !is_kernel_half(pc))
        return false;
    type = at[1];
    *symbol_ret = (struct kernel_symbol){.pc = pc, .name = at + 3, .module = "vmlinux"};
    symbol_ret->is_text = strchr("tTwW", type) != NULL;
    module = strchr(at + 3, '\t');
    if (module) {
        *module++ = '\0';
        if (*module == '[') {
            symbol_ret->module = module + 1;
            module[strcspn(module, "]")] = '\0';
        }
    }
    symbol_ret->rank = name_rank(type, symbol_ret->name);
    return *symbol_ret->name != '\0';
}

static int symbol_compare(const void *left, const void *right)
{
    const struct kernel_symbol *a = left;
    const struct kernel_symbol *b = right;

    if (a->pc != b->pc)
        return a->pc < b->pc ? -1 : 1;
    if (a->is_text != b->is_text)
        return a->is_text ? -1 : 1;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return a->name < b->name ? -1 : a->name > b->name;
}

static struct error *parse_lines(struct kallsyms *kallsyms, size_t num_bytes)
{
    char *limit = kallsyms->text + num_bytes;
    size_t num_kept = 0;

    for (char *line = kallsyms->text; line < limit;) {
        char *end = memchr(line, '\n', (size_t)(limit - line));
        struct kernel_symbol symbol;

        if (!end)
            end = limit;
        *end = '\0';
        if (parse_line(line, &symbol)) {
            RETURN_IF_ERROR(array_reserve(&kallsyms->symbols, &kallsyms->capacity,
                                          kallsyms->num_symbols + 1, sizeof(symbol)));
            kallsyms->symbols[kallsyms->num_symbols++] = symbol;
        }
        line = end + 1;
    }
    if (kallsyms->num_symbols > 0)
        qsort(kallsyms->symbols, kallsyms->num_symbols, sizeof(*kallsyms->symbols), symbol_compare);
    for (size_t i = 0; i < kallsyms->num_symbols; i++) {
        if (num_kept == 0 || kallsyms->symbols[num_kept - 1].pc != kallsyms->symbols[i].pc)
            kallsyms->symbols[num_kept++] = kallsyms->symbols[i];
    }
    kallsyms->num_symbols = num_kept;
    return NULL;
}

struct error *kallsyms_parse_take(char *text, size_t num_bytes, struct kallsyms **kallsyms_ret)
{
    CLEANUP(free) char *owned = text;
    CLEANUP(kallsyms_destroy) struct kallsyms *kallsyms = calloc(1, sizeof(*kallsyms));

    if (!kallsyms)
        return &error_no_memory;
    kallsyms->text = take_ptr(owned);
    RETURN_IF_ERROR(parse_lines(kallsyms, num_bytes));
    *kallsyms_ret = kallsyms->num_symbols > 0 ? take_ptr(kallsyms) : NULL;
    return NULL;
}

void kallsyms_destroy(struct kallsyms *kallsyms)
{
    if (!kallsyms)
        return;
    free(kallsyms->symbols);
    free(kallsyms->text);
    free(kallsyms);
}

static bool symbol_covers(const struct kallsyms *kallsyms, size_t at, uint64_t pc)
{
    const struct kernel_symbol *symbol = &kallsyms->symbols[at];

    if (!symbol->is_text)
        return false;
    if (at + 1 < kallsyms->num_symbols && !strcmp(symbol[1].module, symbol->module))
        return true; /* the caller found pc < symbol[1].pc */
    return pc - symbol->pc < KALLSYMS_MAX_TAIL_BYTES;
}

const char *kallsyms_find(const struct kallsyms *kallsyms, uint64_t pc, const char **module_ret)
{
    size_t low = 0;
    size_t high = kallsyms->num_symbols;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (kallsyms->symbols[middle].pc <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || !symbol_covers(kallsyms, low - 1, pc))
        return NULL;
    if (module_ret)
        *module_ret = kallsyms->symbols[low - 1].module;
    return kallsyms->symbols[low - 1].name;
}

static struct error *kallsyms_open(const struct symbolize_input *input, void **state_ret)
{
    struct kallsyms *kallsyms = NULL;
    char *text = NULL;
    size_t num_bytes;

    *state_ret = NULL;
    if (input->mapping->kind != MAPPING_KERNEL)
        return NULL;
    RETURN_IF_ERROR(
        file_read_all(AT_FDCWD, "/proc/kallsyms", KALLSYMS_MAX_FILE_BYTES, &text, &num_bytes));
    RETURN_IF_ERROR(kallsyms_parse_take(text, num_bytes, &kallsyms));
    *state_ret = kallsyms;
    return NULL;
}

static bool kallsyms_lookup(void *state, uint64_t pc, struct symbol_frames *frames_ret)
{
    const char *module;
    const char *name = kallsyms_find(state, pc, &module);

    if (!name)
        return false;
    frames_ret->num_symbols = 1;
    frames_ret->symbols[0] =
        (struct symbol){.name = name, .system_name = name, .filename = module, .is_final = true};
    return true;
}

static void kallsyms_close(void *state)
{
    kallsyms_destroy(state);
}

const struct symbolize_ops symbolize_kallsyms = {
    .name = "kallsyms",
    .open = kallsyms_open,
    .lookup = kallsyms_lookup,
    .close = kallsyms_close,
};
