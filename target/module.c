#include "target/module.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "base/hash_index.h"
#include "target/module_elf.h"
#include "target/module_file.h"
#include "target/roots.h"

#define PAGE_BYTES 4096
/* How often a file that could not be opened is tried again when another process maps it. */
#define MAX_RETRIES 8
/* All processes of one kernel share one vdso; a few more exist under rr or CRIU. */
#define MAX_VDSOS 16

/* Who says so: numbers of different origin must not be compared (btrfs, overlayfs). */
enum key_source {
    KEY_RECORD, /* MMAP2 records and /proc/PID/maps */
    KEY_STAT,   /* stat(2) */
};

/* "This dev and inode is that module"; true as long as somebody keeps the file open. */
struct module_key {
    enum key_source source;
    uint64_t dev, inode;
    uint32_t module;
    int alias_fd; /* keeps the inode of a second copy from being reused; -1: module.fd does */
};

struct module_row {
    struct module module; /* first: a module of ours is its row */
    uint64_t file_bytes;
    unsigned int num_retries;
};

struct module_table {
    struct module_row **rows; /* each on its own: modules are borrowed while the table grows */
    size_t num_rows, rows_capacity;
    struct module_key *keys;
    size_t num_keys, keys_capacity;
    struct hash_index key_index;
    struct hash_index build_id_index; /* modules */
    uint32_t vdsos[MAX_VDSOS];
    size_t num_vdsos;
    struct roots roots;
};

static void module_row_destroy(struct module_row *row)
{
    struct module *module = &row->module;

    if (module->unwind_data && module->unwind_data_destroy)
        module->unwind_data_destroy(module->unwind_data);
    elf_end(module->elf);
    if (module->fd >= 0)
        close(module->fd);
    free(module->image);
    free(module->segments);
    free(module->path);
    free(module->root);
    free(module->debug_path);
    free(row);
}

DEFINE_CLEANUP(module_row_destroy, struct module_row *)

struct error *module_table_create(struct module_table **table_ret)
{
    struct module_table *table = calloc(1, sizeof(*table));

    if (!table)
        return &error_no_memory;
    elf_version(EV_CURRENT); /* elf(3): before any other call of libelf */
    hash_index_init(&table->key_index);
    hash_index_init(&table->build_id_index);
    *table_ret = table;
    return NULL;
}

void module_table_destroy(struct module_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->num_rows; i++)
        module_row_destroy(table->rows[i]);
    for (size_t i = 0; i < table->num_keys; i++)
        if (table->keys[i].alias_fd >= 0)
            close(table->keys[i].alias_fd);
    hash_index_deinit(&table->key_index);
    hash_index_deinit(&table->build_id_index);
    roots_deinit(&table->roots);
    free(table->keys);
    free(table->rows);
    free(table);
}

static uint64_t key_hash(enum key_source source, uint64_t dev, uint64_t inode)
{
    return hash_combine(hash_combine((uint64_t)source, dev), inode);
}

static struct module_key *key_find(struct module_table *table, enum key_source source, uint64_t dev,
                                   uint64_t inode)
{
    struct hash_index_cursor cursor =
        hash_index_first(&table->key_index, key_hash(source, dev, inode));
    uint32_t item;

    while (hash_index_next(&table->key_index, &cursor, &item)) {
        struct module_key *key = &table->keys[item];

        if (key->source == source && key->dev == dev && key->inode == inode)
            return key;
    }
    return NULL;
}

/* Notes that (source, dev, inode) is `module` from now on. */
static struct error *key_set(struct module_table *table, enum key_source source, uint64_t dev,
                             uint64_t inode, uint32_t module)
{
    struct module_key *key = key_find(table, source, dev, inode);

    if (key) {
        key->module = module;
        return NULL;
    }
    RETURN_IF_ERROR(array_reserve(&table->keys, &table->keys_capacity, table->num_keys + 1,
                                  sizeof(*table->keys)));
    RETURN_IF_ERROR(hash_index_insert(&table->key_index, key_hash(source, dev, inode),
                                      (uint32_t)table->num_keys));
    table->keys[table->num_keys++] = (struct module_key){source, dev, inode, module, -1};
    return NULL;
}

