/* Fuzzes target_handle_event(): any order of mmap, comm, fork and exit events leaves every address
 * space sorted and without overlap, every range with a mapping, every thread list ascending. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/compiler.h"
#include "target/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

/* Beyond the kernel's largest pid (PID_MAX_LIMIT, 2^22): none of these is a process. */
#define FIRST_PID 0x500000u

static const char *const paths[] = {
    "//anon",        "[vdso]", "/proc/self/exe", "/proc/self/exe", "[uprobes]",
    "/no/such/file", "",       "[heap]",
};

/* One event as eight bytes of the input. */
struct step {
    uint8_t type;
    uint8_t pid;
    uint8_t tid;
    uint8_t start;
    uint8_t pages;
    uint8_t file_page;
    uint8_t path;
    uint8_t flags;
};

static void check_process(void *context, struct process *process)
{
    struct stack_table *table = context;

    for (size_t i = 0; i < process->maps->num_vmas; i++) {
        const struct vma *vma = &process->maps->vmas[i];

        if (vma->start >= vma->limit || (i > 0 && vma[-1].limit > vma->start))
            __builtin_trap();
        if (!stack_table_mapping(table, vma->mapping) || (vma->has_bias && !vma->module))
            __builtin_trap();
    }
    for (size_t i = 1; i < process->num_threads; i++)
        if (process->threads[i - 1].tid >= process->threads[i].tid)
            __builtin_trap();
    if (process->maps->refcount == 0)
        __builtin_trap();
}

/* Makes an event of a step. exe: the file that "/proc/self/exe" stands for. */
static struct event event_of(const struct step *step, const struct stat *exe)
{
    struct event event = {.pid = FIRST_PID + step->pid % 8, .tid = FIRST_PID + step->tid % 16};

    switch (step->type % 5) {
    case 0:
    case 1:
        event.type = EVENT_MMAP;
        event.mmap.start = (uint64_t)step->start << 12;
        event.mmap.limit = event.mmap.start + ((uint64_t)step->pages << 12);
        event.mmap.file_off = (uint64_t)step->file_page << 12;
        event.mmap.path = paths[step->path % ARRAY_LENGTH(paths)];
        event.mmap.prot = PROT_EXEC;
        if (event.mmap.path[0] == '/' && event.mmap.path[1] != '/') {
            event.mmap.dev_major = major(exe->st_dev);
            event.mmap.dev_minor = minor(exe->st_dev);
            event.mmap.inode = event.mmap.path[1] == 'p' ? exe->st_ino : 1;
        }
        break;
    case 2:
        event.type = EVENT_COMM;
        event.comm.comm = step->path % 2 ? "one" : "\377\n";
        event.comm.is_exec = step->flags % 2;
        break;
    case 3:
        event.type = EVENT_FORK;
        event.fork.parent_pid = FIRST_PID + step->flags % 8;
        event.fork.parent_tid = FIRST_PID + step->path % 16;
        break;
    default:
        event.type = EVENT_EXIT;
        break;
    }
    return event;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes)
{
    struct stack_table table = {0};
    struct target *target = NULL;
    struct stat exe;

    if (stat("/proc/self/exe", &exe) != 0 || stack_table_init(&table))
        return 0;
    if (target_create(&table, &target) || target_add_launched(target, FIRST_PID)) {
        target_destroy(target);
        stack_table_deinit(&table);
        return 0;
    }
    for (size_t i = 0; i + sizeof(struct step) <= num_bytes; i += sizeof(struct step)) {
        struct step step;

        memcpy(&step, data + i, sizeof(step));
        struct event event = event_of(&step, &exe);
        if (target_handle_event(target, &event))
            __builtin_trap();
        target_each_process(target, check_process, &table);
    }
    target_destroy(target);
    stack_table_deinit(&table);
    return 0;
}
