/* How a range of memory becomes a struct vma: what kind it is, which module and bias it has, which
 * profile mapping stands for it. */
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "target/target_internal.h"

/* The vdso has 2 pages today; more than this is none. */
#define MAX_VDSO_BYTES 65536
/* From a short-lived process to one that its container keeps: shells and build tools between. */
#define MAX_ANCESTORS 6

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Memory that has a file only by way of speech: shared memory, where JITs put code as well.
 * Source: proc(5), memfd_create(2), shmget(2); kernel names of shmem files. */
static bool is_shared_memory(const char *path)
{
    return starts_with(path, "/memfd:") || starts_with(path, "/dev/zero") ||
           starts_with(path, "/SYSV") || starts_with(path, "/anon_hugepage") ||
           starts_with(path, "/dev/shm/");
}

/* Tells the kind from the name alone. MAPPING_FILE may yet turn out to be none. */
static enum mapping_kind range_kind(const struct range *range)
{
    const char *path = range->path;

    if (strcmp(path, "[vdso]") == 0)
        return MAPPING_VDSO;
    if (path[0] == '\0' || strcmp(path, "//anon") == 0 || strcmp(path, "[heap]") == 0 ||
        starts_with(path, "[stack") || starts_with(path, "[anon"))
        return MAPPING_ANON;
    if (path[0] == '[' || range->inode == 0)
        return MAPPING_OTHER;
    return MAPPING_FILE;
}

/* Copies our own vdso (getauxval(3) AT_SYSINFO_EHDR): the same kernel gives every process the same.
 * Its size is where its section headers end, the last thing in it. Returns: bytes copied. */
static size_t own_vdso_copy(uint8_t *image, size_t num_bytes)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
    size_t size;

    if (!header)
        return 0;
    size = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
    size = (size + 4095) & ~(size_t)4095;
    if (size > num_bytes)
        return 0;
    memcpy(image, header, size);
    return size;
}

/* Gets the module of a [vdso]: from the process, else our own. */
static struct error *vdso_module_get(struct target *target, const struct process_row *row,
                                     const struct range *range, struct module **module_ret)
{
    uint8_t image[MAX_VDSO_BYTES];
    size_t size = range->limit - range->start;
    struct iovec local = {image, size};
    struct iovec remote = {(void *)range->start, size};

    if (row->process.has_ended || size > sizeof(image) ||
        process_vm_readv((pid_t)target_row_task(row), &local, 1, &remote, 1, 0) != (ssize_t)size)
        size = own_vdso_copy(image, sizeof(image));
    if (size == 0)
        return NULL;
    return module_table_get_vdso(target->modules, image, size, module_ret);
}

/* A JIT compiler that writes a jitdump maps it executable, which makes an event, as a mark for
 * profilers. Source: Linux tools/perf/Documentation/jitdump-specification.txt. */
static bool is_jit_dump(const char *path)
{
    const char *name = strrchr(path, '/');
    size_t num_digits;

    if (!name || !starts_with(name, "/jit-"))
        return false;
    name += strlen("/jit-");
    num_digits = strspn(name, "0123456789");
    name += num_digits;
    return num_digits > 0 && (strcmp(name, ".dump") == 0 || strcmp(name, ".dump (deleted)") == 0);
}

/* Looks for the file of a process that is gone where its ancestors see it: those of a container
 * live in it as a rule. request: gets the root. module: changed when it was found. */
static struct error *ancestors_module_get(struct target *target, struct process_row *row,
                                          struct module_request *request, struct module **module)
{
    for (int i = 0; i < MAX_ANCESTORS && row; i++) {
        if (i > 0)
            target_status_read(target, row);
        request->root = row->process.root;
        if (request->root && request->root[0])
            RETURN_IF_ERROR(module_table_get(target->modules, request, module));
        if ((*module)->fd >= 0 || row->parent_pid == 0)
            return NULL;
        row = target_row_find(target, row->parent_pid);
    }
    return NULL;
}

static struct error *file_module_get(struct target *target, struct process_row *row,
                                     const struct range *range, struct module **module_ret)
{
    struct module_request request = {.pid = target_row_task(row),
                                     .start = range->start,
                                     .limit = range->limit,
                                     .dev_major = range->dev_major,
                                     .dev_minor = range->dev_minor,
                                     .inode = range->inode,
                                     .path = range->path};
    size_t num_before = module_table_count(target->modules);
    struct module *module = NULL;

    RETURN_IF_ERROR(module_table_get(target->modules, &request, &module));
    if (module->fd < 0 && module_table_count(target->modules) > num_before)
        RETURN_IF_ERROR(ancestors_module_get(target, row, &request, &module));
    if (module_table_count(target->modules) > num_before && !module->elf &&
        !is_shared_memory(range->path) && !is_jit_dump(range->path))
        target->loss.counts[LOSS_UNREADABLE]++;
    *module_ret = module;
    return NULL;
}

