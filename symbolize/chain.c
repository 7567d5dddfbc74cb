/* The chain: groups locations by the file (or process) that can name them, asks the sources of each
 * group in order, and writes what they say into the stack table. */
#include <inttypes.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "symbolize/debug_files.h"
#include "symbolize/debug_server.h"
#include "symbolize/name_cache.h"
#include "symbolize/symbolize.h"

#define CHAIN_MAX_SOURCES 4
#define CHAIN_CLOCK_INTERVAL 64 /* look-ups between two looks at the clock */

/* What of the time limit debug info gets, and symbol tables do not: these take milliseconds. */
#define CHAIN_DEBUG_QUARTERS 3

enum group_kind { GROUP_MODULE, GROUP_KERNEL, GROUP_PROCESS };

/* Locations that the same sources can name: one ELF file, the kernel, the JIT code of one process.
 */
struct group {
    enum group_kind kind;
    struct module *module; /* GROUP_MODULE */
    uint32_t pid;          /* GROUP_PROCESS */
    uint32_t mapping;      /* id of the first mapping */
    uint64_t weight;
};

/* One location to be named. */
struct item {
    uint64_t place; /* elf_addr for modules, else the profile pc */
    uint64_t group_weight;
    uint32_t group;
    uint32_t location;
    bool has_place; /* false: the module has no segment there */
    bool has_lines; /* it has some already, which are kept when no better ones are found */
};

struct chain {
    struct stack_table *table;
    struct target *target;
    const struct symbolize_options *options;
    uint64_t deadline_ns;       /* 0 = none */
    uint64_t debug_deadline_ns; /* for debug info, which may take long; 0 = none */
    struct group *groups;
    size_t num_groups, groups_capacity;
    uint32_t *mapping_groups; /* by mapping id; UINT32_MAX = none yet */
    bool *is_in_scope;        /* by mapping id */
    struct item *items;
    size_t num_items, items_capacity;
    struct name_cache names;
    struct debug_server *server; /* NULL = none is asked */
    struct loss loss;
};

/* The sources of the group being worked on. */
struct sources {
    const struct symbolize_ops *const *ops;
    size_t num;
    void *states[CHAIN_MAX_SOURCES];
    bool is_open[CHAIN_MAX_SOURCES]; /* open() was called, whatever came of it */
    bool inlines;
    struct error *err; /* out of memory while opening one */
    struct symbolize_input input;
    struct debug_files *files;
    uint64_t *places; /* of the input */
    struct arena arena;
    bool is_late;       /* the deadline has passed */
    bool is_debug_late; /* that for debug info had passed before any was looked at */
    bool has_unread; /* there is debug info that is not looked at, for want of time or too large */
    bool is_cut;     /* the last look-up got less than the file may tell */
    unsigned num_lookups;
};

/* Go's own table first: it knows all that Go's DWARF knows, without inflating it. */
static const struct symbolize_ops *const module_ops[] = {&symbolize_gopclntab, &symbolize_dwarf,
                                                         &symbolize_elf_symtab, &symbolize_plt};
static const struct symbolize_ops *const kernel_ops[] = {&symbolize_kallsyms};
static const struct symbolize_ops *const process_ops[] = {&symbolize_jit_dump, &symbolize_jit_map};

static void chain_deinit(struct chain *chain)
{
    name_cache_deinit(&chain->names);
    debug_server_close(chain->server);
    free(chain->groups);
    free(chain->mapping_groups);
    free(chain->is_in_scope);
    free(chain->items);
}

static uint64_t location_weight(const struct chain *chain, uint32_t location)
{
    const uint64_t *weights = chain->options->location_weights;

    return weights ? weights[location] : 1;
}

static struct module *mapping_module(const struct chain *chain, const struct mapping *mapping)
{
    return mapping->module == MAPPING_NO_MODULE
               ? NULL
               : module_table_at(target_modules(chain->target), mapping->module);
}

static struct group group_of_mapping(struct chain *chain, uint32_t mapping_id)
{
    const struct mapping *mapping = stack_table_mapping(chain->table, mapping_id);
    struct group group = {.kind = GROUP_PROCESS, .mapping = mapping_id, .pid = mapping->pid};
    struct module *module = mapping_module(chain, mapping);

    if (mapping->kind == MAPPING_KERNEL) {
        group.kind = GROUP_KERNEL;
        group.pid = 0;
        return group;
    }
    if (module && (module->elf || module->image)) {
        group.kind = GROUP_MODULE;
        group.module = module;
        group.pid = 0;
    }
    return group;
}

