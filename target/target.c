#include "target/target.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/hash.h"
#include "target/module_elf.h"
#include "target/target_internal.h"

/* The upper half of the canonical address space, where all kernel code lies (kernel documentation,
 * x86/x86_64/mm.rst). */
#define KERNEL_START 0xffff800000000000ULL
#define KERNEL_NOTES "/sys/kernel/notes"
#define MAX_KERNEL_NOTES_BYTES 65536

static void process_row_destroy(struct process_row *row)
{
    maps_put(row->process.maps);
    free(row->process.threads);
    free(row->process.root);
    free(row);
}

DEFINE_CLEANUP(process_row_destroy, struct process_row *)

struct error *target_create(struct stack_table *table, struct target **target_ret)
{
    CLEANUP(free) struct target *target = calloc(1, sizeof(*target));

    if (!target)
        return &error_no_memory;
    RETURN_IF_ERROR(module_table_create(&target->modules));
    hash_index_init(&target->pid_index);
    target->table = table;
    *target_ret = take_ptr(target);
    return NULL;
}

void target_destroy(struct target *target)
{
    if (!target)
        return;
    for (size_t i = 0; i < target->num_rows; i++)
        process_row_destroy(target->rows[i]);
    free(target->rows);
    hash_index_deinit(&target->pid_index);
    module_table_destroy(target->modules);
    free(target);
}

struct process_row *target_row_find(struct target *target, uint32_t pid)
{
    struct hash_index_cursor cursor = hash_index_first(&target->pid_index, hash_u64(pid));
    uint32_t item;

    while (hash_index_next(&target->pid_index, &cursor, &item))
        if (target->rows[item]->process.pid == pid)
            return target->rows[item];
    return NULL;
}

struct process *target_find(struct target *target, uint32_t pid)
{
    struct process_row *row = target_row_find(target, pid);

    return row ? &row->process : NULL;
}

/* Gives a row the state of a process of which nothing but the pid is known. */
static struct error *row_clear(struct process_row *row, uint32_t pid)
{
    struct maps *maps = NULL;

    RETURN_IF_ERROR(maps_create(&maps));
    maps_put(row->process.maps);
    free(row->process.threads);
    free(row->process.root);
    *row = (struct process_row){.process = {.pid = pid, .uid = UINT32_MAX, .maps = maps}};
    return NULL;
}

struct error *target_row_reset(struct target *target, uint32_t pid, struct process_row **row_ret)
{
    CLEANUP(process_row_destroy) struct process_row *row = NULL;
    struct process_row *known = target_row_find(target, pid);

    if (known) {
        bool had_ended = known->process.has_ended;

        RETURN_IF_ERROR(row_clear(known, pid));
        if (had_ended)
            target->num_ended--;
        target->num_processes++;
        *row_ret = known;
        return NULL;
    }
    row = calloc(1, sizeof(*row));
    if (!row)
        return &error_no_memory;
    RETURN_IF_ERROR(row_clear(row, pid));
    RETURN_IF_ERROR(array_reserve(&target->rows, &target->rows_capacity, target->num_rows + 1,
                                  sizeof(struct process_row *)));
    RETURN_IF_ERROR(
        hash_index_insert(&target->pid_index, hash_u64(pid), (uint32_t)target->num_rows));
    target->num_processes++;
    *row_ret = row;
    target->rows[target->num_rows++] = take_ptr(row);
    return NULL;
}

/* Forgets the older half of the processes that ended. hash_index has no removal: it is made anew.
 */
static struct error *ended_prune(struct target *target)
{
    size_t num_kept = 0;
    uint64_t oldest_kept = target->last_ended_order - TARGET_MAX_ENDED / 2 + 1;

    for (size_t i = 0; i < target->num_rows; i++) {
        struct process_row *row = target->rows[i];

        if (row->process.has_ended && row->ended_order < oldest_kept) {
            process_row_destroy(row);
            target->num_ended--;
        } else {
            target->rows[num_kept++] = row;
        }
    }
    target->num_rows = num_kept;
    hash_index_clear(&target->pid_index);
    for (size_t i = 0; i < num_kept; i++)
        RETURN_IF_ERROR(hash_index_insert(&target->pid_index,
                                          hash_u64(target->rows[i]->process.pid), (uint32_t)i));
    return NULL;
}

uint32_t target_row_task(const struct process_row *row)
{
    const struct process *process = &row->process;

    if (process->has_ended)
        return 0;
    if (!row->has_leader_ended || process->num_threads == 0)
        return process->pid;
    return process->threads[0].tid;
}

struct error *target_row_end(struct target *target, struct process_row *row)
{
    if (row->process.has_ended)
        return NULL;
    row->process.has_ended = true;
    row->ended_order = ++target->last_ended_order;
    if (++target->num_ended > TARGET_MAX_ENDED)
        return ended_prune(target);
    return NULL;
}

