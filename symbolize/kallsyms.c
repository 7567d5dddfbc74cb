#include "symbolize/kallsyms.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "base/arena.h"
#include "base/array.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "symbolize/kernel_names.h"
#include "symbolize/symbolize.h"

#define KALLSYMS_MAX_FILE_BYTES ((uint64_t)256 << 20)
#define KALLSYMS_MAX_TAIL_BYTES 8192 /* last function of a module: its end is not told */
#define CHUNK_BYTES                                                              \
    ((size_t)64 << 10) /* the kernel gives a page for each read, whatever we ask \
                        */
#define MAX_HIDDEN 64  /* functions at address 0 before the file counts as restricted */
#define VMLINUX 0      /* index into modules */

struct kernel_symbol {
    uint64_t pc;
    const char *name; /* in the arena; "" when it is no text */
    uint32_t module;  /* index into modules */
    uint8_t rank;     /* smaller = the better name for an address */
    bool is_text;
};

/* In the file the symbols of the kernel proper come first, by address; behind them those of
 * modules, trampolines and BPF programs, in no order. */
struct kallsyms {
    struct kernel_symbol
        *symbols; /* as read; by pc and one for each pc while is_sorted, and at last */
    size_t num_symbols, capacity;
    size_t num_first;     /* how many of them are of the first part */
    const char **modules; /* names, in the arena */
    size_t num_modules, modules_capacity;
    struct arena arena;
    uint64_t last_pc; /* of the last line read */
    uint32_t last_module;
    unsigned num_hidden;
    bool is_sorted;   /* as far as read */
    bool is_complete; /* nothing more to read */
    bool is_skipping; /* inside of a line that is too long to make sense */
    int fd;
    uint64_t num_read; /* bytes */
    char *chunk;       /* CHUNK_BYTES, begins with num_left bytes of a line that goes on */
    size_t num_left;
};

DEFINE_CLEANUP(kallsyms_destroy, struct kallsyms *)

static bool is_kernel_half(uint64_t pc)
{
    return pc >> 63;
}

/* A global name before a weak before a local one, then the one with fewer underscores in front
 * (__x64_sys_read is better than _stext is better than __pfx_...). */
static uint8_t name_rank(char type, const char *name)
{
    uint8_t rank = 0;

    while (rank < 15 && name[rank] == '_')
        rank++;
    if (rank >= 2 && !strncmp(name, "__pfx_", 6))
        rank += 64;
    return (uint8_t)(rank + (type == 'T' ? 0 : type == 'W' || type == 'w' ? 16 : 32));
}

/* Reads the hexadecimal address at the start of a line. Returns: what follows, or NULL. */
static char *parse_pc(char *line, uint64_t *pc_ret)
{
    uint64_t pc = 0;
    char *at = line;

    for (; at - line < 16; at++) {
        unsigned digit = (unsigned char)*at - (unsigned)'0';

        if (digit > 9) {
            digit = ((unsigned char)*at | 32u) - (unsigned)'a';
            if (digit > 5)
                break;
            digit += 10;
        }
        pc = pc << 4 | digit;
    }
    *pc_ret = pc;
    return at == line ? NULL : at;
}

/* One line: "ffffffff81000000 T name" or the same with "\t[module]" behind. module_ret: NULL for
 * the kernel proper. */
static bool parse_line(struct kallsyms *kallsyms, char *line, struct kernel_symbol *symbol_ret,
                       char **module_ret)
{
    uint64_t pc;
    char *at = parse_pc(line, &pc);
    char *module;

    if (!at || at[0] != ' ' || !at[1] || at[2] != ' ' || !at[3])
        return false;
    *symbol_ret = (struct kernel_symbol){.pc = pc, .name = at + 3};
    symbol_ret->is_text = at[1] == 't' || at[1] == 'T' || at[1] == 'w' || at[1] == 'W';
    if (!is_kernel_half(pc)) {
        kallsyms->num_hidden += symbol_ret->is_text && pc == 0;
        return false;
    }
    *module_ret = NULL;
    module = strchr(at + 3, '\t');
    if (module) {
        *module++ = '\0';
        if (*module == '[') {
            *module_ret = module + 1;
            module[strcspn(module, "]")] = '\0';
        }
    }
    symbol_ret->rank = name_rank(at[1], symbol_ret->name);
    return *symbol_ret->name != '\0';
}