/* Finds or makes the group of a mapping. */
static struct error *chain_group(struct chain *chain, uint32_t mapping_id, uint32_t *group_ret)
{
    struct group group;
    size_t at;

    if (chain->mapping_groups[mapping_id] != UINT32_MAX) {
        *group_ret = chain->mapping_groups[mapping_id];
        return NULL;
    }
    group = group_of_mapping(chain, mapping_id);
    for (at = 0; at < chain->num_groups; at++) {
        const struct group *other = &chain->groups[at];

        if (other->kind == group.kind && other->module == group.module && other->pid == group.pid)
            break;
    }
    if (at == chain->num_groups) {
        RETURN_IF_ERROR(
            array_reserve(&chain->groups, &chain->groups_capacity, at + 1, sizeof(group)));
        chain->groups[chain->num_groups++] = group;
    }
    chain->mapping_groups[mapping_id] = (uint32_t)at;
    *group_ret = (uint32_t)at;
    return NULL;
}

/* Tells whether the places of a mapping are to be named; see enum symbolize_scope. */
static bool mapping_is_in_scope(const struct chain *chain, const struct mapping *mapping)
{
    const struct module *module = mapping_module(chain, mapping);

    switch (chain->options->scope) {
    case SYMBOLIZE_HERE:
        return !module || !module_can_be_found_again(module);
    case SYMBOLIZE_FILES:
        return module != NULL;
    default:
        return true;
    }
}

/* Tells whether a function is what a place without a name got from us: a text with an offset. */
static bool function_is_synthetic(const struct stack_table *table, const struct function *function)
{
    const char *name = string_table_get(&table->strings, function->name);
    const char *offset = strrchr(name, '+');

    if (function->system_name || function->filename || !offset || strncmp(offset, "+0x", 3) != 0)
        return false;
    return offset[3] && offset[3 + strspn(offset + 3, "0123456789abcdef")] == '\0';
}

bool location_needs_name(const struct stack_table *table, const struct location *location)
{
    if (location->num_lines != 1)
        return location->num_lines == 0;
    return function_is_synthetic(table,
                                 &table->functions[table->lines[location->first_line].function]);
}

static struct error *chain_add_item(struct chain *chain, uint32_t location)
{
    const struct frame_key *key = &chain->table->locations[location].key;
    const struct mapping *mapping = stack_table_mapping(chain->table, key->mapping);
    struct item item = {.place = key->pc,
                        .location = location,
                        .has_place = true,
                        .has_lines = chain->table->locations[location].num_lines > 0};
    struct group *group;

    RETURN_IF_ERROR(chain_group(chain, key->mapping, &item.group));
    RETURN_IF_ERROR(array_reserve(&chain->items, &chain->items_capacity, chain->num_items + 1,
                                  sizeof(*chain->items)));
    group = &chain->groups[item.group];
    group->weight += location_weight(chain, location);
    if (group->kind == GROUP_MODULE)
        item.has_place = mapping_elf_addr(mapping, group->module, key->pc, &item.place);
    chain->items[chain->num_items++] = item;
    return NULL;
}

/* Gives a location one line with a function of that name and nothing else. */
static struct error *set_plain_name(struct chain *chain, uint32_t location, const char *name)
{
    struct function function = {0};
    struct line line = {0};

    RETURN_IF_ERROR(string_table_add(&chain->table->strings, name, &function.name));
    RETURN_IF_ERROR(stack_table_add_function(chain->table, &function, &line.function));
    return stack_table_set_lines(chain->table, location, &line, 1);
}

/* Puts one location on the list of those to be named, or names it right away. */
static struct error *chain_collect_location(struct chain *chain, uint32_t location)
{
    struct stack_table *table = chain->table;
    const struct frame_key *key = &table->locations[location].key;
    const struct mapping *mapping = stack_table_mapping(table, key->mapping);
    char name[40];

    if (mapping && key->reason == REASON_NONE)
        return chain->is_in_scope[key->mapping] ? chain_add_item(chain, location) : NULL;
    if (table->locations[location].num_lines > 0 || chain->options->scope == SYMBOLIZE_FILES)
        return NULL;
    if (key->reason != REASON_NONE)
        return set_plain_name(chain, location, frame_reason_name(key->reason));
    snprintf(name, sizeof(name), "[unknown]+0x%" PRIx64, key->pc);
    return set_plain_name(chain, location, name);
}