static bool segments_equal(const struct module *one, const struct module *other)
{
    if (one->num_segments != other->num_segments)
        return false;
    for (size_t i = 0; i < one->num_segments; i++) {
        const struct module_segment *a = &one->segments[i];
        const struct module_segment *b = &other->segments[i];

        if (a->file_off != b->file_off || a->file_bytes != b->file_bytes ||
            a->elf_addr != b->elf_addr || a->mem_bytes != b->mem_bytes ||
            a->is_executable != b->is_executable)
            return false;
    }
    return true;
}

/* Finds a module that is a copy of `row`: the same build-id, size and segments (a hostile file may
 * carry the build-id of another). Returns: NULL when there is none. */
static struct module *copy_find(const struct module_table *table, const struct module_row *row)
{
    const struct module *module = &row->module;
    struct hash_index_cursor cursor;
    uint32_t item;

    if (module->build_id_bytes == 0)
        return NULL;
    cursor = hash_index_first(&table->build_id_index,
                              hash_bytes(module->build_id, module->build_id_bytes));
    while (hash_index_next(&table->build_id_index, &cursor, &item)) {
        struct module_row *other = table->rows[item];

        if (other->module.build_id_bytes == module->build_id_bytes &&
            memcmp(other->module.build_id, module->build_id, module->build_id_bytes) == 0 &&
            other->file_bytes == row->file_bytes && segments_equal(&other->module, module))
            return &other->module;
    }
    return NULL;
}

/* Appends a finished row, which it consumes on success. */
static struct error *row_append(struct module_table *table, struct module_row *row)
{
    const struct module *module = &row->module;

    RETURN_IF_ERROR(array_reserve(&table->rows, &table->rows_capacity, table->num_rows + 1,
                                  sizeof(struct module_row *)));
    if (module->build_id_bytes > 0)
        RETURN_IF_ERROR(hash_index_insert(&table->build_id_index,
                                          hash_bytes(module->build_id, module->build_id_bytes),
                                          (uint32_t)table->num_rows));
    row->module.id = (uint32_t)table->num_rows;
    table->rows[table->num_rows++] = row;
    return NULL;
}

/* Parses the ELF of a row and opens it with libelf, from its fd or its image. */
static struct error *row_read_elf(struct module_row *row)
{
    struct module *module = &row->module;
    struct elf_bytes bytes = {module->fd, module->image, row->file_bytes};
    bool is_usable;

    RETURN_IF_ERROR(module_elf_parse(&bytes, module, &is_usable));
    if (!is_usable)
        return NULL;
    module->elf = module->image ? elf_memory(module->image, module->image_bytes)
                                : elf_begin(module->fd, ELF_C_READ_MMAP, NULL);
    if (module->elf && elf_kind(module->elf) != ELF_K_ELF) {
        elf_end(module->elf);
        module->elf = NULL;
    }
    return NULL;
}

/* Makes a row of an opened file (or of the failure to open it), taking over what is in `file`. */
static struct error *row_create(struct module_file *file, struct module_row **row_ret)
{
    CLEANUP(module_row_destroy) struct module_row *row = calloc(1, sizeof(*row));

    if (!row)
        return &error_no_memory;
    row->module.path = take_ptr(file->path);
    row->module.root = take_ptr(file->root);
    row->module.is_deleted = file->is_deleted;
    row->module.fd = take_fd(&file->fd);
    if (row->module.fd >= 0) {
        row->module.dev_major = major(file->status.st_dev);
        row->module.dev_minor = minor(file->status.st_dev);
        row->module.inode = file->status.st_ino;
        row->file_bytes = (uint64_t)file->status.st_size;
        RETURN_IF_ERROR(row_read_elf(row));
    }
    *row_ret = take_ptr(row);
    return NULL;
}

/* Adds an opened file to the table, or finds the module that it is a copy of.
 * file: consumed. module_ret: the module; alias_fd_ret: an open copy to keep, or -1. */
static struct error *file_add(struct module_table *table, struct module_file *file,
                              struct module **module_ret, int *alias_fd_ret)
{
    CLEANUP(module_row_destroy) struct module_row *row = NULL;
    struct module *module;

    RETURN_IF_ERROR(row_create(file, &row));
    module = copy_find(table, row);
    if (module) {
        *alias_fd_ret = take_fd(&row->module.fd);
    } else {
        RETURN_IF_ERROR(row_append(table, row));
        module = &take_ptr(row)->module;
        *alias_fd_ret = -1;
    }
    *module_ret = module;
    return NULL;
}