/* Tells whether `a` is the better one of two symbols at the same address. */
static bool is_better(const struct kernel_symbol *a, const struct kernel_symbol *b)
{
    if (a->is_text != b->is_text)
        return a->is_text;
    if (a->rank != b->rank)
        return a->rank < b->rank;
    return strcmp(a->name, b->name) < 0;
}

static int symbol_compare(const void *left, const void *right)
{
    const struct kernel_symbol *a = left;
    const struct kernel_symbol *b = right;

    if (a->pc != b->pc)
        return a->pc < b->pc ? -1 : 1;
    return is_better(a, b) ? -1 : is_better(b, a);
}

/* Finds or makes the index of a module; its symbols stand together in the file. */
static struct error *find_module(struct kallsyms *kallsyms, const char *name, uint32_t *module_ret)
{
    *module_ret = kallsyms->last_module;
    if (strcmp(kallsyms->modules[*module_ret], name) == 0)
        return NULL;
    RETURN_IF_ERROR(array_reserve(&kallsyms->modules, &kallsyms->modules_capacity,
                                  kallsyms->num_modules + 1, sizeof(*kallsyms->modules)));
    name = arena_copy(&kallsyms->arena, name, strlen(name));
    if (!name)
        return &error_no_memory;
    *module_ret = (uint32_t)kallsyms->num_modules;
    kallsyms->modules[kallsyms->num_modules++] = name;
    return NULL;
}

/* Adds a symbol whose name is borrowed. Of what is no text only the limit that it sets to the text
 * before it is kept, of equal addresses only the best name. */
static struct error *add_symbol(struct kallsyms *kallsyms, const struct kernel_symbol *symbol)
{
    struct kernel_symbol *last =
        kallsyms->num_symbols ? &kallsyms->symbols[kallsyms->num_symbols - 1] : NULL;
    bool is_same = last && kallsyms->is_sorted && last->pc == symbol->pc;

    if (is_same && !is_better(symbol, last))
        return NULL;
    if (!is_same && last && kallsyms->is_sorted && !last->is_text && !symbol->is_text &&
        last->module == VMLINUX && symbol->module == VMLINUX)
        return NULL;
    if (!is_same) {
        RETURN_IF_ERROR(array_reserve(&kallsyms->symbols, &kallsyms->capacity,
                                      kallsyms->num_symbols + 1, sizeof(*symbol)));
        last = &kallsyms->symbols[kallsyms->num_symbols];
    }
    *last = *symbol;
    last->name = "";
    if (symbol->is_text)
        last->name = arena_copy(&kallsyms->arena, symbol->name, strlen(symbol->name));
    if (!last->name)
        return &error_no_memory;
    kallsyms->num_symbols += !is_same;
    return NULL;
}

/* line: NUL-terminated, changed. */
static struct error *add_line(struct kallsyms *kallsyms, char *line)
{
    struct kernel_symbol symbol;
    char *module;

    if (!parse_line(kallsyms, line, &symbol, &module))
        return NULL;
    symbol.module = VMLINUX;
    if (module)
        RETURN_IF_ERROR(find_module(kallsyms, module, &symbol.module));
    kallsyms->is_sorted &= symbol.pc >= kallsyms->last_pc;
    RETURN_IF_ERROR(add_symbol(kallsyms, &symbol));
    if (kallsyms->is_sorted && kallsyms->num_modules == 1)
        kallsyms->num_first = kallsyms->num_symbols;
    kallsyms->last_pc = symbol.pc;
    kallsyms->last_module = symbol.module;
    return NULL;
}

/* Adds the whole lines in `text`. left_ret: bytes of the line that goes on behind. */
static struct error *add_lines(struct kallsyms *kallsyms, char *text, size_t num_bytes,
                               size_t *left_ret)
{
    char *limit = text + num_bytes;
    char *line = text;
    char *end;

    while (line < limit && (end = memchr(line, '\n', (size_t)(limit - line)))) {
        *end = '\0';
        if (!kallsyms->is_skipping)
            RETURN_IF_ERROR(add_line(kallsyms, line));
        kallsyms->is_skipping = false;
        line = end + 1;
    }
    *left_ret = (size_t)(limit - line);
    return NULL;
}

