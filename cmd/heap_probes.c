#include "cmd/heap_probes.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/procfs.h"
#include "target/needed.h"

void heap_probes_init(struct heap_probes *probes, struct target *target, struct sampler *sampler,
                      bool follows_children)
{
    memset(probes, 0, sizeof(*probes));
    probes->target = target;
    probes->sampler = sampler;
    probes->follows_children = follows_children;
    hash_index_init(&probes->process_index);
}

void heap_probes_deinit(struct heap_probes *probes)
{
    for (size_t i = 0; i < probes->num_processes; i++)
        free(probes->processes[i].parts);
    for (size_t i = 0; i < probes->num_modules; i++)
        allocator_set_deinit(&probes->modules[i].set);
    for (size_t i = 0; i < probes->num_parts; i++)
        heap_sites_deinit(&probes->parts[i].sites);
    for (size_t i = 0; i < probes->num_plans; i++) {
        free(probes->plans[i].modules);
        free(probes->plans[i].parts);
    }
    free(probes->processes);
    free(probes->dirty);
    free(probes->modules);
    free(probes->parts);
    free(probes->plans);
    free(probes->refusal);
    hash_index_deinit(&probes->process_index);
    memset(probes, 0, sizeof(*probes));
}

/* --- processes ------------------------------------------------------------------------------ */

struct heap_process *heap_probes_find(struct heap_probes *probes, uint32_t pid)
{
    struct hash_index_cursor cursor = hash_index_first(&probes->process_index, hash_u64(pid));
    uint32_t item;

    while (hash_index_next(&probes->process_index, &cursor, &item))
        if (probes->processes[item].pid == pid && !probes->processes[item].has_ended)
            return &probes->processes[item];
    return NULL;
}

static struct error *mark_dirty(struct heap_probes *probes, struct heap_process *process)
{
    if (process->is_dirty || probes->has_let_go)
        return NULL;
    RETURN_IF_ERROR(array_reserve(&probes->dirty, &probes->dirty_capacity, probes->num_dirty + 1,
                                  sizeof(*probes->dirty)));
    probes->dirty[probes->num_dirty++] = (uint32_t)(process - probes->processes);
    process->is_dirty = true;
    return NULL;
}

static struct error *add_process(struct heap_probes *probes, uint32_t pid,
                                 struct heap_process **process_ret)
{
    struct heap_process *process = heap_probes_find(probes, pid);

    if (!process) {
        RETURN_IF_ERROR(array_reserve(&probes->processes, &probes->processes_capacity,
                                      probes->num_processes + 1, sizeof(*probes->processes)));
        RETURN_IF_ERROR(hash_index_insert(&probes->process_index, hash_u64(pid),
                                          (uint32_t)probes->num_processes));
        process = &probes->processes[probes->num_processes++];
        *process = (struct heap_process){.pid = pid};
    }
    *process_ret = process;
    return mark_dirty(probes, process);
}

struct error *heap_probes_add_root(struct heap_probes *probes, pid_t pid, uint64_t attach_bytes)
{
    struct heap_process *process;

    RETURN_IF_ERROR(add_process(probes, (uint32_t)pid, &process));
    process->is_root = true;
    process->attach_bytes = attach_bytes;
    return NULL;
}

/* --- plans ---------------------------------------------------------------------------------- */

static struct error *append_id(uint32_t **ids, size_t *num_ids, size_t *capacity, uint32_t id)
{
    RETURN_IF_ERROR(array_reserve(ids, capacity, *num_ids + 1, sizeof(**ids)));
    (*ids)[(*num_ids)++] = id;
    return NULL;
}

