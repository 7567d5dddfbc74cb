#include "target/allocator.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "target/allocator_names.h"

/* Real modules have at most some two hundred names of allocators (mimalloc). */
#define MAX_FUNCTIONS 512
/* Code taken for that of a symbol without a size (hand-written assembly). */
#define SIZELESS_BYTES 256
#define NONE ALLOCATOR_NO_ARGUMENT

const struct allocator_arguments allocator_arguments[ALLOCATOR_NUM_ROLES] = {
    [ALLOCATOR_MALLOC] = {0, NONE, NONE, NONE},
    [ALLOCATOR_NEW] = {0, NONE, NONE, NONE},
    [ALLOCATOR_CALLOC] = {1, 0, NONE, NONE},
    [ALLOCATOR_MEMALIGN] = {1, NONE, NONE, NONE},
    [ALLOCATOR_POSIX_MEMALIGN] = {2, NONE, NONE, 0},
    [ALLOCATOR_REALLOC] = {1, NONE, 0, NONE},
    [ALLOCATOR_REALLOCARRAY] = {2, 1, 0, NONE},
    [ALLOCATOR_HEAP_CALLOC] = {2, 1, NONE, NONE},
    [ALLOCATOR_HEAP_REALLOC] = {2, NONE, 1, NONE},
    [ALLOCATOR_HEAP_REALLOCARRAY] = {3, 2, 1, NONE},
    [ALLOCATOR_CALLOC_MOVED] = {1, 4, NONE, NONE},
    [ALLOCATOR_FREE] = {NONE, NONE, 0, NONE},
};

/* A search through the symbols of one module. */
struct finder {
    const struct module *module;
    struct allocator_set *set;
    uint32_t has_malloc; /* prefixes whose malloc was seen: one bit each */
    bool is_dynamic;     /* this table is .dynsym */
};

/* A name of C is the program's own affair when it is local: static functions named free are not
 * rare. One with a prefix is what it says, and is often hidden by the linker. */
static bool binding_fits(const GElf_Sym *symbol, enum allocator_family family)
{
    unsigned binding = GELF_ST_BIND(symbol->st_info);

    return family == ALLOCATOR_OWN || binding == STB_GLOBAL || binding == STB_WEAK ||
           binding == STB_GNU_UNIQUE;
}

static bool set_has(const struct allocator_set *set, const char *name, uint64_t elf_addr)
{
    for (size_t i = 0; i < set->num_functions; i++)
        if (set->functions[i].elf_addr == elf_addr && strcmp(set->functions[i].name, name) == 0)
            return true;
    return false;
}

static struct error *function_add(struct finder *finder, const GElf_Sym *symbol,
                                  const char *symbol_name, const struct allocator_name *name)
{
    struct allocator_set *set = finder->set;
    struct allocator_function function = {
        .role = name->role, .family = name->family, .elf_addr = symbol->st_value};
    uint64_t room;

    if (!binding_fits(symbol, name->family) || set->num_functions >= MAX_FUNCTIONS ||
        set_has(set, symbol_name, symbol->st_value) ||
        !module_code_find(finder->module, symbol->st_value, &function.file_off, &room))
        return NULL;
    if (GELF_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC) {
        set->num_ifuncs++;
        return NULL;
    }
    if (name->is_malloc && name->family == ALLOCATOR_OWN)
        finder->has_malloc |= 1u << name->prefix;
    function.num_bytes = symbol->st_size > 0 ? symbol->st_size : SIZELESS_BYTES;
    if (function.num_bytes > room)
        function.num_bytes = room;
    memcpy(function.name, symbol_name, strnlen(symbol_name, sizeof(function.name) - 1));
    RETURN_IF_ERROR(array_reserve(&set->functions, &set->capacity, set->num_functions + 1,
                                  sizeof(*set->functions)));
    set->functions[set->num_functions++] = function;
    return NULL;
}

/* Symbols by which the C library and the dynamic linker are known, whatever their files are called.
 * Source: LSB "__libc_start_main"; gdb's rendezvous with the dynamic linker (_r_debug). */
static void marker_look(struct finder *finder, const char *name)
{
    if (!finder->is_dynamic || name[0] != '_')
        return;
    if (strcmp(name, "__libc_start_main") == 0)
        finder->set->is_libc = true;
    else if (strcmp(name, "_r_debug") == 0)
        finder->set->is_loader = true;
}