static struct error *chain_collect(struct chain *chain)
{
    struct stack_table *table = chain->table;
    size_t capacity = 0;

    RETURN_IF_ERROR(array_reserve(&chain->mapping_groups, &capacity, table->num_mappings + 1,
                                  sizeof(*chain->mapping_groups)));
    memset(chain->mapping_groups, 0xff, (table->num_mappings + 1) * sizeof(*chain->mapping_groups));
    chain->is_in_scope = calloc(table->num_mappings + 1, sizeof(*chain->is_in_scope));
    if (!chain->is_in_scope)
        return &error_no_memory;
    for (uint32_t i = 1; i <= table->num_mappings; i++)
        chain->is_in_scope[i] = mapping_is_in_scope(chain, stack_table_mapping(table, i));
    for (uint32_t i = 0; i < table->num_locations; i++) {
        const struct location *location = &table->locations[i];

        if (chain->options->again || location_needs_name(table, location))
            RETURN_IF_ERROR(chain_collect_location(chain, i));
    }
    for (size_t i = 0; i < chain->num_items; i++)
        chain->items[i].group_weight = chain->groups[chain->items[i].group].weight;
    return NULL;
}

/* The heaviest group first, addresses ascending inside: a time limit cuts the tail, and neighbours
 * share compilation units. */
static int item_compare(const void *left, const void *right)
{
    const struct item *a = left;
    const struct item *b = right;

    if (a->group_weight != b->group_weight)
        return a->group_weight > b->group_weight ? -1 : 1;
    if (a->group != b->group)
        return a->group < b->group ? -1 : 1;
    if (a->place != b->place)
        return a->place < b->place ? -1 : 1;
    return a->location < b->location ? -1 : a->location > b->location;
}

static bool sources_check_time(struct sources *sources, uint64_t deadline_ns)
{
    if (deadline_ns && !sources->is_late && sources->num_lookups++ % CHAIN_CLOCK_INTERVAL == 0)
        sources->is_late = clock_monotonic_ns() >= deadline_ns;
    return sources->is_late;
}

/* Takes an error that concerns one source only: noted, and the chain goes on. */
static struct error *note_error(struct error *err, const char *what)
{
    if (!err || err == &error_no_memory)
        return err;
    log_info("%s: %s", what, err->message);
    error_destroy(err);
    return NULL;
}

/* Lists what the sources of a group will be asked for. items: sorted by item_compare(). */
static struct error *sources_add_places(struct sources *sources, const struct item *items,
                                        size_t num_items)
{
    size_t num = 0;

    sources->places = calloc(num_items, sizeof(*sources->places));
    if (!sources->places)
        return &error_no_memory;
    for (size_t i = 0; i < num_items; i++) {
        if (items[i].has_place && (num == 0 || sources->places[num - 1] < items[i].place))
            sources->places[num++] = items[i].place;
    }
    sources->input.places = sources->places;
    sources->input.num_places = num;
    return NULL;
}

/* Prepares the sources of a group; each is opened when it is first asked. sources: zeroed; to be
 * closed in every case. */
static struct error *sources_open(struct sources *sources, struct chain *chain,
                                  const struct group *group)
{
    arena_init(&sources->arena);
    sources->input = (struct symbolize_input){
        .module = group->module,
        .mapping = stack_table_mapping(chain->table, group->mapping),
        .process = group->kind == GROUP_PROCESS ? target_find(chain->target, group->pid) : NULL,
        .arena = &sources->arena,
        .deadline_ns = chain->debug_deadline_ns,
        .is_cut = &sources->is_cut,
    };
    sources->ops = process_ops;
    sources->num = ARRAY_LENGTH(process_ops);
    if (group->kind == GROUP_KERNEL) {
        sources->ops = kernel_ops;
        sources->num = ARRAY_LENGTH(kernel_ops);
    }
    sources_check_time(sources, chain->deadline_ns);
    if (sources->is_late)
        return NULL;
    sources->is_debug_late =
        chain->debug_deadline_ns && clock_monotonic_ns() >= chain->debug_deadline_ns;
    if (group->kind == GROUP_MODULE) {
        struct error *err =
            debug_files_open(group->module, chain->options->debug_dir, &sources->files);

        if (err)
            chain->loss.counts[LOSS_UNREADABLE]++;
        RETURN_IF_ERROR(note_error(err, group->module->path));
        if (sources->files && chain->server && !sources->is_debug_late)
            debug_files_fetch(sources->files, chain->server);
        sources->ops = module_ops;
        sources->num = sources->files ? ARRAY_LENGTH(module_ops) : 0;
        sources->input.files = sources->files;
    }
    sources->inlines = chain->options->inlines;
    if (sources->files && sources->inlines)
        sources->has_unread =
            sources->files->is_too_large || (sources->files->dwarf && sources->is_debug_late);
    return NULL;
}