static bool has_id(const uint32_t *ids, size_t num_ids, uint32_t id)
{
    for (size_t i = 0; i < num_ids; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Looks for the allocator of a module, once. */
static struct error *know_module(struct heap_probes *probes, uint32_t id)
{
    const struct module *module = module_table_at(target_modules(probes->target), id);
    size_t num_before = probes->num_modules;

    if (id >= num_before) {
        RETURN_IF_ERROR(array_reserve(&probes->modules, &probes->modules_capacity, (size_t)id + 1,
                                      sizeof(*probes->modules)));
        memset(&probes->modules[num_before], 0,
               ((size_t)id + 1 - num_before) * sizeof(*probes->modules));
        probes->num_modules = (size_t)id + 1;
    }
    if (probes->modules[id].is_known)
        return NULL;
    RETURN_IF_ERROR(allocator_find(module, &probes->modules[id].set));
    probes->modules[id].is_known = true;
    return NULL;
}

/* Whether the file of a module is named so: its last part begins with `name`. */
static bool is_named(const struct module *module, const char *name)
{
    const char *slash = strrchr(module->path, '/');

    return strncmp(slash ? slash + 1 : module->path, name, strlen(name)) == 0;
}

/* Notes languages whose memory comes only in part from malloc. */
static void note_language(struct heap_probes *probes, const struct module *module)
{
    Elf_Scn *section = NULL;
    size_t names;

    probes->sees_python |= is_named(module, "python3") || is_named(module, "libpython3");
    if (probes->sees_go || !module->elf || elf_getshdrstrndx(module->elf, &names))
        return;
    while ((section = elf_nextscn(module->elf, section))) {
        const Elf64_Shdr *header = elf64_getshdr(section);
        const char *name = header ? elf_strptr(module->elf, names, header->sh_name) : NULL;

        probes->sees_go |= name && strcmp(name, ".gopclntab") == 0;
    }
}

/* Whether two lists of breakpoints are the same. */
static bool equal_sites(const struct heap_sites *one, const struct heap_sites *other)
{
    if (one->num_sites != other->num_sites)
        return false;
    for (size_t i = 0; i < one->num_sites; i++)
        if (one->sites[i].file_off != other->sites[i].file_off)
            return false;
    return true;
}

/* Finds the part of a module with these functions, or makes it. has_part_ret: false when none of
 * them can be probed. */
static struct error *find_part(struct heap_probes *probes, const struct module *module,
                               const struct allocator_set *chosen, uint32_t *part_ret,
                               bool *has_part_ret)
{
    struct heap_sites sites = {0};
    struct error *err = heap_sites_make(module, chosen, &sites);

    *has_part_ret = false;
    if (err && err->kind != ERROR_NO_MEMORY) {
        log_warning("heap: %s: %s", module->path, err->message);
        error_destroy(err);
        return NULL;
    }
    RETURN_IF_ERROR(err);
    *has_part_ret = sites.num_sites > 0;
    for (size_t i = 0; i < probes->num_parts; i++) {
        if (probes->parts[i].module == module && equal_sites(&probes->parts[i].sites, &sites)) {
            heap_sites_deinit(&sites);
            *part_ret = (uint32_t)i;
            return NULL;
        }
    }
    err = array_reserve(&probes->parts, &probes->parts_capacity, probes->num_parts + 1,
                        sizeof(*probes->parts));
    if (err) {
        heap_sites_deinit(&sites);
        return err;
    }
    *part_ret = (uint32_t)probes->num_parts;
    probes->parts[probes->num_parts++] = (struct heap_part){.module = module, .sites = sites};
    return NULL;
}

/* Works out the parts of a plan from its modules. */
static struct error *choose_parts(struct heap_probes *probes, struct heap_plan *plan,
                                  const struct allocator_candidate *candidates,
                                  struct allocator_set *chosen)
{
    size_t num_functions;
    struct error *err = allocator_choose(candidates, plan->num_modules, chosen, &num_functions);

    for (size_t i = 0; !err && i < plan->num_modules; i++) {
        const struct module *module =
            module_table_at(target_modules(probes->target), plan->modules[i]);
        bool has_part;
        uint32_t part;

        if (!chosen[i].num_functions)
            continue;
        err = find_part(probes, module, &chosen[i], &part, &has_part);
        if (!err && has_part)
            err = append_id(&plan->parts, &plan->num_parts, &plan->parts_capacity, part);
    }
    for (size_t i = 0; i < plan->num_modules; i++)
        allocator_set_deinit(&chosen[i]);
    return err;
}

static struct error *fill_plan(struct heap_probes *probes, struct heap_plan *plan)
{
    CLEANUP(free) struct allocator_candidate *candidates = NULL;
    CLEANUP(free) struct allocator_set *chosen = NULL;

    if (plan->num_modules == 0)
        return NULL;
    candidates = calloc(plan->num_modules, sizeof(*candidates));
    chosen = calloc(plan->num_modules, sizeof(*chosen));
    if (!candidates || !chosen)
        return &error_no_memory;
    for (size_t i = 0; i < plan->num_modules; i++) {
        RETURN_IF_ERROR(know_module(probes, plan->modules[i]));
        note_language(probes, module_table_at(target_modules(probes->target), plan->modules[i]));
    }
    for (size_t i = 0; i < plan->num_modules; i++)
        candidates[i] =
            (struct allocator_candidate){&probes->modules[plan->modules[i]].set, i == 0};
    return choose_parts(probes, plan, candidates, chosen);
}

static bool equal_modules(const struct heap_plan *one, const struct heap_plan *other)
{
    for (size_t i = 0; i < one->num_modules && i < other->num_modules; i++)
        if (one->modules[i] != other->modules[i])
            return false;
    return one->num_modules == other->num_modules;
}

/* Finds what is probed where these modules are mapped. wanted: its modules are taken over. */
static struct error *find_plan(struct heap_probes *probes, struct heap_plan *wanted,
                               const struct heap_plan **plan_ret)
{
    struct error *err;

    for (size_t i = 0; i < probes->num_plans; i++) {
        const struct heap_plan *plan = &probes->plans[i];

        if (equal_modules(plan, wanted)) {
            free(wanted->modules);
            *plan_ret = plan;
            return NULL;
        }
    }
    err = fill_plan(probes, wanted);
    if (!err)
        err = array_reserve(&probes->plans, &probes->plans_capacity, probes->num_plans + 1,
                            sizeof(*probes->plans));
    if (err) {
        free(wanted->modules);
        free(wanted->parts);
        return err;
    }
    probes->plans[probes->num_plans] = *wanted;
    *plan_ret = &probes->plans[probes->num_plans++];
    return NULL;
}

/* Lists the modules of a process in the order in which the dynamic linker searches them, as far as
 * addresses tell: the executable lies lowest, and each library is mapped below the one before. */
static struct error *list_modules(const struct process *process, struct heap_plan *plan)
{
    const struct maps *maps = process->maps;
    size_t first = 0;

    while (first < maps->num_vmas &&
           !(maps->vmas[first].module && maps->vmas[first].kind == MAPPING_FILE))
        first++;
    if (first == maps->num_vmas)
        return NULL;
    RETURN_IF_ERROR(append_id(&plan->modules, &plan->num_modules, &plan->modules_capacity,
                              maps->vmas[first].module->id));
    for (size_t i = maps->num_vmas; i-- > first;) {
        const struct vma *vma = &maps->vmas[i];

        if (vma->module && vma->kind == MAPPING_FILE &&
            !has_id(plan->modules, plan->num_modules, vma->module->id))
            RETURN_IF_ERROR(append_id(&plan->modules, &plan->num_modules, &plan->modules_capacity,
                                      vma->module->id));
    }
    return NULL;
}

/* --- breakpoints ---------------------------------------------------------------------------- */

/* The kernel refused breakpoints in a process, or in a module of it. */
static struct error *note_refusal(struct heap_probes *probes, struct error *err)
{
    CLEANUP(error_destroy) struct error *refusal = err;

    probes->num_refused++;
    log_warning("heap: %s", refusal->message);
    if (probes->refusal)
        return NULL;
    probes->refusal = strdup(refusal->message);
    return probes->refusal ? NULL : &error_no_memory;
}

static struct error *probe_part(struct heap_probes *probes, struct heap_process *process,
                                uint32_t part_id)
{
    struct heap_part *part = &probes->parts[part_id];
    struct error *err;

    if (has_id(process->parts, process->num_parts, part_id) || part->module->fd < 0)
        return NULL;
    err = heap_sampler_probe(probes->sampler, (pid_t)process->pid, part->module->fd,
                             part->sites.sites, part->sites.num_sites);
    if (err && err->kind == ERROR_GONE) { /* its end is told by an event */
        error_destroy(err);
        return NULL;
    }
    if (err && err->kind != ERROR_NO_MEMORY)
        return note_refusal(probes, err);
    RETURN_IF_ERROR(err);
    log_info("heap: probed %zu functions of %s in process %u", part->sites.num_sites,
             part->module->path, process->pid);
    if (process->num_parts == 0 && ++probes->num_alive > probes->most_alive)
        probes->most_alive = probes->num_alive;
    probes->num_probed += !process->was_probed;
    process->was_probed = true;
    part->num_processes++;
    return append_id(&process->parts, &process->num_parts, &process->parts_capacity, part_id);
}

/* Whether the process has breakpoints in a module of the plan, but other ones. */
static bool contradicts(const struct heap_probes *probes, const struct heap_process *process,
                        const struct heap_plan *plan)
{
    for (size_t i = 0; i < plan->num_parts; i++)
        for (size_t j = 0; j < process->num_parts; j++)
            if (plan->parts[i] != process->parts[j] &&
                probes->parts[plan->parts[i]].module == probes->parts[process->parts[j]].module)
                return true;
    return false;
}

/* Sets the breakpoints of a plan. Those that a process has already stay: a library that is loaded
 * later does not change which malloc the others call. */
static struct error *probe_plan(struct heap_probes *probes, struct heap_process *process,
                                const struct heap_plan *plan)
{
    for (size_t i = 0; i < plan->num_parts; i++)
        RETURN_IF_ERROR(probe_part(probes, process, plan->parts[i]));
    return NULL;
}

static struct error *follow_process(struct heap_probes *probes, struct heap_process *process)
{
    const struct process *known = target_find(probes->target, process->pid);
    const struct heap_plan *plan;
    struct heap_plan wanted = {0};
    struct error *err;

    if (!known || known->has_ended || process->has_ended || process->awaits_exec)
        return NULL;
    err = list_modules(known, &wanted);
    if (err) {
        free(wanted.modules);
        return err;
    }
    RETURN_IF_ERROR(find_plan(probes, &wanted, &plan));
    if (process->has_other_program && contradicts(probes, process, plan)) {
        heap_sampler_forget(probes->sampler, (pid_t)process->pid, false);
        process->num_parts = 0;
        probes->num_alive--;
    }
    process->has_other_program &= plan->num_parts == 0;
    return probe_plan(probes, process, plan);
}

struct error *heap_probes_follow(struct heap_probes *probes)
{
    size_t num_dirty = probes->num_dirty;

    probes->num_dirty = 0;
    for (size_t i = 0; i < num_dirty; i++) {
        struct heap_process *process = &probes->processes[probes->dirty[i]];

        process->is_dirty = false;
        if (!probes->has_let_go)
            RETURN_IF_ERROR(follow_process(probes, process));
    }
    return NULL;
}

/* The error for a process or program without an allocator to probe. */
static struct error *missing(const struct heap_probes *probes, const char *whose)
{
    if (!probes->sees_go)
        return allocator_missing(whose);
    return error_create(ERROR_UNSUPPORTED, "--heap-mode growth, or its own net/http/pprof",
                        "%s: a Go program, whose heap is its own: there is no malloc to probe",
                        whose);
}

/* The modules that a program is going to map. */
static struct error *list_needed(struct heap_probes *probes, const struct needed_files *needed,
                                 struct heap_plan *plan)
{
    for (size_t i = 0; i < needed->num_paths; i++) {
        struct module *module;

        RETURN_IF_ERROR(
            module_table_open_path(target_modules(probes->target), needed->paths[i], &module));
        if (!has_id(plan->modules, plan->num_modules, module->id))
            RETURN_IF_ERROR(
                append_id(&plan->modules, &plan->num_modules, &plan->modules_capacity, module->id));
    }
    return NULL;
}

struct error *heap_probes_add_launched(struct heap_probes *probes, pid_t pid, const char *path)
{
    struct needed_files needed = {0};
    const struct heap_plan *plan;
    struct heap_plan wanted = {0};
    struct heap_process *process;
    struct error *err;

    RETURN_IF_ERROR(add_process(probes, (uint32_t)pid, &process));
    process->is_root = true;
    process->awaits_exec = true;
    RETURN_IF_ERROR(needed_files_find(path, &needed));
    err = list_needed(probes, &needed, &wanted);
    if (err)
        free(wanted.modules);
    else
        err = find_plan(probes, &wanted, &plan);
    if (!err && plan->num_parts == 0 && plan->num_modules == 1)
        err = missing(probes, path);
    needed_files_deinit(&needed);
    RETURN_IF_ERROR(err);
    return probe_plan(probes, process, plan);
}

void heap_probes_let_go(struct heap_probes *probes)
{
    if (probes->has_let_go)
        return;
    probes->has_let_go = true;
    heap_sampler_let_go(probes->sampler);
}

/* --- events --------------------------------------------------------------------------------- */

/* Another program runs in the process: what it had is gone. Its breakpoints stay, for what the two
 * programs both map (libc): so nothing is missed until the new one has been looked at. */
static struct error *note_exec(struct heap_probes *probes, struct heap_process *process,
                               uint32_t *drop_ret)
{
    process->awaits_exec = false;
    process->has_other_program = process->num_parts > 0;
    process->attach_bytes = 0;
    process->inherited_bytes = 0;
    *drop_ret = process->pid;
    return mark_dirty(probes, process);
}

/* What the processes that were asked for had in use when they ended is what the user wants to know;
 * others hold nothing any more. */
static void note_end(struct heap_probes *probes, struct heap_process *process, uint32_t *drop_ret)
{
    if (!probes->has_let_go)
        heap_sampler_forget(probes->sampler, (pid_t)process->pid, process->is_root);
    process->has_ended = true;
    probes->num_alive -= process->num_parts > 0;
    if (!process->is_root)
        *drop_ret = process->pid;
}

/* What both have at most is what the child got: either may have grown since, and the parent's end
 * leaves the child's. */
static uint64_t inherited_memory(uint32_t parent, uint32_t child)
{
    struct procfs_memory parent_memory = {0};
    struct procfs_memory memory = {0};

    error_destroy(procfs_memory_read((pid_t)parent, &parent_memory));
    error_destroy(procfs_memory_read((pid_t)child, &memory));
    return parent_memory.anon_bytes && parent_memory.anon_bytes < memory.anon_bytes
               ? parent_memory.anon_bytes
               : memory.anon_bytes;
}

/* A child: its memory is its parent's until it writes to it, and shows there. */
static struct error *note_child(struct heap_probes *probes, const struct event *event)
{
    struct heap_process *process;

    RETURN_IF_ERROR(add_process(probes, event->pid, &process));
    process->inherited_bytes = inherited_memory(event->fork.parent_pid, event->pid);
    return NULL;
}

struct error *heap_probes_note(struct heap_probes *probes, const struct event *event,
                               uint32_t *drop_ret)
{
    struct heap_process *process = heap_probes_find(probes, event->pid);
    const struct process *known;

    *drop_ret = 0;
    switch (event->type) {
    case EVENT_MMAP:
    case EVENT_MAPS:
        return process ? mark_dirty(probes, process) : NULL;
    case EVENT_COMM:
        return process && event->comm.is_exec ? note_exec(probes, process, drop_ret) : NULL;
    case EVENT_FORK:
        if (event->pid == event->fork.parent_pid || !probes->follows_children || process ||
            !heap_probes_find(probes, event->fork.parent_pid))
            return NULL;
        return note_child(probes, event);
    case EVENT_EXIT:
        known = process ? target_find(probes->target, event->pid) : NULL;
        if (known && known->has_ended)
            note_end(probes, process, drop_ret);
        return NULL;
    case EVENT_SAMPLE:
    case EVENT_LOSS:
        break;
    }
    return NULL;
}

/* --- telling -------------------------------------------------------------------------------- */

struct error *heap_probes_missing(const struct heap_probes *probes)
{
    char comm[PROCFS_COMM_BYTES * 4] = "?";
    char name[sizeof(comm) + 64];
    pid_t pid = probes->num_processes ? (pid_t)probes->processes[0].pid : 0;

    if (probes->refusal)
        return error_create(ERROR_UNSUPPORTED, "--heap-mode growth touches nothing", "heap: %s",
                            probes->refusal);
    error_destroy(procfs_comm_read(pid, pid, comm));
    snprintf(name, sizeof(name), "process %d (%s)", (int)pid, comm);
    return missing(probes, name);
}
