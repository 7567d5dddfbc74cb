#include "target/allocator_names.h"

#include <stddef.h>
#include <string.h>

/* Whose a root is; bits of a row. */
enum {
    PLAIN = 1,    /* without a prefix */
    JEMALLOC = 2, /* with one of jemalloc's */
    MIMALLOC = 4,
    TCMALLOC = 8,
    OTHER = 16,
    ALL = PLAIN | JEMALLOC | MIMALLOC | TCMALLOC | OTHER,
};

/* None of them ends a name that another begins: the first that fits is it. */
static const struct {
    const char *prefix;
    uint8_t kind;
} prefixes[] = {
    {"je_", JEMALLOC},    /* jemalloc --with-jemalloc-prefix, its documented example */
    {"_rjem_", JEMALLOC}, /* Rust's jemallocator */
    {"jem_", JEMALLOC},   /* and what others call theirs */
    {"mi_", MIMALLOC},    {"tc_", TCMALLOC}, /* gperftools */
    {"rp", OTHER},                           /* rpmalloc */
    {"sn_", OTHER},                          /* snmalloc */
    {"dl", OTHER},                           /* dlmalloc with USE_DL_PREFIX */
};

_Static_assert(sizeof(prefixes) / sizeof(prefixes[0]) <= ALLOCATOR_MAX_PREFIXES, "prefixes");

struct root {
    const char *name;
    uint8_t role;
    uint8_t kinds;
};