static void sources_close(struct sources *sources)
{
    for (size_t i = 0; i < sources->num; i++) {
        if (sources->states[i])
            sources->ops[i]->close(sources->states[i]);
    }
    debug_files_close(sources->files);
    free(sources->places);
    arena_deinit(&sources->arena);
}

static void *sources_state(struct sources *sources, size_t source)
{
    const struct symbolize_ops *ops = sources->ops[source];
    struct error *err;

    if (!sources->is_open[source]) {
        sources->is_open[source] = true;
        if (ops == &symbolize_dwarf && (!sources->inlines || sources->is_debug_late))
            return NULL;
        err = note_error(ops->open(&sources->input, &sources->states[source]), ops->name);
        if (err)
            sources->err = err;
    }
    return sources->states[source];
}

/* Asks one source. Returns: false when it has nothing for this file or does not know the address.
 */
static bool sources_ask(struct sources *sources, size_t source, uint64_t place,
                        struct symbol_frames *frames)
{
    void *state = sources_state(sources, source);

    return state && sources->ops[source]->lookup(state, place, frames);
}

/* DWARF knows lines and inlined functions; how the linker calls the physical function, with its
 * clone suffix, only the symbol table knows. */
static void complete_physical(struct sources *sources, uint64_t place, struct symbol_frames *frames)
{
    struct symbol *physical = &frames->symbols[frames->num_symbols - 1];
    struct symbol_frames found;

    if (physical->is_final)
        return;
    for (size_t i = 0; i < sources->num; i++) {
        if (sources->ops[i] == &symbolize_dwarf || sources->ops[i] == &symbolize_gopclntab)
            continue;
        found.hint = physical->system_name[0] ? physical->system_name : physical->name;
        if (!sources_ask(sources, i, place, &found))
            continue;
        physical->name = found.symbols[found.num_symbols - 1].name;
        physical->system_name = found.symbols[found.num_symbols - 1].system_name;
        return;
    }
}

static bool sources_lookup(struct sources *sources, uint64_t place, struct symbol_frames *frames)
{
    frames->hint = NULL;
    sources->is_cut = false;
    for (size_t i = 0; i < sources->num; i++) {
        sources->is_cut |= sources->has_unread && sources->ops[i] == &symbolize_dwarf;
        if (!sources_ask(sources, i, place, frames) || frames->num_symbols == 0)
            continue;
        if (sources->ops[i] == &symbolize_dwarf)
            complete_physical(sources, place, frames);
        return true;
    }
    return false;
}

static const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

/* The name of what has no name: distinct for each address, so that nothing collapses in a viewer.
 */
static void format_synthetic(struct chain *chain, const struct sources *sources,
                             const struct group *group, const struct item *item, char *text,
                             size_t text_bytes)
{
    const struct frame_key *key = &chain->table->locations[item->location].key;
    const struct mapping *mapping = stack_table_mapping(chain->table, key->mapping);
    const char *path = path_base(string_table_get(&chain->table->strings, mapping->path));
    uint64_t offset = key->pc - mapping->start + mapping->file_off;

    if (group->kind == GROUP_KERNEL && !sources->states[0])
        snprintf(text, text_bytes, "[kernel]");
    else if (group->kind == GROUP_KERNEL)
        snprintf(text, text_bytes, "[kernel]+0x%" PRIx64, key->pc);
    else if (mapping->kind == MAPPING_ANON)
        snprintf(text, text_bytes, "%s+0x%" PRIx64, sources->states[0] ? "[anon]" : "[jit]",
                 key->pc);
    else
        snprintf(text, text_bytes, "%.200s+0x%" PRIx64, path[0] ? path : "[unknown]",
                 group->kind == GROUP_MODULE && item->has_place ? item->place : offset);
}