/* As file_add(), but first looks whether this very inode is known, and notes that it is now. */
static struct error *file_find_or_add(struct module_table *table, struct module_file *file,
                                      struct module **module_ret)
{
    uint64_t dev = file->status.st_dev, inode = file->status.st_ino;
    CLEANUP(close) int alias_fd = -1;
    struct module *module = NULL;
    struct module_key *key;

    if (file->fd < 0)
        return file_add(table, file, module_ret, &alias_fd);
    key = key_find(table, KEY_STAT, dev, inode);
    if (key) {
        *module_ret = &table->rows[key->module]->module;
        return NULL;
    }
    RETURN_IF_ERROR(file_add(table, file, &module, &alias_fd));
    RETURN_IF_ERROR(key_set(table, KEY_STAT, dev, inode, module->id));
    key = key_find(table, KEY_STAT, dev, inode);
    if (key)
        key->alias_fd = take_fd(&alias_fd);
    *module_ret = module;
    return NULL;
}

/* Tells whether `path` of a request names what `module` is called. */
static bool path_equals(const struct module *module, const char *path)
{
    size_t length = strlen(module->path);

    return strncmp(module->path, path, length) == 0 &&
           (path[length] == '\0' || strcmp(path + length, " (deleted)") == 0);
}

struct error *module_table_get(struct module_table *table, const struct module_request *request,
                               struct module **module_ret)
{
    CLEANUP(module_file) struct module_file file = {.fd = -1};
    uint64_t dev = makedev(request->dev_major, request->dev_minor);
    struct module_key *key = key_find(table, KEY_RECORD, dev, request->inode);
    struct module_row *known = key ? table->rows[key->module] : NULL;
    struct module *module = NULL;

    if (known && known->module.fd < 0 &&
        (!request->path || !path_equals(&known->module, request->path)))
        known = NULL; /* nobody holds the inode: it may have become another file's */
    if (known && (known->module.fd >= 0 || known->num_retries++ >= MAX_RETRIES)) {
        *module_ret = &known->module;
        return NULL;
    }
    RETURN_IF_ERROR(module_file_open(request, &file));
    if (file.fd < 0 && known) {
        *module_ret = &known->module;
        return NULL;
    }
    if (!file.root[0]) {
        free(file.root);
        file.root = NULL;
        RETURN_IF_ERROR(module_table_root(table, request->pid, &file.root));
    }
    RETURN_IF_ERROR(file_find_or_add(table, &file, &module));
    RETURN_IF_ERROR(key_set(table, KEY_RECORD, dev, request->inode, module->id));
    *module_ret = module;
    return NULL;
}

struct error *module_table_root(struct module_table *table, uint32_t pid, char **path_ret)
{
    const char *path;
    char *copy;

    RETURN_IF_ERROR(roots_get(&table->roots, pid, &path));
    copy = strdup(path);
    if (!copy)
        return &error_no_memory;
    *path_ret = copy;
    return NULL;
}

struct error *module_table_open_path(struct module_table *table, const char *path,
                                     struct module **module_ret)
{
    CLEANUP(module_file) struct module_file file = {.fd = -1};

    RETURN_IF_ERROR(module_file_open_path(path, &file));
    return file_find_or_add(table, &file, module_ret);
}

struct error *module_table_get_vdso(struct module_table *table, const void *image,
                                    size_t image_bytes, struct module **module_ret)
{
    CLEANUP(module_file) struct module_file file = {.fd = -1};
    CLEANUP(module_row_destroy) struct module_row *row = NULL;

    for (size_t i = 0; i < table->num_vdsos; i++) {
        struct module *module = &table->rows[table->vdsos[i]]->module;

        if ((module->image_bytes == image_bytes &&
             memcmp(module->image, image, image_bytes) == 0) ||
            i + 1 == MAX_VDSOS) {
            *module_ret = module;
            return NULL;
        }
    }
    file.path = strdup("[vdso]");
    file.root = strdup("");
    if (!file.path || !file.root)
        return &error_no_memory;
    RETURN_IF_ERROR(row_create(&file, &row));
    row->module.image = malloc(image_bytes + 1);
    if (!row->module.image)
        return &error_no_memory;
    memcpy(row->module.image, image, image_bytes);
    row->module.image_bytes = image_bytes;
    row->file_bytes = image_bytes;
    row->module.is_vdso = true;
    RETURN_IF_ERROR(row_read_elf(row));
    RETURN_IF_ERROR(row_append(table, row));
    table->vdsos[table->num_vdsos++] = row->module.id;
    *module_ret = &take_ptr(row)->module;
    return NULL;
}

