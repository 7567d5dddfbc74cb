/* What of a profile goes into a pprof file, and under which numbers.
 *
 * A stack table is shared by several profiles and holds more than one of them uses; a pprof file
 * holds what its samples use, with dense ids 1..N (0..N-1 for strings) in the order of the table,
 * valid UTF-8, and never two samples with equal stack and labels. Not the encoding
 * (output/pprof.c). Ownership: the caller's storage; borrows the profile. Threads: none. Source:
 * pprof.md sections 1 and 7.
 */
#ifndef OUTPUT_PPROF_IDS_H
#define OUTPUT_PPROF_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash_index.h"
#include "base/string_table.h"
#include "profile/profile.h"

/* A function as written: string ids are those of the file. */
struct pprof_function {
    uint32_t name;
    uint32_t system_name;
    uint32_t filename;
    int64_t start_line;
};

struct pprof_ids {
    const struct profile *profile; /* borrowed */
    struct string_table strings;   /* the file's strings */
    uint32_t *string_ids;          /* [table strings] id in `strings` + 1; 0: not used (yet) */

    struct profile_sample *samples; /* to write, in this order; label_set is one of `label_sets` */
    size_t num_samples;

    uint32_t *mapping_ids; /* [table mappings] pprof id, 0: not used */
    uint32_t *mappings;    /* [pprof id - 1] table index */
    uint32_t num_mappings;
    bool *mapping_has_lines; /* [table mappings] a location in it has a line */
    uint32_t *location_ids;  /* [table locations] pprof id, 0: not used */
    uint32_t num_locations;
    uint32_t *function_ids; /* [table functions, then one for each reason] pprof id, 0: not used */
    struct pprof_function *functions; /* [pprof id - 1] */
    size_t num_functions, functions_capacity;
    struct hash_index function_index;

    struct label *labels; /* ids are those of the file */
    size_t num_labels, labels_capacity;
    struct label_set *label_sets;
    size_t num_label_sets, label_sets_capacity;
    struct hash_index label_set_index;
};

/* Works out all of the above. Returns: NULL or error_no_memory. */
struct error *pprof_ids_init(struct pprof_ids *ids, const struct profile *profile) MUST_CHECK;

/* Frees it. A zeroed one is fine. */
void pprof_ids_deinit(struct pprof_ids *ids);

/* Tells the file's id of a string of the stack table, adding it when it is new.
 * id_ret: the id. Returns: NULL or error_no_memory. */
struct error *pprof_ids_string(struct pprof_ids *ids, uint32_t table_string,
                               uint32_t *id_ret) MUST_CHECK;

/* Tells the pprof id of a table's function. */
uint32_t pprof_ids_function(const struct pprof_ids *ids, uint32_t table_function);

/* Tells the pprof id of the function that stands for a reason frame without lines. */
uint32_t pprof_ids_reason(const struct pprof_ids *ids, uint32_t reason);

#endif