static void sort_symbols(struct kernel_symbol *symbols, size_t num_symbols)
{
    if (num_symbols > 1)
        qsort(symbols, num_symbols, sizeof(*symbols), symbol_compare);
}

/* Puts what came out of order where it belongs: as a rule all of it behind the first part. */
static void sort_all(struct kallsyms *kallsyms)
{
    struct kernel_symbol *symbols = kallsyms->symbols;
    size_t num_first = kallsyms->num_first;
    size_t num_kept = 0;

    sort_symbols(symbols + num_first, kallsyms->num_symbols - num_first);
    if (num_first == 0 || kallsyms->num_symbols == num_first ||
        symbols[num_first].pc <= symbols[num_first - 1].pc)
        sort_symbols(symbols, kallsyms->num_symbols);
    for (size_t i = 0; i < kallsyms->num_symbols; i++) {
        if (num_kept == 0 || symbols[num_kept - 1].pc != symbols[i].pc)
            symbols[num_kept++] = symbols[i];
    }
    kallsyms->num_symbols = num_kept;
}

/* Ends the reading. */
static void complete(struct kallsyms *kallsyms)
{
    kallsyms->is_complete = true;
    free(take_ptr(kallsyms->chunk));
    if (kallsyms->fd >= 0)
        close(take_fd(&kallsyms->fd));
    if (!kallsyms->is_sorted)
        sort_all(kallsyms);
}

/* Reads on a bit. The last line of the file ends with a newline. */
static struct error *read_chunk(struct kallsyms *kallsyms)
{
    char *chunk = kallsyms->chunk;
    ssize_t num_read;
    size_t num_bytes;

    do
        num_read = read(kallsyms->fd, chunk + kallsyms->num_left, CHUNK_BYTES - kallsyms->num_left);
    while (num_read < 0 && errno == EINTR);
    if (num_read <= 0 || kallsyms->num_read > KALLSYMS_MAX_FILE_BYTES ||
        (kallsyms->num_symbols == 0 && kallsyms->num_hidden > MAX_HIDDEN)) {
        complete(kallsyms);
        return NULL;
    }
    kallsyms->num_read += (uint64_t)num_read;
    num_bytes = kallsyms->num_left + (size_t)num_read;
    RETURN_IF_ERROR(add_lines(kallsyms, chunk, num_bytes, &kallsyms->num_left));
    if (kallsyms->num_left == CHUNK_BYTES) {
        kallsyms->is_skipping = true;
        kallsyms->num_left = 0;
    }
    memmove(chunk, chunk + num_bytes - kallsyms->num_left, kallsyms->num_left);
    return NULL;
}

static struct error *create(struct kallsyms **kallsyms_ret)
{
    CLEANUP(kallsyms_destroy) struct kallsyms *kallsyms = calloc(1, sizeof(*kallsyms));

    if (!kallsyms)
        return &error_no_memory;
    arena_init(&kallsyms->arena);
    kallsyms->fd = -1;
    kallsyms->is_sorted = true;
    RETURN_IF_ERROR(array_reserve(&kallsyms->modules, &kallsyms->modules_capacity, 1,
                                  sizeof(*kallsyms->modules)));
    kallsyms->modules[kallsyms->num_modules++] = "vmlinux"; /* VMLINUX */
    *kallsyms_ret = take_ptr(kallsyms);
    return NULL;
}

struct error *kallsyms_open(const char *path, struct kallsyms **kallsyms_ret)
{
    CLEANUP(kallsyms_destroy) struct kallsyms *kallsyms = NULL;

    RETURN_IF_ERROR(create(&kallsyms));
    kallsyms->chunk = malloc(CHUNK_BYTES);
    if (!kallsyms->chunk)
        return &error_no_memory;
    kallsyms->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (kallsyms->fd < 0)
        return error_from_errno(errno, NULL, "%s", path);
    while (kallsyms->num_symbols == 0 && !kallsyms->is_complete)
        RETURN_IF_ERROR(read_chunk(kallsyms));
    *kallsyms_ret = kallsyms->num_symbols > 0 ? take_ptr(kallsyms) : NULL;
    return NULL;
}

struct error *kallsyms_parse_take(char *text, size_t num_bytes, struct kallsyms **kallsyms_ret)
{
    CLEANUP(free) char *owned = text;
    CLEANUP(kallsyms_destroy) struct kallsyms *kallsyms = NULL;
    size_t num_left;

