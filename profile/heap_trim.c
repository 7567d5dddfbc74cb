#include "profile/heap_trim.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define UNKNOWN UINT32_MAX

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Tells whether the name ends here, or only its parameters follow. */
static bool is_end(const char *text)
{
    return *text == '\0' || *text == '(';
}

static bool has_word(const char *name, const char *const *words, size_t num_words)
{
    for (size_t i = 0; i < num_words; i++) {
        if (starts_with(name, words[i]) && is_end(name + strlen(words[i])))
            return true;
    }
    return false;
}

/* The names of C, with what C libraries put before them. */
static bool is_c_allocator(const char *name)
{
    static const char *const prefixes[] = {"__GI_", "__libc_", "_int_", "_mid_", "__", "dl"};
    static const char *const words[] = {
        "malloc",        "calloc",         "realloc", "reallocarray", "memalign",
        "aligned_alloc", "posix_memalign", "valloc",  "pvalloc",      "malloc_impl",
    };

    for (size_t i = 0; i < ARRAY_LENGTH(prefixes); i++) {
        if (starts_with(name, prefixes[i]))
            name += strlen(prefixes[i]);
    }
    return has_word(name, words, ARRAY_LENGTH(words));
}

/* The functions of allocators that have a prefix of their own: je_malloc, mi_heap_zalloc, tc_new.
 */
static bool is_library_allocator(const char *name)
{
    static const char *const prefixes[] = {"_rjem_je_", "_rjem_", "je_", "mi_", "_mi_", "tc_"};

    if (starts_with(name, "tcmalloc::"))
        return true;
    for (size_t i = 0; i < ARRAY_LENGTH(prefixes); i++) {
        const char *rest = name + strlen(prefixes[i]);

        if (starts_with(name, prefixes[i]))
            return strstr(rest, "alloc") || strstr(rest, "memalign") || starts_with(rest, "new");
    }
    return false;
}

/* Rust's allocation API and what stands behind it; both manglings, old and new paths. */
static bool is_rust_allocator(const char *name)
{
    static const char *const starts[] = {
        "alloc::alloc::",
        "<alloc::alloc::Global",
        "std::alloc::System",
        "<std::alloc::System",
        "std::sys::alloc::",
        "<std::sys::alloc::",
        "__rust_alloc",
        "__rust_realloc",
        "__rg_alloc",
        "__rg_realloc",
        "__rdl_alloc",
        "__rdl_realloc",
        "core::alloc::global::GlobalAlloc::",
    };

    if (starts_with(name, "__rustc::"))
        name += strlen("__rustc::");
    for (size_t i = 0; i < ARRAY_LENGTH(starts); i++) {
        if (starts_with(name, starts[i]))
            return true;
    }
    return name[0] == '<' && (strstr(name, " as core::alloc::global::GlobalAlloc>::") ||
                              strstr(name, " as core::alloc::GlobalAlloc>::"));
}

bool heap_is_allocator(const char *name)
{
    static const char *const operators[] = {"operator new", "operator new[]"};

    return has_word(name, operators, ARRAY_LENGTH(operators)) || is_c_allocator(name) ||
           is_library_allocator(name) || is_rust_allocator(name);
}

/* Tells whether it only moves or fills bytes for its caller: glibc's have a suffix for each CPU. */
static bool fills_memory(const char *name)
{
    static const char *const starts[] = {"memset",   "memcpy",   "memmove",   "mempcpy",
                                         "__memset", "__memcpy", "__memmove", "__mempcpy"};

    for (size_t i = 0; i < ARRAY_LENGTH(starts); i++) {
        const char *rest = name + strlen(starts[i]);

        if (starts_with(name, starts[i]) && (is_end(rest) || *rest == '_'))
            return true;
    }
    return false;
}

/* One run over a profile's stacks. */
struct trimmer {
    struct stack_table *table;
    bool is_growth;      /* the allocator was at work: see heap_trim_growth() */
    uint32_t *num_alloc; /* for each location: how many of its lines, the innermost, go with the
                          * outermost one of an allocator */
    uint32_t *num_fill;  /* the same of memset and its like */
    uint32_t *stack_map; /* new stack of each; UNKNOWN: not needed so far */
};

/* What goes from a stack: whole locations from the leaf on, then lines of the next one. */
struct cut {
    uint32_t num_locations;
    uint32_t num_lines;
};

/* Tells how many lines go with the outermost one whose function is marked. */
static uint32_t count_lines(const struct stack_table *table, const struct location *location,
                            const bool *is_marked)
{
    for (uint32_t i = location->num_lines; i > 0; i--) {
        uint32_t function = table->lines[location->first_line + i - 1].function;

        if (function < table->num_functions && is_marked[function])
            return i;
    }
    return 0;
}

/* Counts the lines that go of each location. is_wanted: which functions are looked for. */
static struct error *mark_locations(const struct stack_table *table,
                                    bool (*is_wanted)(const char *name), uint32_t **counts_ret)
{
    CLEANUP(free) bool *is_marked = calloc(table->num_functions + 1, sizeof(*is_marked));
    uint32_t *counts = calloc(table->num_locations + 1, sizeof(*counts));

    *counts_ret = counts;
    if (!is_marked || !counts)
        return &error_no_memory;
    for (size_t i = 0; i < table->num_functions; i++)
        is_marked[i] = is_wanted(string_table_get(&table->strings, table->functions[i].name));
    for (size_t i = 0; i < table->num_locations; i++)
        counts[i] = count_lines(table, &table->locations[i], is_marked);
    return NULL;
}

static struct error *trimmer_init(struct trimmer *trimmer)
{
    const struct stack_table *table = trimmer->table;