/* Interns one symbol as a function. */
static struct error *add_symbol(struct chain *chain, const struct sources *sources,
                                const struct symbol *symbol, const char *synthetic,
                                struct line *line_ret)
{
    struct string_table *strings = &chain->table->strings;
    struct function function = {.start_line = symbol->start_line};
    const char *raw = symbol->system_name[0] ? symbol->system_name : symbol->name;
    bool is_go = sources->files && sources->files->is_go;

    if (!symbol->name[0] && !symbol->system_name[0])
        RETURN_IF_ERROR(string_table_add(strings, synthetic, &function.name));
    else if (symbol->is_final || !symbol->system_name[0] || (is_go && raw[0] != '_'))
        RETURN_IF_ERROR(string_table_add(strings, symbol->name, &function.name));
    else
        RETURN_IF_ERROR(name_cache_get(&chain->names, raw, &function.name));
    RETURN_IF_ERROR(string_table_add(strings, symbol->system_name, &function.system_name));
    RETURN_IF_ERROR(string_table_add(strings, symbol->filename, &function.filename));
    line_ret->line = symbol->line;
    return stack_table_add_function(chain->table, &function, &line_ret->function);
}

static void set_mapping_flags(struct mapping *mapping, const struct symbol_frames *frames)
{
    for (size_t i = 0; i < frames->num_symbols; i++) {
        /* The kernel's "file" is but the name of a kernel module. */
        mapping->has_filenames |= frames->symbols[i].filename[0] && mapping->kind != MAPPING_KERNEL;
        mapping->has_line_numbers |= frames->symbols[i].line > 0;
    }
    mapping->has_inline_frames |= frames->num_symbols > 1;
}

/* Leaves nothing but the name of the physical function: what was asked for, whatever the source
 * knows without effort (Go's own table). */
static void keep_name_only(struct symbol_frames *frames)
{
    if (frames->num_symbols == 0)
        return;
    frames->symbols[0] = frames->symbols[frames->num_symbols - 1];
    frames->symbols[0].line = 0;
    frames->num_symbols = 1;
}

/* Tells whether the lines that a place has are better than what a symbol table can tell. */
static bool item_has_better_lines(const struct chain *chain, const struct item *item)
{
    return item->has_lines &&
           !location_needs_name(chain->table, &chain->table->locations[item->location]);
}

static struct error *chain_name_item(struct chain *chain, struct sources *sources,
                                     const struct item *item, struct symbol_frames *frames)
{
    const struct group *group = &chain->groups[item->group];
    uint32_t mapping = chain->table->locations[item->location].key.mapping;
    struct line lines[SYMBOL_MAX_INLINES];
    char synthetic[256];
    bool is_late = sources_check_time(sources, chain->deadline_ns);
    bool is_found;

    is_found = !is_late && item->has_place && sources_lookup(sources, item->place, frames);
    if (sources->err)
        return sources->err;
    if (!is_late && item->has_place && sources->is_cut) {
        chain->loss.counts[LOSS_DEBUG_INFO_TIMEOUT]++;
        if (item_has_better_lines(chain, item))
            return NULL;
    }
    if (!is_found) {
        chain->loss.counts[is_late ? LOSS_SYMBOL_TIMEOUT : LOSS_UNSYMBOLIZED]++;
        if (item->has_lines)
            return NULL;
        format_synthetic(chain, sources, group, item, synthetic, sizeof(synthetic));
        return set_plain_name(chain, item->location, synthetic);
    }
    if (!chain->options->inlines)
        keep_name_only(frames);
    format_synthetic(chain, sources, group, item, synthetic, sizeof(synthetic));
    for (size_t i = 0; i < frames->num_symbols; i++)
        RETURN_IF_ERROR(add_symbol(chain, sources, &frames->symbols[i], synthetic, &lines[i]));
    set_mapping_flags(stack_table_mapping(chain->table, mapping), frames);
    return stack_table_set_lines(chain->table, item->location, lines, frames->num_symbols);
}

/* Names items [first, limit), all of one group. */
static struct error *chain_name_group(struct chain *chain, size_t first, size_t limit)
{
    struct sources sources = {0};
    CLEANUP(free) struct symbol_frames *frames = malloc(sizeof(*frames));
    struct error *err = frames ? NULL : &error_no_memory;

