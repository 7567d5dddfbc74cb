/* A module: one ELF file that processes map, identified by build-id (else dev+inode), shared by all
 * processes that map it, opened when first seen and kept open, so that it can be read after the
 * process, or the file's name, is gone.
 *
 * Not a mapping (where it lies in one process: target/maps.h) and not symbols (symbolize/).
 * The file is hostile input; it is read through a SIGBUS-safe mapping (base/sigbus.h).
 * Ownership: the module table owns the modules until it is destroyed; ids are dense.
 * Threads: none. Source: elf(5), gabi, libelf.
 */
#ifndef TARGET_MODULE_H
#define TARGET_MODULE_H

#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define MODULE_MAX_BUILD_ID_BYTES 64
#define GO_BUILD_ID_PART 20   /* digits of a hash */
#define GO_BUILD_ID_LENGTH 83 /* four of them, separated by '/' */

/* One PT_LOAD program header. */
struct module_segment {
    uint64_t file_off;
    uint64_t file_bytes;
    uint64_t elf_addr; /* p_vaddr */
    uint64_t mem_bytes;
    bool is_executable;
};

struct module {
    uint32_t id;
    char *path; /* as the target sees it, without " (deleted)" */
    char *root; /* path of the root directory of the first process that mapped it, valid as long as
                 * the table; "" when it is ours or not known */
    int fd;     /* kept open; -1 when the file could not be opened */
    uint32_t dev_major, dev_minor;
    uint64_t inode;
    uint8_t build_id[MODULE_MAX_BUILD_ID_BYTES];
    size_t build_id_bytes;                    /* 0 = none */
    char go_build_id[GO_BUILD_ID_LENGTH + 1]; /* Go's own, read until GNU's is found; "" = none */
    Elf *elf;    /* kept open; NULL when this is no readable 64-bit x86-64 ELF file */
    void *image; /* private copy of the file for modules without one (vdso); NULL else */
    size_t image_bytes;
    struct module_segment *segments;
    size_t num_segments;
    char *debug_path; /* separate debug file that somebody found for it; NULL = none */
    bool is_deleted;  /* the path names another file by now, or none */
    bool is_vdso;
    void *unwind_data;                       /* unwind/'s cached CFI handles */
    void (*unwind_data_destroy)(void *data); /* called before the Elf is closed */
};

struct module_table;

/* Makes an empty table. table_ret: owned by the caller. Returns: NULL or error_no_memory. */
struct error *module_table_create(struct module_table **table_ret) MUST_CHECK;

/* Closes all modules. NULL is fine. */
void module_table_destroy(struct module_table *table);

/* How to find the file of a mapping. */
struct module_request {
    uint32_t pid;   /* process that maps it; 0 when it is gone or unknown */
    uint64_t start; /* its mapping [start, limit), for /proc/PID/map_files */
    uint64_t limit;
    uint32_t dev_major, dev_minor;
    uint64_t inode;
    const char *path; /* as in maps, " (deleted)" allowed */
    const char *root; /* where the file may be when the process is gone: the root directory of one
                       * related to it; NULL = not known */
};

/* Finds the module of a file mapping, opening it when it is new: by /proc/PID/map_files, then
 * /proc/PID/root + path, then root + path, then path; all but the first only when dev and inode
 * fit (dev may differ on overlay and btrfs: then the inode decides). A file that cannot be
 * opened still gives a module, with fd -1 and elf NULL. module_ret: borrowed from the table.
 * Returns: NULL or error_no_memory. */
struct error *module_table_get(struct module_table *table, const struct module_request *request,
                               struct module **module_ret) MUST_CHECK;

/* Makes (once) the module of the vdso from an ELF image that was read from a process.
 * image: copied. module_ret: borrowed. Returns: NULL or error_no_memory. */
struct error *module_table_get_vdso(struct module_table *table, const void *image,
                                    size_t image_bytes, struct module **module_ret) MUST_CHECK;

/* Opens one ELF file by path for tests, fuzzers and symbolize tools. Same result and ownership as
 * above. */
struct error *module_table_open_path(struct module_table *table, const char *path,
                                     struct module **module_ret) MUST_CHECK;

/* Tells the root directory of a live process, as module.root has it.
 * path_ret: a copy owned by the caller. Returns: NULL or error_no_memory. */
struct error *module_table_root(struct module_table *table, uint32_t pid,
                                char **path_ret) MUST_CHECK;

/* Tells a module by id; NULL when there is none. */
struct module *module_table_at(const struct module_table *table, uint32_t id);

/* Tells how many modules there are; ids are [0, count). */
size_t module_table_count(const struct module_table *table);

/* Finds the code at an address as linked in the file, by the executable PT_LOAD that holds it.
 * file_off_ret: its place. num_bytes_ret: of the segment from there on, not 0. Returns: false when
 * no such segment has bytes there. */
bool module_code_find(const struct module *module, uint64_t elf_addr, uint64_t *file_off_ret,
                      uint64_t *num_bytes_ret);

/* Converts an offset in the file to the address as linked, by the PT_LOAD that holds it (an
 * executable one first). elf_addr_ret: the address. Returns: false when no segment holds it. */
bool module_file_off_to_elf_addr(const struct module *module, uint64_t file_off,
                                 uint64_t *elf_addr_ret);

/* Tells the bias of a mapping: elf_addr = pc - bias for every pc in [start, limit). The segment is
 * the executable PT_LOAD whose first page is at file_off, else the one that shares most bytes with
 * the mapping (an executable one first); page rounding is taken into account: two segments may
 * share a page of the file, and the mapping of the second begins below its p_offset. bias_ret: the
 * bias. Returns: false when no segment is there. Source: unwinding.md 7. */
bool module_mapping_bias(const struct module *module, uint64_t start, uint64_t limit,
                         uint64_t file_off, uint64_t *bias_ret);

/* Tells whether the file can be found again later, and be known for the same: it has a build-id,
 * and a name that leads to it still. Not so a vdso, a memfd, a file deleted or replaced by now. */
bool module_can_be_found_again(const struct module *module);

/* Writes the build-id as profiles have it: GNU's as lowercase hex, else Go's own as
 * `go tool buildid` prints it, else "". text: room for 2 * MODULE_MAX_BUILD_ID_BYTES + 1 bytes. */
void module_build_id_text(const struct module *module, char *text);

/* Tells whether a Go build-id is one that go build has made: hashes of what went into the program.
 * Others are set by hand or by a build system, such as "redacted", and are the same in all
 * programs. text: num_bytes bytes. Source: buildid.go of cmd/go. */
bool go_build_id_is_unique(const char *text, size_t num_bytes);

#endif