    RETURN_IF_ERROR(mark_locations(table, heap_is_allocator, &trimmer->num_alloc));
    if (trimmer->is_growth)
        RETURN_IF_ERROR(mark_locations(table, fills_memory, &trimmer->num_fill));
    trimmer->stack_map = calloc(table->num_stacks + 1, sizeof(*trimmer->stack_map));
    if (!trimmer->stack_map)
        return &error_no_memory;
    for (size_t i = 0; i < table->num_stacks; i++)
        trimmer->stack_map[i] = UNKNOWN;
    return NULL;
}

/* Cuts as long as locations are marked as a whole; of the next one its marked lines. */
static struct cut cut_leading(const struct stack_table *table, const struct stack *stack,
                              const uint32_t *counts)
{
    const uint32_t *ids = table->stack_locations + stack->first;
    struct cut cut = {0};

    while (cut.num_locations < stack->num_locations) {
        uint32_t id = ids[cut.num_locations];

        cut.num_lines = counts[id];
        if (counts[id] == 0 || counts[id] < table->locations[id].num_lines)
            break;
        cut.num_locations++;
        cut.num_lines = 0;
    }
    return cut;
}

/* Cuts all that is leafward of the outermost marked line, with it. */
static struct cut cut_outermost(const struct stack_table *table, const struct stack *stack,
                                const uint32_t *counts)
{
    const uint32_t *ids = table->stack_locations + stack->first;

    for (uint32_t i = stack->num_locations; i > 0; i--) {
        uint32_t id = ids[i - 1];

        if (counts[id] > 0 && counts[id] == table->locations[id].num_lines)
            return (struct cut){.num_locations = i};
        if (counts[id] > 0)
            return (struct cut){.num_locations = i - 1, .num_lines = counts[id]};
    }
    return (struct cut){0};
}

static struct cut choose_cut(const struct trimmer *trimmer, const struct stack *stack)
{
    struct cut cut;

    if (!trimmer->is_growth)
        return cut_leading(trimmer->table, stack, trimmer->num_alloc);
    cut = cut_outermost(trimmer->table, stack, trimmer->num_alloc);
    return cut.num_locations || cut.num_lines
               ? cut
               : cut_leading(trimmer->table, stack, trimmer->num_fill);
}

/* Finds or makes the twin of a location that has only the lines behind the cut. */
static struct error *trim_location(struct stack_table *table, uint32_t id, uint32_t num_cut,
                                   uint32_t *twin_ret)
{
    struct location location = table->locations[id];
    struct frame_key key = location.key;
    uint32_t num_lines = location.num_lines - num_cut;
    CLEANUP(free) struct line *lines = calloc(num_lines, sizeof(*lines));

    if (!lines)
        return &error_no_memory;
    memcpy(lines, table->lines + location.first_line + num_cut, num_lines * sizeof(*lines));
    key.reason = REASON_TRIMMED;
    RETURN_IF_ERROR(stack_table_add_location(table, &key, twin_ret));
    return stack_table_set_lines(table, *twin_ret, lines, num_lines);
}

/* Interns a stack without its first `num_cut` locations. first: what stands in place of the first
 * one that is left. */
static struct error *intern_rest(struct stack_table *table, uint32_t id, uint32_t num_cut,
                                 uint32_t first, uint32_t *stack_ret)
{
    struct stack stack = table->stacks[id];
    uint32_t num_left = stack.num_locations - num_cut;
    CLEANUP(free) uint32_t *locations = calloc(num_left, sizeof(*locations));

    if (!locations)
        return &error_no_memory;
    memcpy(locations, table->stack_locations + stack.first + num_cut,
           num_left * sizeof(*locations));
    locations[0] = first;
    return stack_table_intern_locations(table, locations, num_left, stack_ret);
}

static struct error *trim_stack(const struct trimmer *trimmer, uint32_t id, uint32_t *stack_ret)
{
    struct stack_table *table = trimmer->table;
    const struct stack *stack = &table->stacks[id];
    struct cut cut = choose_cut(trimmer, stack);
    uint32_t first;

    *stack_ret = id;
    if ((cut.num_locations == 0 && cut.num_lines == 0) || cut.num_locations == stack->num_locations)
        return NULL;
    first = table->stack_locations[stack->first + cut.num_locations];
    /* A remark alone says less than the allocator's name. */
    if (table->locations[first].key.mapping == 0 &&
        table->locations[first].key.reason != REASON_NONE)
        return NULL;
    if (cut.num_lines > 0)
        RETURN_IF_ERROR(trim_location(table, first, cut.num_lines, &first));
    return intern_rest(table, id, cut.num_locations, first, stack_ret);
}

static struct error *trim_all(const struct trimmer *trimmer, const struct profile *profile)
{
    for (size_t i = 0; i < profile->num_samples; i++) {
        uint32_t stack = profile->samples[i].stack;

        if (trimmer->stack_map[stack] == UNKNOWN)
            RETURN_IF_ERROR(trim_stack(trimmer, stack, &trimmer->stack_map[stack]));
    }
    return NULL;
}

static struct error *trim(struct profile *profile, bool is_growth)
{
    struct trimmer trimmer = {.table = profile->table, .is_growth = is_growth};
    struct error *err = trimmer_init(&trimmer);

    if (!err)
        err = trim_all(&trimmer, profile);
    if (!err)
        err = profile_replace_stacks(profile, trimmer.stack_map);
    free(trimmer.num_alloc);
    free(trimmer.num_fill);
    free(trimmer.stack_map);
    return err;
}

struct error *heap_trim_allocator(struct profile *profile)
{
    return trim(profile, false);
}

struct error *heap_trim_growth(struct profile *profile)
{
    return trim(profile, true);
}