static const struct root roots[] = {
    {"malloc", ALLOCATOR_MALLOC, ALL},
    {"free", ALLOCATOR_FREE, ALL},
    {"calloc", ALLOCATOR_CALLOC, ALL},
    {"realloc", ALLOCATOR_REALLOC, ALL},
    {"memalign", ALLOCATOR_MEMALIGN, ALL},
    {"aligned_alloc", ALLOCATOR_MEMALIGN, ALL},
    {"posix_memalign", ALLOCATOR_POSIX_MEMALIGN, ALL},
    {"reallocarray", ALLOCATOR_REALLOCARRAY, ALL},
    {"reallocf", ALLOCATOR_REALLOC, PLAIN | MIMALLOC},
    {"valloc", ALLOCATOR_MALLOC, ALL},
    {"pvalloc", ALLOCATOR_MALLOC, ALL},
    {"cfree", ALLOCATOR_FREE, ALL},
    {"free_sized", ALLOCATOR_FREE, ALL},
    {"free_aligned_sized", ALLOCATOR_FREE, ALL},

    {"mallocx", ALLOCATOR_MALLOC, PLAIN | JEMALLOC},
    {"rallocx", ALLOCATOR_REALLOC, PLAIN | JEMALLOC},
    {"dallocx", ALLOCATOR_FREE, PLAIN | JEMALLOC},
    {"sdallocx", ALLOCATOR_FREE, PLAIN | JEMALLOC | TCMALLOC},

    {"new", ALLOCATOR_NEW, TCMALLOC | MIMALLOC},
    {"new_nothrow", ALLOCATOR_MALLOC, TCMALLOC | MIMALLOC},
    {"new_aligned", ALLOCATOR_NEW, TCMALLOC | MIMALLOC},
    {"new_aligned_nothrow", ALLOCATOR_MALLOC, TCMALLOC | MIMALLOC},
    {"newarray", ALLOCATOR_NEW, TCMALLOC},
    {"newarray_nothrow", ALLOCATOR_MALLOC, TCMALLOC},
    {"newarray_aligned", ALLOCATOR_NEW, TCMALLOC},
    {"newarray_aligned_nothrow", ALLOCATOR_MALLOC, TCMALLOC},
    {"malloc_skip_new_handler", ALLOCATOR_MALLOC, TCMALLOC},
    {"delete", ALLOCATOR_FREE, TCMALLOC},
    {"delete_sized", ALLOCATOR_FREE, TCMALLOC},
    {"delete_nothrow", ALLOCATOR_FREE, TCMALLOC},
    {"delete_aligned", ALLOCATOR_FREE, TCMALLOC},
    {"delete_sized_aligned", ALLOCATOR_FREE, TCMALLOC},
    {"delete_aligned_nothrow", ALLOCATOR_FREE, TCMALLOC},
    {"deletearray", ALLOCATOR_FREE, TCMALLOC},
    {"deletearray_sized", ALLOCATOR_FREE, TCMALLOC},
    {"deletearray_nothrow", ALLOCATOR_FREE, TCMALLOC},
    {"deletearray_aligned", ALLOCATOR_FREE, TCMALLOC},
    {"deletearray_sized_aligned", ALLOCATOR_FREE, TCMALLOC},
    {"deletearray_aligned_nothrow", ALLOCATOR_FREE, TCMALLOC},

    {"malloc_small", ALLOCATOR_MALLOC, MIMALLOC},
    {"zalloc_small", ALLOCATOR_MALLOC, MIMALLOC},
    {"zalloc", ALLOCATOR_MALLOC, MIMALLOC},
    {"mallocn", ALLOCATOR_CALLOC, MIMALLOC},
    {"reallocn", ALLOCATOR_REALLOCARRAY, MIMALLOC},
    {"rezalloc", ALLOCATOR_REALLOC, MIMALLOC},
    {"recalloc", ALLOCATOR_REALLOCARRAY, MIMALLOC},
    {"malloc_aligned", ALLOCATOR_MALLOC, MIMALLOC},
    {"malloc_aligned_at", ALLOCATOR_MALLOC, MIMALLOC},
    {"zalloc_aligned", ALLOCATOR_MALLOC, MIMALLOC},
    {"zalloc_aligned_at", ALLOCATOR_MALLOC, MIMALLOC},
    {"calloc_aligned", ALLOCATOR_CALLOC, MIMALLOC},
    {"calloc_aligned_at", ALLOCATOR_CALLOC, MIMALLOC},
    {"realloc_aligned", ALLOCATOR_REALLOC, MIMALLOC},
    {"realloc_aligned_at", ALLOCATOR_REALLOC, MIMALLOC},
    {"rezalloc_aligned", ALLOCATOR_REALLOC, MIMALLOC},
    {"rezalloc_aligned_at", ALLOCATOR_REALLOC, MIMALLOC},
    {"recalloc_aligned", ALLOCATOR_REALLOCARRAY, MIMALLOC},
    {"recalloc_aligned_at", ALLOCATOR_REALLOCARRAY, MIMALLOC},
    {"free_size", ALLOCATOR_FREE, MIMALLOC},
    {"free_size_aligned", ALLOCATOR_FREE, MIMALLOC},
    {"free_aligned", ALLOCATOR_FREE, MIMALLOC},
    {"heap_malloc", ALLOCATOR_MEMALIGN, MIMALLOC},
    {"heap_malloc_small", ALLOCATOR_MEMALIGN, MIMALLOC},
    {"heap_zalloc", ALLOCATOR_MEMALIGN, MIMALLOC},
    {"heap_calloc", ALLOCATOR_HEAP_CALLOC, MIMALLOC},
    {"heap_mallocn", ALLOCATOR_HEAP_CALLOC, MIMALLOC},
    {"heap_malloc_aligned", ALLOCATOR_MEMALIGN, MIMALLOC},
    {"heap_malloc_aligned_at", ALLOCATOR_MEMALIGN, MIMALLOC},
    {"heap_zalloc_aligned", ALLOCATOR_MEMALIGN, MIMALLOC},
    {"heap_zalloc_aligned_at", ALLOCATOR_MEMALIGN, MIMALLOC},
    {"heap_calloc_aligned", ALLOCATOR_HEAP_CALLOC, MIMALLOC},
    {"heap_calloc_aligned_at", ALLOCATOR_HEAP_CALLOC, MIMALLOC},
    {"heap_realloc", ALLOCATOR_HEAP_REALLOC, MIMALLOC},
    {"heap_reallocf", ALLOCATOR_HEAP_REALLOC, MIMALLOC},
    {"heap_rezalloc", ALLOCATOR_HEAP_REALLOC, MIMALLOC},
    {"heap_reallocn", ALLOCATOR_HEAP_REALLOCARRAY, MIMALLOC},
    {"heap_recalloc", ALLOCATOR_HEAP_REALLOCARRAY, MIMALLOC},
    {"heap_realloc_aligned", ALLOCATOR_HEAP_REALLOC, MIMALLOC},
    {"heap_realloc_aligned_at", ALLOCATOR_HEAP_REALLOC, MIMALLOC},
    {"heap_rezalloc_aligned", ALLOCATOR_HEAP_REALLOC, MIMALLOC},
    {"heap_rezalloc_aligned_at", ALLOCATOR_HEAP_REALLOC, MIMALLOC},
    {"heap_recalloc_aligned", ALLOCATOR_HEAP_REALLOCARRAY, MIMALLOC},
    {"heap_recalloc_aligned_at", ALLOCATOR_HEAP_REALLOCARRAY, MIMALLOC},
};

