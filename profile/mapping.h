/* A profile mapping: one executable segment of one file as it shows in the profile (pprof Mapping).
 *
 * The same segment of the same file in several processes (or twice in one, V8) is one profile
 * mapping, with the addresses of the first process in which it was seen; target/maps.h shifts every
 * pc there. Anonymous and JIT memory belongs to one process and is never shared. Ids are 1..num; 0
 * means "no mapping". Ownership: rows of struct stack_table. Threads: none.
 */
#ifndef PROFILE_MAPPING_H
#define PROFILE_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

enum mapping_kind {
    MAPPING_FILE,   /* a segment of an ELF file (or memfd) */
    MAPPING_VDSO,   /* [vdso] */
    MAPPING_KERNEL, /* [kernel.kallsyms] */
    MAPPING_ANON,   /* anonymous executable memory: JIT code */
    MAPPING_OTHER,  /* [vsyscall], [uprobes], a file that is no ELF */
};

#define MAPPING_NO_MODULE UINT32_MAX

struct mapping {
    uint64_t start; /* runtime addresses [start, limit) */
    uint64_t limit;
    uint64_t file_off;
    uint32_t path;     /* string id: path as the target sees it, " (deleted)" stripped */
    uint32_t build_id; /* string id: lowercase hex, or Go's own text, "" when there is none */
    uint32_t kind;     /* enum mapping_kind */
    uint32_t module;   /* id in the module table of target/, or MAPPING_NO_MODULE */
    uint32_t pid;      /* process, for MAPPING_ANON and MAPPING_OTHER; 0 for shared kinds */
    bool is_main;      /* main executable of the (first) target: written as mapping[0] */
    bool has_functions;
    bool has_filenames;
    bool has_line_numbers;
    bool has_inline_frames;
};

#endif