/* Fills in what the range means: kind, module, bias. */
static struct error *vma_classify(struct target *target, struct process_row *row,
                                  const struct range *range, struct vma *vma)
{
    vma->kind = range_kind(range);
    if (vma->kind == MAPPING_VDSO)
        RETURN_IF_ERROR(vdso_module_get(target, row, range, &vma->module));
    else if (vma->kind == MAPPING_FILE)
        RETURN_IF_ERROR(file_module_get(target, row, range, &vma->module));
    if (vma->kind == MAPPING_FILE && vma->module->fd >= 0 && !vma->module->elf) {
        vma->kind = is_shared_memory(range->path) ? MAPPING_ANON : MAPPING_OTHER;
        if (is_jit_dump(range->path))
            row->process.jit_dump = vma->module;
        vma->module = NULL;
    }
    if (vma->kind == MAPPING_VDSO && !vma->module)
        vma->kind = MAPPING_OTHER;
    if (vma->module && vma->module->elf)
        vma->has_bias =
            module_mapping_bias(vma->module, vma->start, vma->limit, vma->file_off, &vma->bias);
    return NULL;
}

static bool means_the_same(const struct vma *one, const struct vma *other)
{
    return one->kind == other->kind && one->module == other->module &&
           one->has_bias == other->has_bias && (!one->has_bias || one->bias == other->bias);
}

/* An anonymous range that lies in the middle of a file's text: the program has copied its text to
 * huge pages (node --use-largepages) and it is that file still. Looks at both neighbours, whether
 * the range was cut out of one mapping or fills the gap between two. Source: unwinding.md 7. */
static const struct vma *hole_owner(const struct maps *maps, const struct vma *vma)
{
    const struct vma *before = vma->start > 0 ? maps_find(maps, vma->start - 1) : NULL;
    const struct vma *after = maps_find(maps, vma->limit);

    if (!before || !after || before->kind != MAPPING_FILE || !before->has_bias ||
        !means_the_same(before, after))
        return NULL;
    return before;
}

/* Tells how far from `start` on `maps` says the same as `vma` already. Returns: the first address
 * in [start, vma->limit] where it does not. */
static uint64_t known_until(const struct maps *maps, const struct vma *vma, uint64_t start)
{
    while (start < vma->limit) {
        const struct vma *known = maps_find(maps, start);

        if (!known || !means_the_same(known, vma))
            break;
        start = known->limit;
    }
    return start < vma->limit ? start : vma->limit;
}

/* Finds or adds the profile mapping of a range. mapping_ret: its id. */
static struct error *mapping_add(struct target *target, const struct process_row *row,
                                 const struct range *range, const struct vma *vma,
                                 uint32_t *mapping_ret)
{
    bool is_shared = vma->kind == MAPPING_FILE || vma->kind == MAPPING_VDSO;
    struct mapping mapping = {.start = vma->start,
                              .limit = vma->limit,
                              .file_off = vma->file_off,
                              .kind = vma->kind,
                              .module = vma->module ? vma->module->id : MAPPING_NO_MODULE,
                              .pid = is_shared ? 0 : row->process.pid};
    char build_id[2 * MODULE_MAX_BUILD_ID_BYTES + 1] = "";
    const char *path = vma->module ? vma->module->path : range->path;

    if (vma->kind == MAPPING_ANON && path[0] != '/' && path[0] != '[')
        path = "[anon]";
    if (strcmp(path, "//anon") == 0)
        path = "[anon]";
    if (vma->module)
        module_build_id_text(vma->module, build_id);
    RETURN_IF_ERROR(string_table_add(&target->table->strings, path, &mapping.path));
    RETURN_IF_ERROR(string_table_add(&target->table->strings, build_id, &mapping.build_id));
    return stack_table_add_mapping(target->table, &mapping, mapping_ret);
}

/* Gives a vma its profile mapping and the shift to its addresses. */
static struct error *vma_set_mapping(struct target *target, const struct process_row *row,
                                     const struct range *range, struct vma *vma)
{
    const struct mapping *mapping;

    RETURN_IF_ERROR(mapping_add(target, row, range, vma, &vma->mapping));
    mapping = stack_table_mapping(target->table, vma->mapping);
    if (mapping && vma->module)
        vma->profile_shift = mapping->start - vma->start;
    return NULL;
}