    RETURN_IF_ERROR(create(&kallsyms));
    RETURN_IF_ERROR(add_lines(kallsyms, owned, num_bytes, &num_left));
    complete(kallsyms);
    *kallsyms_ret = kallsyms->num_symbols > 0 ? take_ptr(kallsyms) : NULL;
    return NULL;
}

void kallsyms_destroy(struct kallsyms *kallsyms)
{
    if (!kallsyms)
        return;
    if (kallsyms->fd >= 0)
        close(kallsyms->fd);
    free(kallsyms->chunk);
    free(kallsyms->symbols);
    free(kallsyms->modules);
    arena_deinit(&kallsyms->arena);
    free(kallsyms);
}

/* Reads as far as it takes to know what is at `pc`: over it in the first part of the file, or all.
 * Running out of memory ends the file there. */
static void read_over(struct kallsyms *kallsyms, uint64_t pc)
{
    while (!kallsyms->is_complete &&
           !(kallsyms->is_sorted && kallsyms->last_module == VMLINUX && kallsyms->last_pc > pc)) {
        struct error *err = read_chunk(kallsyms);

        if (err) {
            error_destroy(err);
            complete(kallsyms);
        }
    }
}

static bool symbol_covers(const struct kallsyms *kallsyms, size_t at, uint64_t pc)
{
    const struct kernel_symbol *symbol = &kallsyms->symbols[at];

    if (!symbol->is_text)
        return false;
    if (at + 1 < kallsyms->num_symbols && symbol[1].module == symbol->module)
        return true; /* the caller found pc < symbol[1].pc */
    return pc - symbol->pc < KALLSYMS_MAX_TAIL_BYTES;
}

const char *kallsyms_find(struct kallsyms *kallsyms, uint64_t pc, const char **module_ret)
{
    size_t next;

    read_over(kallsyms, pc);
    next = array_search(kallsyms->num_symbols, at, kallsyms->symbols[at].pc <= pc);
    if (next == 0 || !symbol_covers(kallsyms, next - 1, pc))
        return NULL;
    if (module_ret)
        *module_ret = kallsyms->modules[kallsyms->symbols[next - 1].module];
    return kallsyms->symbols[next - 1].name;
}

/* --- the source ----------------------------------------------------------------------------- */

/* The kernel is asked directly where it answers, else its file is read. */
struct kernel_source {
    struct kernel_names *names; /* NULL: the file */
    struct kallsyms *kallsyms;
};

static void close_kernel(void *state)
{
    struct kernel_source *source = state;

    if (!source)
        return;
    kernel_names_destroy(source->names);
    kallsyms_destroy(source->kallsyms);
    free(source);
}

DEFINE_CLEANUP(close_kernel, void *)

static struct error *open_kernel(const struct symbolize_input *input, void **state_ret)
{
    struct kernel_source *source;
    CLEANUP(close_kernel) void *state = NULL;
    struct error *err;

    *state_ret = NULL;
    if (input->mapping->kind != MAPPING_KERNEL)
        return NULL;
    state = source = calloc(1, sizeof(*source));
    if (!source)
        return &error_no_memory;
    err = kernel_names_open(&source->names);
    if (err) {
        log_debug("%s", err->message);
        error_destroy(err);
        RETURN_IF_ERROR(kallsyms_open("/proc/kallsyms", &source->kallsyms));
    }
    if (source->names || source->kallsyms)
        *state_ret = take_ptr(state);
    return NULL;
}

static bool lookup_kernel(void *state, uint64_t pc, struct symbol_frames *frames_ret)
{
    const struct kernel_source *source = state;
    const char *module;
    const char *name = source->names ? kernel_names_find(source->names, pc, &module)
                                     : kallsyms_find(source->kallsyms, pc, &module);

    if (!name)
        return false;
    frames_ret->num_symbols = 1;
    frames_ret->symbols[0] =
        (struct symbol){.name = name, .system_name = name, .filename = module, .is_final = true};
    return true;
}

const struct symbolize_ops symbolize_kallsyms = {
    .name = "kallsyms",
    .open = open_kernel,
    .lookup = lookup_kernel,
    .close = close_kernel,
};