static struct error *symbol_look(struct finder *finder, const GElf_Sym *symbol, const char *name)
{
    unsigned type = GELF_ST_TYPE(symbol->st_info);
    struct allocator_name known;

    if (symbol->st_shndx == SHN_UNDEF || symbol->st_shndx == SHN_ABS)
        return NULL;
    marker_look(finder, name);
    if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE)
        return NULL;
    if (!strchr("_acdfjmprstv", name[0]) || !allocator_name_find(name, &known))
        return NULL;
    return function_add(finder, symbol, name, &known);
}

/* Reads one symbol table. Its names must end in a NUL somewhere: what is behind the last counts
 * not. */
static struct error *table_read(struct finder *finder, Elf_Scn *section, const GElf_Shdr *header)
{
    Elf_Scn *names_section = elf_getscn(finder->module->elf, header->sh_link);
    Elf_Data *data = elf_getdata(section, NULL);
    Elf_Data *names = names_section ? elf_getdata(names_section, NULL) : NULL;
    const char *bytes, *end;
    size_t num;

    if (!data || !data->d_buf || data->d_type != ELF_T_SYM || !names || !names->d_buf)
        return NULL;
    bytes = names->d_buf;
    end = memrchr(bytes, '\0', names->d_size);
    num = data->d_size / sizeof(Elf64_Sym);
    for (size_t i = 1; end && i < num && i <= INT32_MAX; i++) {
        GElf_Sym symbol;

        if (gelf_getsym(data, (int)i, &symbol) && symbol.st_name < (size_t)(end - bytes))
            RETURN_IF_ERROR(symbol_look(finder, &symbol, bytes + symbol.st_name));
    }
    return NULL;
}