    if (!err)
        err = sources_open(&sources, chain, &chain->groups[chain->items[first].group]);
    if (!err)
        err = sources_add_places(&sources, &chain->items[first], limit - first);
    for (size_t i = first; i < limit && !err; i++)
        err = chain_name_item(chain, &sources, &chain->items[i], frames);
    sources_close(&sources);
    return err;
}

/* Tells whether a location got a function name from a source, or from whoever wrote the profile. */
static bool location_is_named(const struct stack_table *table, const struct location *location)
{
    for (uint32_t i = 0; i < location->num_lines; i++) {
        const struct function *function =
            &table->functions[table->lines[location->first_line + i].function];
        const char *name = string_table_get(&table->strings, function->name);

        if (function->system_name ||
            ((function->filename || name[0] != '[') && !strstr(name, "+0x")))
            return true;
    }
    return false;
}

/* Tells whether a place was left without lines on purpose. */
static bool location_is_left(const struct chain *chain, const struct location *location)
{
    return chain->options->scope == SYMBOLIZE_HERE && location->num_lines == 0;
}

static struct error *count_results(const struct chain *chain, struct symbolize_result *result)
{
    const struct stack_table *table = chain->table;
    CLEANUP(free) uint64_t *unnamed_weights = calloc(table->num_mappings + 1, sizeof(uint64_t));
    CLEANUP(free) uint64_t *num_unnamed = calloc(table->num_mappings + 1, sizeof(uint64_t));

    if (!unnamed_weights || !num_unnamed)
        return &error_no_memory;
    for (size_t i = 0; i < table->num_locations; i++) {
        const struct location *location = &table->locations[i];
        uint64_t weight = location_weight(chain, (uint32_t)i);
        uint32_t mapping = location->key.mapping;

        if (location->key.reason != REASON_NONE || mapping > table->num_mappings)
            continue;
        result->num_locations++;
        result->weight_total += weight;
        if (location_is_left(chain, location)) {
            result->num_left++;
            result->weight_left += weight;
            continue;
        }
        if (location_is_named(table, location)) {
            result->num_named++;
            result->weight_named += weight;
            continue;
        }
        unnamed_weights[mapping] += weight;
        num_unnamed[mapping]++;
    }
    for (uint32_t i = 1; i <= table->num_mappings; i++) {
        if (unnamed_weights[i] > unnamed_weights[result->worst_mapping])
            result->worst_mapping = i;
    }
    result->worst_num_locations = num_unnamed[result->worst_mapping];
    return NULL;
}

static struct error *chain_run(struct chain *chain)
{
    const struct symbolize_options *options = chain->options;

    RETURN_IF_ERROR(name_cache_init(&chain->names, &chain->table->strings));
    if (options->debuginfod)
        RETURN_IF_ERROR(note_error(debug_server_open(options->fetch, options->fetch_context,
                                                     chain->debug_deadline_ns, &chain->server),
                                   "debuginfod"));
    RETURN_IF_ERROR(chain_collect(chain));
    if (chain->num_items > 0)
        qsort(chain->items, chain->num_items, sizeof(*chain->items), item_compare);
    for (size_t first = 0; first < chain->num_items;) {
        size_t limit = first + 1;

        while (limit < chain->num_items && chain->items[limit].group == chain->items[first].group)
            limit++;
        RETURN_IF_ERROR(chain_name_group(chain, first, limit));
        first = limit;
    }
    for (uint32_t i = 1; i <= chain->table->num_mappings; i++)
        if (chain->is_in_scope[i])
            stack_table_mapping(chain->table, i)->has_functions = true;
    return NULL;
}

struct error *symbolize_table(struct stack_table *table, struct target *target,
                              const struct symbolize_options *options,
                              struct symbolize_result *result_ret)
{
    struct chain chain = {.table = table, .target = target, .options = options};
    struct symbolize_result result = {0};
    uint64_t start_ns = clock_monotonic_ns();
    struct error *err;

    if (options->timeout_ns) {
        chain.deadline_ns = start_ns + options->timeout_ns;
        chain.debug_deadline_ns = start_ns + options->timeout_ns / 4 * CHAIN_DEBUG_QUARTERS;
    }
    err = chain_run(&chain);
    if (!err)
        err = count_results(&chain, &result);
    result.loss = chain.loss;
    if (chain.server)
        debug_server_counts(chain.server, &result.fetches);
    chain_deinit(&chain);
    if (err)
        return err;
    result.duration_ns = clock_monotonic_ns() - start_ns;
    *result_ret = result;
    return NULL;
}