/* operator new and delete: w for new, a for the array forms; m: size; St11align_val_t: alignment.
 */
static const struct {
    const char *name;
    uint8_t role;
} operators[] = {
    {"_Znwm", ALLOCATOR_NEW},
    {"_Znam", ALLOCATOR_NEW},
    {"_ZnwmRKSt9nothrow_t", ALLOCATOR_MALLOC},
    {"_ZnamRKSt9nothrow_t", ALLOCATOR_MALLOC},
    {"_ZnwmSt11align_val_t", ALLOCATOR_NEW},
    {"_ZnamSt11align_val_t", ALLOCATOR_NEW},
    {"_ZnwmSt11align_val_tRKSt9nothrow_t", ALLOCATOR_MALLOC},
    {"_ZnamSt11align_val_tRKSt9nothrow_t", ALLOCATOR_MALLOC},
    {"_ZdlPv", ALLOCATOR_FREE},
    {"_ZdaPv", ALLOCATOR_FREE},
    {"_ZdlPvm", ALLOCATOR_FREE},
    {"_ZdaPvm", ALLOCATOR_FREE},
    {"_ZdlPvRKSt9nothrow_t", ALLOCATOR_FREE},
    {"_ZdaPvRKSt9nothrow_t", ALLOCATOR_FREE},
    {"_ZdlPvSt11align_val_t", ALLOCATOR_FREE},
    {"_ZdaPvSt11align_val_t", ALLOCATOR_FREE},
    {"_ZdlPvmSt11align_val_t", ALLOCATOR_FREE},
    {"_ZdaPvmSt11align_val_t", ALLOCATOR_FREE},
    {"_ZdlPvSt11align_val_tRKSt9nothrow_t", ALLOCATOR_FREE},
    {"_ZdaPvSt11align_val_tRKSt9nothrow_t", ALLOCATOR_FREE},
};

static bool operator_find(const char *name, struct allocator_name *name_ret)
{
    for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++) {
        if (strcmp(name, operators[i].name) == 0) {
            *name_ret = (struct allocator_name){.role = operators[i].role, .family = ALLOCATOR_CXX};
            return true;
        }
    }
    return false;
}

static const struct root *root_find(const char *name, uint8_t kind)
{
    for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++)
        if (roots[i].name[0] == name[0] && (roots[i].kinds & kind) &&
            strcmp(name, roots[i].name) == 0)
            return &roots[i];
    return NULL;
}

bool allocator_name_find(const char *name, struct allocator_name *name_ret)
{
    const struct root *root = root_find(name, PLAIN);

    if (root) {
        *name_ret = (struct allocator_name){
            .role = root->role, .family = ALLOCATOR_C, .is_malloc = root == roots};
        return true;
    }
    if (name[0] == '_' && name[1] == 'Z')
        return operator_find(name, name_ret);
    for (uint32_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        size_t length = strlen(prefixes[i].prefix);

        if (strncmp(name, prefixes[i].prefix, length) != 0)
            continue;
        root = root_find(name + length, prefixes[i].kind);
        if (!root)
            return false;
        *name_ret = (struct allocator_name){
            .role = root->role, .family = ALLOCATOR_OWN, .prefix = i, .is_malloc = root == roots};
        return true;
    }
    return false;
}