static int function_compare(const void *left, const void *right)
{
    const struct allocator_function *a = left;
    const struct allocator_function *b = right;
    size_t length_a = strlen(a->name), length_b = strlen(b->name);

    if (a->elf_addr != b->elf_addr)
        return a->elf_addr < b->elf_addr ? -1 : 1;
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    if (length_a != length_b)
        return length_a < length_b ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* A family counts when it has its malloc: a lone mi_free may be anything. */
static void drop_strays(struct finder *finder)
{
    struct allocator_set *set = finder->set;
    size_t num = 0;

    for (size_t i = 0; i < set->num_functions; i++) {
        const struct allocator_function *function = &set->functions[i];
        struct allocator_name name;

        if (function->family != ALLOCATOR_OWN ||
            (allocator_name_find(function->name, &name) && finder->has_malloc >> name.prefix & 1))
            set->functions[num++] = *function;
    }
    set->num_functions = num;
}

static struct error *tables_read(struct finder *finder)
{
    Elf_Scn *section = NULL;

    while ((section = elf_nextscn(finder->module->elf, section))) {
        GElf_Shdr header;

        if (!gelf_getshdr(section, &header) ||
            (header.sh_type != SHT_SYMTAB && header.sh_type != SHT_DYNSYM))
            continue;
        finder->is_dynamic = header.sh_type == SHT_DYNSYM;
        RETURN_IF_ERROR(table_read(finder, section, &header));
    }
    return NULL;
}

struct error *allocator_find(const struct module *module, struct allocator_set *set_ret)
{
    struct allocator_set set = {0};
    struct finder finder = {.module = module, .set = &set};
    struct error *err = module->elf && !module->is_vdso ? tables_read(&finder) : NULL;

    if (err) {
        allocator_set_deinit(&set);
        return err;
    }
    set.is_loader = set.is_loader && !set.is_libc;
    drop_strays(&finder);
    if (set.num_functions > 0)
        qsort(set.functions, set.num_functions, sizeof(*set.functions), function_compare);
    *set_ret = set;
    return NULL;
}

void allocator_set_deinit(struct allocator_set *set)
{
    free(set->functions);
    *set = (struct allocator_set){0};
}

static bool set_defines(const struct allocator_set *set, const char *name)
{
    for (size_t i = 0; i < set->num_functions; i++)
        if (set->functions[i].family == ALLOCATOR_C && strcmp(set->functions[i].name, name) == 0)
            return true;
    return false;
}

/* Who comes first; UINT32_MAX: never. */
static uint32_t candidate_rank(const struct allocator_candidate *candidate)
{
    if (candidate->is_main)
        return 0;
    if (candidate->set->is_loader)
        return UINT32_MAX;
    return candidate->set->is_libc ? 2 : 1;
}

/* Finds the candidate whose definition of a C name the process uses; num_candidates: none. */
static size_t definer_find(const struct allocator_candidate *candidates, size_t num_candidates,
                           const char *name)
{
    size_t best = num_candidates;
    uint32_t best_rank = UINT32_MAX;

    for (size_t i = 0; i < num_candidates; i++) {
        uint32_t rank = candidate_rank(&candidates[i]);

        if (rank < best_rank && set_defines(candidates[i].set, name)) {
            best = i;
            best_rank = rank;
        }
    }
    return best;
}

/* Tells whether a definition of a C name is what the process uses. Not so that of glibc's cfree, an
 * alias of its free, where free is another allocator's. */
static bool definition_counts(const struct allocator_candidate *candidates, size_t num_candidates,
                              size_t at, uint64_t elf_addr)
{
    const struct allocator_set *set = candidates[at].set;

    for (size_t i = 0; i < set->num_functions; i++) {
        const struct allocator_function *function = &set->functions[i];

        if (function->elf_addr == elf_addr && function->family == ALLOCATOR_C &&
            definer_find(candidates, num_candidates, function->name) != at)
            return false;
    }
    return true;
}

/* Adds a function that counts; of several names at one address the first in order, which is the
 * plainest, stays. A function that may throw under one name may throw. */
static struct error *chosen_add(struct allocator_set *chosen,
                                const struct allocator_function *function)
{
    struct allocator_function *last =
        chosen->num_functions > 0 ? &chosen->functions[chosen->num_functions - 1] : NULL;

    if (last && last->elf_addr == function->elf_addr) {
        if (last->role == ALLOCATOR_MALLOC && function->role == ALLOCATOR_NEW)
            last->role = ALLOCATOR_NEW;
        return NULL;
    }
    RETURN_IF_ERROR(array_reserve(&chosen->functions, &chosen->capacity, chosen->num_functions + 1,
                                  sizeof(*chosen->functions)));
    chosen->functions[chosen->num_functions++] = *function;
    return NULL;
}

static struct error *candidate_choose(const struct allocator_candidate *candidates,
                                      size_t num_candidates, size_t at, size_t malloc_definer,
                                      struct allocator_set *chosen)
{
    const struct allocator_set *set = candidates[at].set;

    chosen->num_ifuncs = set->num_ifuncs;
    chosen->is_libc = set->is_libc;
    chosen->is_loader = set->is_loader;
    for (size_t i = 0; i < set->num_functions; i++) {
        const struct allocator_function *function = &set->functions[i];
        bool counts = function->family == ALLOCATOR_OWN;

        if (function->family == ALLOCATOR_C)
            counts = definition_counts(candidates, num_candidates, at, function->elf_addr);
        else if (function->family == ALLOCATOR_CXX)
            counts = malloc_definer == at;
        if (counts)
            RETURN_IF_ERROR(chosen_add(chosen, function));
    }
    return NULL;
}

struct error *allocator_choose(const struct allocator_candidate *candidates, size_t num_candidates,
                               struct allocator_set *chosen_ret, size_t *num_ret)
{
    size_t malloc_definer = definer_find(candidates, num_candidates, "malloc");
    struct error *err = NULL;
    size_t num = 0;

    for (size_t i = 0; i < num_candidates; i++)
        chosen_ret[i] = (struct allocator_set){0};
    for (size_t i = 0; i < num_candidates && !err; i++) {
        err = candidate_choose(candidates, num_candidates, i, malloc_definer, &chosen_ret[i]);
        num += chosen_ret[i].num_functions;
    }
    if (err) {
        for (size_t i = 0; i < num_candidates; i++)
            allocator_set_deinit(&chosen_ret[i]);
        return err;
    }
    *num_ret = num;
    return NULL;
}

struct error *allocator_missing(const char *process)
{
    return error_create(ERROR_UNSUPPORTED,
                        "--heap-mode growth needs no symbols; or profile a build that is not "
                        "stripped, or links its C library dynamically",
                        "%s: no function that allocates memory is known by name", process);
}