/* Makes the mapping of a main executable the profile's first one, once. */
static void main_settle(struct target *target, struct process_row *row, const struct range *range,
                        const struct vma *vma)
{
    struct mapping *mapping = stack_table_mapping(target->table, vma->mapping);

    if (vma->kind != MAPPING_FILE || !(row->awaits_main || range->is_main))
        return;
    row->awaits_main = false;
    if (target->has_main || !mapping)
        return;
    mapping->is_main = true;
    target->has_main = true;
}

/* Inserts [start, limit) of what `vma` says; cut out of it when it is not the whole. */
static struct error *vma_insert(struct target *target, struct process_row *row,
                                const struct range *range, struct vma vma)
{
    struct process *process = &row->process;

    if (process->maps->num_vmas >= TARGET_MAX_VMAS)
        return NULL;
    RETURN_IF_ERROR(maps_unshare(&process->maps));
    RETURN_IF_ERROR(vma_set_mapping(target, row, range, &vma));
    RETURN_IF_ERROR(maps_insert(process->maps, &vma));
    main_settle(target, row, range, &vma);
    return NULL;
}

/* Tells where the gap at `start` ends: where an equal range begins, or at vma->limit. */
static uint64_t gap_limit(const struct maps *maps, const struct vma *vma, uint64_t start)
{
    while (start < vma->limit) {
        const struct vma *next = maps_find_next(maps, start);

        if (!next)
            return vma->limit;
        if (next->start > start)
            start = next->start;
        else if (means_the_same(next, vma))
            return start;
        else
            start = next->limit;
    }
    return vma->limit;
}

/* Anonymous memory: code that a JIT makes executable piece by piece, often the same range again and
 * again, each time telling the range as a whole. What is known keeps its mapping; only gaps are
 * new. */
static struct error *anon_add(struct target *target, struct process_row *row,
                              const struct range *range, const struct vma *vma,
                              bool *has_changed_ret)
{
    struct vma gap = *vma;

    for (;;) {
        gap.start = known_until(row->process.maps, vma, gap.start);
        if (gap.start >= vma->limit)
            return NULL;
        gap.limit = gap_limit(row->process.maps, vma, gap.start);
        RETURN_IF_ERROR(vma_insert(target, row, range, gap));
        *has_changed_ret = true;
        gap.start = gap.limit;
    }
}

/* Adds an anonymous range, which may be text of a file on huge pages. Events don't tell of munmap:
 * the file may be gone from there, and the range be a JIT's; so maps is asked as long as there is
 * one. */
static struct error *anon_or_hole_add(struct target *target, struct process_row *row,
                                      const struct range *range, struct vma *vma,
                                      bool *has_changed_ret)
{
    const struct vma *owner = range->is_exact ? NULL : hole_owner(row->process.maps, vma);

    vma->file_off = 0;
    if (owner) {
        target_reread_maps(target, &row->process);
        if (known_until(row->process.maps, vma, vma->start) >= vma->limit)
            return NULL;
        owner = hole_owner(row->process.maps, vma);
    }
    if (!owner) {
        target_status_read(target, row); /* perf-PID.map goes by the pid inside the namespace */
        return anon_add(target, row, range, vma, has_changed_ret);
    }
    if (known_until(row->process.maps, owner, vma->start) >= vma->limit)
        return NULL;
    vma->file_off = owner->file_off + (vma->start - owner->start);
    vma->kind = owner->kind;
    vma->module = owner->module;
    vma->bias = owner->bias;
    vma->has_bias = true;
    *has_changed_ret = true;
    return vma_insert(target, row, range, *vma);
}

struct error *target_range_add(struct target *target, struct process_row *row,
                               const struct range *range, bool *has_changed_ret)
{
    struct vma vma = {.start = range->start, .limit = range->limit, .file_off = range->file_off};

    if (range->start >= range->limit)
        return NULL;
    RETURN_IF_ERROR(vma_classify(target, row, range, &vma));
    if (vma.kind == MAPPING_ANON)
        return anon_or_hole_add(target, row, range, &vma, has_changed_ret);
    if (known_until(row->process.maps, &vma, vma.start) >= vma.limit) {
        const struct vma *known = maps_find(row->process.maps, vma.start);

        if (known)
            main_settle(target, row, range, known);
        return NULL;
    }
    *has_changed_ret = true;
    return vma_insert(target, row, range, vma);
}
