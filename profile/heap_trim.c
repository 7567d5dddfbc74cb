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

/* One run over a profile's stacks. */
struct trimmer {
    struct stack_table *table;
    uint32_t *num_cut;    /* for each location: its leading lines that are an allocator's */
    size_t num_locations; /* when num_cut was made */
    uint32_t *stack_map;  /* new stack of each; UNKNOWN: not needed so far */
};

/* Tells how many lines to cut: those up to the outermost one of an allocator. */
static uint32_t count_cut_lines(const struct stack_table *table, const struct location *location,
                                const bool *is_allocator)
{
    for (uint32_t i = location->num_lines; i > 0; i--) {
        uint32_t function = table->lines[location->first_line + i - 1].function;

        if (function < table->num_functions && is_allocator[function])
            return i;
    }
    return 0;
}

static struct error *trimmer_init(struct trimmer *trimmer)
{
    const struct stack_table *table = trimmer->table;
    CLEANUP(free) bool *is_allocator = calloc(table->num_functions + 1, sizeof(*is_allocator));

    trimmer->num_locations = table->num_locations;
    trimmer->num_cut = calloc(table->num_locations + 1, sizeof(*trimmer->num_cut));
    trimmer->stack_map = calloc(table->num_stacks + 1, sizeof(*trimmer->stack_map));
    if (!is_allocator || !trimmer->num_cut || !trimmer->stack_map)
        return &error_no_memory;
    for (size_t i = 0; i < table->num_functions; i++)
        is_allocator[i] =
            heap_is_allocator(string_table_get(&table->strings, table->functions[i].name));
    for (size_t i = 0; i < table->num_locations; i++)
        trimmer->num_cut[i] = count_cut_lines(table, &table->locations[i], is_allocator);
    for (size_t i = 0; i < table->num_stacks; i++)
        trimmer->stack_map[i] = UNKNOWN;
    return NULL;
}

/* Finds or makes the twin of a location that has only the lines behind the cut. */
static struct error *trim_location(const struct trimmer *trimmer, uint32_t id, uint32_t *twin_ret)
{
    struct stack_table *table = trimmer->table;
    struct location location = table->locations[id];
    struct frame_key key = location.key;
    uint32_t num_lines = location.num_lines - trimmer->num_cut[id];
    CLEANUP(free) struct line *lines = calloc(num_lines, sizeof(*lines));

    if (!lines)
        return &error_no_memory;
    memcpy(lines, table->lines + location.first_line + trimmer->num_cut[id],
           num_lines * sizeof(*lines));
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
    const uint32_t *ids = table->stack_locations + stack->first;
    uint32_t num_cut = 0;
    uint32_t first;

    *stack_ret = id;
    while (num_cut < stack->num_locations && trimmer->num_cut[ids[num_cut]] > 0 &&
           trimmer->num_cut[ids[num_cut]] == table->locations[ids[num_cut]].num_lines)
        num_cut++;
    if (num_cut == stack->num_locations)
        return NULL;
    first = ids[num_cut];
    /* A remark alone says less than the allocator's name. */
    if (table->locations[first].key.mapping == 0 &&
        table->locations[first].key.reason != REASON_NONE)
        return NULL;
    if (trimmer->num_cut[first] > 0)
        RETURN_IF_ERROR(trim_location(trimmer, first, &first));
    else if (num_cut == 0)
        return NULL;
    return intern_rest(table, id, num_cut, first, stack_ret);
}

static struct error *trim_all(struct trimmer *trimmer, const struct profile *profile)
{
    for (size_t i = 0; i < profile->num_samples; i++) {
        uint32_t stack = profile->samples[i].stack;

        if (trimmer->stack_map[stack] == UNKNOWN)
            RETURN_IF_ERROR(trim_stack(trimmer, stack, &trimmer->stack_map[stack]));
    }
    return NULL;
}

struct error *heap_trim_allocator(struct profile *profile)
{
    struct trimmer trimmer = {.table = profile->table};
    struct error *err = trimmer_init(&trimmer);

    if (!err)
        err = trim_all(&trimmer, profile);
    if (!err)
        err = profile_replace_stacks(profile, trimmer.stack_map);
    free(trimmer.num_cut);
    free(trimmer.stack_map);
    return err;
}