struct error *target_name_add(struct target *target, const char *name, uint32_t *name_ret)
{
    struct string_table *strings = &target->table->strings;

    if (target->max_string_bytes && string_table_bytes(strings) > target->max_string_bytes &&
        !string_table_find(strings, name, name_ret)) {
        target->loss.counts[LOSS_UNLABELED]++;
        name = "[other]";
    }
    return string_table_add(strings, name, name_ret);
}

/* Tells where in the sorted threads `tid` is, or belongs. */
static size_t thread_position(const struct process *process, uint32_t tid)
{
    return array_search(process->num_threads, at, process->threads[at].tid < tid);
}

struct error *target_thread_set(struct target *target, struct process_row *row, uint32_t tid,
                                uint32_t name)
{
    struct process *process = &row->process;
    size_t position = thread_position(process, tid);

    if (tid == process->pid)
        process->comm = name;
    if (position < process->num_threads && process->threads[position].tid == tid) {
        process->threads[position].name = name;
        return NULL;
    }
    RETURN_IF_ERROR(array_reserve(&process->threads, &process->threads_capacity,
                                  process->num_threads + 1, sizeof(*process->threads)));
    memmove(process->threads + position + 1, process->threads + position,
            (process->num_threads - position) * sizeof(*process->threads));
    process->threads[position] = (struct thread_name){tid, name};
    process->num_threads++;
    target->num_threads++;
    return NULL;
}

void target_thread_remove(struct process_row *row, uint32_t tid)
{
    struct process *process = &row->process;
    size_t position = thread_position(process, tid);

    if (position == process->num_threads || process->threads[position].tid != tid)
        return;
    process->num_threads--;
    memmove(process->threads + position, process->threads + position + 1,
            (process->num_threads - position) * sizeof(*process->threads));
}

uint32_t process_thread_name(const struct process *process, uint32_t tid)
{
    size_t position = thread_position(process, tid);

    if (position < process->num_threads && process->threads[position].tid == tid)
        return process->threads[position].name;
    return process->comm;
}

struct error *target_add_launched(struct target *target, pid_t pid)
{
    struct process_row *row;

    RETURN_IF_ERROR(target_row_reset(target, (uint32_t)pid, &row));
    RETURN_IF_ERROR(target_thread_set(target, row, (uint32_t)pid, 0));
    row->awaits_main = true;
    target_status_read(target, row);
    return NULL;
}

void target_limit_names(struct target *target, size_t max_bytes)
{
    target->max_string_bytes = max_bytes;
}

void target_follow_all(struct target *target)
{
    target->follows_all = true;
}

/* Reads the kernel's build-id. hex: as module_build_id_text(); "" when it cannot be read. */
static void kernel_build_id_read(char *hex)
{
    CLEANUP(free) char *notes = NULL;
    struct module kernel = {0};
    size_t num_bytes = 0;

    CLEANUP(error_destroy)
    struct error *err = file_read_all(-1, KERNEL_NOTES, MAX_KERNEL_NOTES_BYTES, &notes, &num_bytes);
    if (!err)
        kernel.build_id_bytes =
            notes_find_build_id((const uint8_t *)notes, num_bytes, 4, kernel.build_id);
    module_build_id_text(&kernel, hex);
}

struct error *target_kernel_mapping(struct target *target, uint32_t *mapping_ret)
{
    struct mapping mapping = {.start = KERNEL_START,
                              .limit = UINT64_MAX,
                              .kind = MAPPING_KERNEL,
                              .module = MAPPING_NO_MODULE};
    char hex[2 * MODULE_MAX_BUILD_ID_BYTES + 1];

    if (target->kernel_mapping == 0) {
        kernel_build_id_read(hex);
        RETURN_IF_ERROR(
            string_table_add(&target->table->strings, "[kernel.kallsyms]", &mapping.path));
        RETURN_IF_ERROR(string_table_add(&target->table->strings, hex, &mapping.build_id));
        RETURN_IF_ERROR(stack_table_add_mapping(target->table, &mapping, &target->kernel_mapping));
    }
    *mapping_ret = target->kernel_mapping;
    return NULL;
}

struct module_table *target_modules(struct target *target)
{
    return target->modules;
}

void target_counts(const struct target *target, size_t *num_processes_ret, size_t *num_threads_ret)
{
    *num_processes_ret = target->num_processes;
    *num_threads_ret = target->num_threads;
}

void target_each_process(struct target *target,
                         void (*visit)(void *context, struct process *process), void *context)
{
    for (size_t i = 0; i < target->num_rows; i++)
        visit(context, &target->rows[i]->process);
}

const struct loss *target_loss(const struct target *target)
{
    return &target->loss;
}