struct module *module_table_at(const struct module_table *table, uint32_t id)
{
    return id < table->num_rows ? &table->rows[id]->module : NULL;
}

size_t module_table_count(const struct module_table *table)
{
    return table->num_rows;
}

bool module_code_find(const struct module *module, uint64_t elf_addr, uint64_t *file_off_ret,
                      uint64_t *num_bytes_ret)
{
    for (size_t i = 0; i < module->num_segments; i++) {
        const struct module_segment *segment = &module->segments[i];
        uint64_t offset = elf_addr - segment->elf_addr;

        if (!segment->is_executable || elf_addr < segment->elf_addr ||
            offset >= segment->file_bytes)
            continue;
        *file_off_ret = segment->file_off + offset;
        *num_bytes_ret = segment->file_bytes - offset;
        return true;
    }
    return false;
}

bool module_file_off_to_elf_addr(const struct module *module, uint64_t file_off,
                                 uint64_t *elf_addr_ret)
{
    const struct module_segment *found = NULL;

    for (size_t i = 0; i < module->num_segments; i++) {
        const struct module_segment *segment = &module->segments[i];

        if (file_off < segment->file_off || file_off - segment->file_off >= segment->file_bytes)
            continue;
        if (!found || (segment->is_executable && !found->is_executable))
            found = segment;
    }
    if (!found)
        return false;
    *elf_addr_ret = file_off - found->file_off + found->elf_addr;
    return true;
}

/* Tells how well a segment fits a mapping of `num_bytes` bytes from file_off on; 0: not at all. */
static uint64_t segment_fit(const struct module_segment *segment, uint64_t file_off,
                            uint64_t num_bytes)
{
    uint64_t first = segment->file_off & ~(uint64_t)(PAGE_BYTES - 1);
    uint64_t end = segment->file_off + segment->file_bytes;
    uint64_t limit, low, high;

    if (segment->is_executable && first == file_off)
        return UINT64_MAX;
    if (__builtin_add_overflow(file_off, num_bytes, &limit))
        limit = UINT64_MAX;
    low = segment->file_off > file_off ? segment->file_off : file_off;
    high = end < limit ? end : limit;
    if (low >= high) /* nothing but the rounding of its last page: the worst fit that is one */
        return first < limit && file_off < ((end + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1));
    return high - low + 1;
}

bool module_mapping_bias(const struct module *module, uint64_t start, uint64_t limit,
                         uint64_t file_off, uint64_t *bias_ret)
{
    const struct module_segment *best = NULL;
    uint64_t best_fit = 0;

    for (size_t i = 0; i < module->num_segments; i++) {
        const struct module_segment *segment = &module->segments[i];
        uint64_t fit = segment_fit(segment, file_off, limit - start);
        bool is_better = best && segment->is_executable != best->is_executable
                             ? segment->is_executable
                             : fit > best_fit;

        if (fit > 0 && is_better) {
            best = segment;
            best_fit = fit;
        }
    }
    if (!best)
        return false;
    /* May wrap, as may all sums with it: addresses are numbers modulo 2^64. */
    *bias_ret = start - (file_off - best->file_off + best->elf_addr);
    return true;
}

bool module_can_be_found_again(const struct module *module)
{
    struct stat status;

    return (module->build_id_bytes > 0 || module->go_build_id[0]) && !module->is_vdso &&
           !module->is_deleted && module->fd >= 0 && fstat(module->fd, &status) == 0 &&
           status.st_nlink > 0;
}

void module_build_id_text(const struct module *module, char *text)
{
    static const char digits[] = "0123456789abcdef";

    if (module->build_id_bytes == 0) {
        memcpy(text, module->go_build_id, sizeof(module->go_build_id));
        return;
    }
    for (size_t i = 0; i < module->build_id_bytes; i++) {
        *text++ = digits[module->build_id[i] >> 4];
        *text++ = digits[module->build_id[i] & 15];
    }
    *text = '\0';
}
