/* Processes as events and /proc tell of them. */
#include "tests/unit/target/support.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#include "base/clock.h"
#include "target/diagnose.h"
#include "target/target.h"

static struct stack_table strings_and_mappings;
static struct target *target;

static int target_setup(void **state)
{
    if (directory_setup(state) != 0 || stack_table_init(&strings_and_mappings))
        return -1;
    return target_create(&strings_and_mappings, &target) ? -1 : 0;
}

static int target_teardown(void **state)
{
    target_destroy(target);
    stack_table_deinit(&strings_and_mappings);
    return directory_teardown(state);
}

static const char *string_of(uint32_t id)
{
    return string_table_get(&strings_and_mappings.strings, id);
}

static void send_mmap(uint32_t pid, uint64_t start, uint64_t limit, uint64_t file_off,
                      const char *path, const struct stat *file)
{
    struct event event = {.type = EVENT_MMAP, .pid = pid, .tid = pid};

    event.mmap = (struct mmap_event){.start = start,
                                     .limit = limit,
                                     .file_off = file_off,
                                     .prot = PROT_READ | PROT_EXEC,
                                     .path = path};
    if (file) {
        event.mmap.dev_major = major(file->st_dev);
        event.mmap.dev_minor = minor(file->st_dev);
        event.mmap.inode = file->st_ino;
    }
    assert_success(target_handle_event(target, &event));
}

static void send_comm(uint32_t pid, uint32_t tid, const char *comm, bool is_exec)
{
    struct event event = {.type = EVENT_COMM, .pid = pid, .tid = tid};

    event.comm.comm = comm;
    event.comm.is_exec = is_exec;
    assert_success(target_handle_event(target, &event));
}

static void send_fork(uint32_t parent_pid, uint32_t parent_tid, uint32_t pid, uint32_t tid)
{
    struct event event = {.type = EVENT_FORK, .pid = pid, .tid = tid};

    event.fork.parent_pid = parent_pid;
    event.fork.parent_tid = parent_tid;
    assert_success(target_handle_event(target, &event));
}

static void send_exit(uint32_t pid, uint32_t tid)
{
    struct event event = {.type = EVENT_EXIT, .pid = pid, .tid = tid};

    assert_success(target_handle_event(target, &event));
}

/* Finds the executable PT_LOAD of self in a file: its offset and size in whole pages. */
static void code_segment(uint64_t *file_off, uint64_t *num_bytes)
{
    struct module_table *table;
    struct module *module;

    assert_success(module_table_create(&table));
    assert_success(module_table_open_path(table, "/proc/self/exe", &module));
    for (size_t i = 0; i < module->num_segments; i++)
        if (module->segments[i].is_executable) {
            *file_off = module->segments[i].file_off & ~4095ULL;
            *num_bytes = (module->segments[i].file_bytes + 8191) & ~4095ULL;
        }
    module_table_destroy(table);
}

/* Checks for each loaded object of this process that the bias is what the dynamic linker says. */
static int check_object(struct dl_phdr_info *info, size_t size, void *context)
{
    const struct process *process = context;

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
            continue;
        uint64_t pc = info->dlpi_addr + segment->p_vaddr + 1;
        const struct vma *vma = maps_find(process->maps, pc);
        const struct mapping *mapping;
        uint64_t elf_addr;

        assert_non_null(vma);
        assert_true(vma->has_bias);
        assert_int_equal(vma->bias, info->dlpi_addr);
        mapping = stack_table_mapping(&strings_and_mappings, vma->mapping);
        assert_non_null(mapping);
        assert_int_equal(mapping->module, vma->module->id);
        assert_true(mapping_elf_addr(mapping, vma->module, vma_profile_pc(vma, pc), &elf_addr));
        assert_int_equal(elf_addr, segment->p_vaddr + 1);
    }
    return 0;
}

static void live_process_is_read_from_proc(void **state)
{
    struct process *process;
    size_t num_main = 0, num_processes, num_threads;
    char exe[PATH_MAX] = "";

    (void)state;
    assert_success(target_add_process(target, getpid(), true, &process));
    assert_int_equal(process->pid, getpid());
    assert_int_equal(process->ns_pid, getpid());
    assert_int_equal(process->uid, geteuid());
    assert_true(process->start_time_ticks > 0);
    assert_string_equal(string_of(process->comm), "test_target");
    dl_iterate_phdr(check_object, process);
    assert_true(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
    for (uint32_t id = 1; id <= strings_and_mappings.num_mappings; id++) {
        const struct mapping *mapping = stack_table_mapping(&strings_and_mappings, id);

        if (mapping->is_main) {
            num_main++;
            assert_string_equal(string_of(mapping->path), exe);
            assert_true(strlen(string_of(mapping->build_id)) >= 16);
        }
    }
    assert_int_equal(num_main, 1);
    target_counts(target, &num_processes, &num_threads);
    assert_int_equal(num_processes, 1);
    assert_int_equal(num_threads, 1);
    assert_int_equal(target_loss(target)->counts[LOSS_UNREADABLE], 0);
}

static void vdso_of_a_live_process_has_a_module(void **state)
{
    struct process *process;
    size_t num_vdsos = 0;

    (void)state;
    assert_success(target_add_process(target, getpid(), true, &process));
    for (size_t i = 0; i < process->maps->num_vmas; i++) {
        const struct vma *vma = &process->maps->vmas[i];

        if (vma->kind != MAPPING_VDSO)
            continue;
        num_vdsos++;
        assert_true(vma->has_bias);
        assert_true(vma->module->is_vdso);
        assert_non_null(vma->module->elf);
        /* A process that is gone already has the same. */
        assert_success(target_add_launched(target, 4000001));
        send_mmap(4000001, 0x7ffff0000000, 0x7ffff0000000 + vma->limit - vma->start, 0, "[vdso]",
                  NULL);
        const struct vma *other = maps_find(target_find(target, 4000001)->maps, 0x7ffff0000000);
        assert_ptr_equal(other->module, vma->module);
        assert_int_equal(other->mapping, vma->mapping);
    }
    assert_int_equal(num_vdsos, 1);
}

static void events_and_proc_tell_the_same_once(void **state)
{
    struct process *process;
    uint32_t generation;
    size_t num_vmas, num_mappings;

    (void)state;
    assert_success(target_add_process(target, getpid(), true, &process));
    generation = process->maps->generation;
    num_vmas = process->maps->num_vmas;
    num_mappings = strings_and_mappings.num_mappings;
    assert_success(target_add_process(target, getpid(), true, NULL));
    assert_int_equal(process->maps->generation, generation);
    assert_int_equal(process->maps->num_vmas, num_vmas);
    assert_int_equal(strings_and_mappings.num_mappings, num_mappings);
}

static void map_two(void *path, int fd)
{
    void *address = map_executable(path, 8192, 0);

    (void)!write(fd, &address, sizeof(address));
    /* The second one comes when the first has been seen. */
    while (access(path, F_OK) == 0)
        usleep(1000);
    address = mmap(NULL, 16384, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)!write(fd, &address, sizeof(address));
}

static void maps_are_read_again_for_a_new_pc(void **state)
{
    char path[PATH_MAX];
    struct process *process;
    void *address;
    uint64_t before_ns;
    bool was_reread;

    snprintf(path, sizeof(path), "%s/mapped", (const char *)*state);
    copy_file("/proc/self/exe", path);
    struct child_process child = child_start(map_two, path);
    child_read(&child, &address, sizeof(address));
    assert_success(target_add_process(target, child.pid, false, &process));
    assert_int_equal(maps_find(process->maps, (uint64_t)address)->kind, MAPPING_FILE);
    before_ns = clock_monotonic_ns();
    assert_false(target_reread_maps(target, process));
    assert_true(process->maps_reread);
    unlink(path);
    child_read(&child, &address, sizeof(address));
    assert_null(maps_find(process->maps, (uint64_t)address));
    was_reread = target_reread_maps(target, process);
    if (clock_monotonic_ns() - before_ns < 10000000) /* else a busy machine gave us no CPU */
        assert_false(was_reread);                    /* too soon */
    usleep(25000);
    assert_true(was_reread || target_reread_maps(target, process));
    assert_int_equal(maps_find(process->maps, (uint64_t)address)->kind, MAPPING_ANON);
    usleep(25000);
    assert_false(target_reread_maps(target, process));
    child_stop(&child);
}

static void launched_command_has_its_executable_as_main(void **state)
{
    const struct stat *none = NULL;
    struct stat libc, exe;
    uint64_t file_off, num_bytes;
    const struct process *process;

    (void)state;
    code_segment(&file_off, &num_bytes);
    assert_int_equal(stat("/proc/self/exe", &exe), 0);
    assert_int_equal(stat("/lib64/ld-linux-x86-64.so.2", &libc), 0);
    assert_success(target_add_launched(target, 4000001));
    send_comm(4000001, 4000001, "program", true);
    send_mmap(4000001, 0x7f0000100000, 0x7f0000100000 + num_bytes, file_off, "/proc/self/exe",
              &exe);
    send_mmap(4000001, 0x7f0000200000, 0x7f0000226000, 0x1000, "/lib64/ld-linux-x86-64.so.2",
              &libc);
    send_mmap(4000001, 0x7f0000300000, 0x7f0000301000, 0, "[uprobes]", none);
    process = target_find(target, 4000001);
    assert_string_equal(string_of(process->comm), "program");
    assert_true(stack_table_mapping(&strings_and_mappings,
                                    maps_find(process->maps, 0x7f0000100000)->mapping)
                    ->is_main);
    assert_false(stack_table_mapping(&strings_and_mappings,
                                     maps_find(process->maps, 0x7f0000200000)->mapping)
                     ->is_main);
    assert_int_equal(maps_find(process->maps, 0x7f0000300000)->kind, MAPPING_OTHER);
}

static void equal_segments_of_two_processes_are_one_mapping(void **state)
{
    struct stat exe;
    uint64_t file_off, num_bytes;
    const struct vma *one, *other;

    (void)state;
    code_segment(&file_off, &num_bytes);
    assert_int_equal(stat("/proc/self/exe", &exe), 0);
    assert_success(target_add_launched(target, 4000001));
    assert_success(target_add_launched(target, 4000002));
    send_mmap(4000001, 0x10000000, 0x10000000 + num_bytes, file_off, "/proc/self/exe", &exe);
    send_mmap(4000002, 0x20000000, 0x20000000 + num_bytes, file_off, "/proc/self/exe", &exe);
    one = maps_find(target_find(target, 4000001)->maps, 0x10000000);
    other = maps_find(target_find(target, 4000002)->maps, 0x20000000);
    assert_int_equal(one->mapping, other->mapping);
    assert_int_equal(vma_profile_pc(one, 0x10000010), vma_profile_pc(other, 0x20000010));
    assert_int_equal(vma_elf_addr(one, 0x10000010), vma_elf_addr(other, 0x20000010));
}

static void exec_empties_the_address_space(void **state)
{
    const struct process *process;
    const struct maps *shared;

    (void)state;
    assert_success(target_add_launched(target, 4000001));
    send_mmap(4000001, 0x1000, 0x2000, 0, "//anon", NULL);
    send_fork(4000001, 4000001, 4000002, 4000002);
    process = target_find(target, 4000002);
    shared = target_find(target, 4000001)->maps;
    assert_ptr_equal(process->maps, shared);
    send_comm(4000002, 4000002, "child", true);
    assert_null(maps_find(process->maps, 0x1000));
    assert_non_null(maps_find(shared, 0x1000));
    assert_int_equal(shared->refcount, 1);
    assert_int_not_equal(process->maps->generation, shared->generation);
}

static void forked_child_copies_on_write(void **state)
{
    (void)state;
    assert_success(target_add_launched(target, 4000001));
    send_mmap(4000001, 0x1000, 0x2000, 0, "//anon", NULL);
    send_comm(4000001, 4000001, "parent", false);
    send_fork(4000001, 4000001, 4000002, 4000002);
    send_mmap(4000002, 0x5000, 0x6000, 0, "//anon", NULL);
    assert_null(maps_find(target_find(target, 4000001)->maps, 0x5000));
    assert_non_null(maps_find(target_find(target, 4000002)->maps, 0x5000));
    assert_non_null(maps_find(target_find(target, 4000002)->maps, 0x1000));
    assert_string_equal(string_of(target_find(target, 4000002)->comm), "parent");
}

static void threads_have_names(void **state)
{
    const struct process *process;
    size_t num_processes, num_threads;

    (void)state;
    assert_success(target_add_launched(target, 4000001));
    send_comm(4000001, 4000001, "main", false);
    send_fork(4000001, 4000001, 4000001, 4000005);
    send_fork(4000001, 4000001, 4000001, 4000003);
    send_comm(4000001, 4000003, "worker", false);
    send_fork(4000001, 4000003, 4000001, 4000004);
    process = target_find(target, 4000001);
    assert_string_equal(string_of(process->comm), "main");
    assert_string_equal(string_of(process_thread_name(process, 4000005)), "main");
    assert_string_equal(string_of(process_thread_name(process, 4000003)), "worker");
    assert_string_equal(string_of(process_thread_name(process, 4000004)), "worker");
    assert_string_equal(string_of(process_thread_name(process, 4000099)), "main");
    target_counts(target, &num_processes, &num_threads);
    assert_int_equal(num_processes, 1);
    assert_int_equal(num_threads, 4);
}

static void process_ends_with_its_last_thread(void **state)
{
    const struct process *process;

    (void)state;
    assert_success(target_add_launched(target, 4000001));
    send_fork(4000001, 4000001, 4000001, 4000002);
    process = target_find(target, 4000001);
    send_exit(4000001, 4000001);
    assert_false(process->has_ended);
    send_exit(4000001, 4000002);
    assert_true(process->has_ended);
    assert_non_null(target_find(target, 4000001)->maps);
}

static void pid_used_again_is_another_process(void **state)
{
    (void)state;
    assert_success(target_add_launched(target, 4000001));
    send_comm(4000001, 4000001, "sh", false);
    send_fork(4000001, 4000001, 4000002, 4000002);
    send_comm(4000002, 4000002, "first", true);
    send_mmap(4000002, 0x1000, 0x2000, 0, "//anon", NULL);
    send_exit(4000002, 4000002);
    assert_non_null(maps_find(target_find(target, 4000002)->maps, 0x1000));
    send_fork(4000001, 4000001, 4000002, 4000002);
    assert_false(target_find(target, 4000002)->has_ended);
    assert_null(maps_find(target_find(target, 4000002)->maps, 0x1000));
    assert_string_equal(string_of(target_find(target, 4000002)->comm), "sh");
}

static void count_process(void *context, struct process *process)
{
    (void)process;
    ++*(size_t *)context;
}

static void ended_processes_are_bounded(void **state)
{
    enum { FIRST = 4000002, NUM = 20000 };
    size_t num_known = 0, num_processes, num_threads;

    (void)state;
    assert_success(target_add_launched(target, 4000001));
    for (uint32_t pid = FIRST; pid < FIRST + NUM; pid++) {
        send_fork(4000001, 4000001, pid, pid);
        send_exit(pid, pid);
    }
    target_each_process(target, count_process, &num_known);
    assert_in_range(num_known, 2000, 4200);
    assert_non_null(target_find(target, FIRST + NUM - 1));
    assert_null(target_find(target, FIRST));
    assert_non_null(target_find(target, 4000001));
    target_counts(target, &num_processes, &num_threads);
    assert_int_equal(num_processes, NUM + 1);
}

static void do_nothing(void *context, int fd)
{
    (void)context;
    (void)fd;
}

static void names_without_end_stay_within_their_limit(void **state)
{
    char name[16];
    uint32_t first;
    size_t num_bytes;

    (void)state;
    target_follow_all(target);
    send_comm(4000001, 4000001, "server", true);
    send_comm(4000001, 4000002, "first", false);
    num_bytes = string_table_bytes(&strings_and_mappings.strings) + 4096;
    target_limit_names(target, num_bytes);
    for (uint32_t i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "request-%u", i);
        send_fork(4000001, 4000001, 4000001, 4000003);
        send_comm(4000001, 4000003, name, false);
        if (i == 0)
            first = process_thread_name(target_find(target, 4000001), 4000003);
        send_exit(4000001, 4000003);
    }
    assert_string_equal(string_table_get(&strings_and_mappings.strings, first), "request-0");
    assert_true(string_table_bytes(&strings_and_mappings.strings) < num_bytes + 16384);
    assert_in_range(target_loss(target)->counts[LOSS_UNLABELED], 9000, 9999);
    send_comm(4000001, 4000003, "request-9999", false);
    first = process_thread_name(target_find(target, 4000001), 4000003);
    assert_string_equal(string_table_get(&strings_and_mappings.strings, first), "[other]");
    send_comm(4000001, 4000003, "first", false); /* known names stay */
    first = process_thread_name(target_find(target, 4000001), 4000003);
    assert_string_equal(string_table_get(&strings_and_mappings.strings, first), "first");
}

static void strangers_are_ignored_unless_all_are_followed(void **state)
{
    struct child_process child;
    struct event event = {.type = EVENT_COMM, .pid = UINT32_MAX, .tid = UINT32_MAX};

    (void)state;
    send_mmap(4000001, 0x1000, 0x2000, 0, "//anon", NULL);
    send_fork(4000001, 4000001, 4000002, 4000002);
    send_fork(4000001, 4000001, 4000001, 4000003);
    send_comm(4000001, 4000001, "who", true);
    send_exit(4000001, 4000001);
    assert_null(target_find(target, 4000001));
    assert_null(target_find(target, 4000002));
    target_follow_all(target);
    assert_success(target_handle_event(target, &event));
    assert_null(target_find(target, UINT32_MAX));
    send_mmap(4000001, 0x1000, 0x2000, 0, "//anon", NULL);
    assert_non_null(maps_find(target_find(target, 4000001)->maps, 0x1000));
    child = child_start(do_nothing, NULL);
    child_wait_ready(&child);
    send_comm((uint32_t)child.pid, (uint32_t)child.pid, "kid", false);
    assert_true(target_find(target, (uint32_t)child.pid)->maps->num_vmas > 2);
    child_stop(&child);
}

static void processes_of_samples_are_looked_up_when_all_are_followed(void **state)
{
    struct process *process;
    struct child_process child;

    (void)state;
    child = child_start(do_nothing, NULL);
    child_wait_ready(&child);
    assert_success(target_see(target, (uint32_t)child.pid, &process));
    assert_null(process);
    target_follow_all(target);
    assert_success(target_see(target, (uint32_t)child.pid, &process));
    assert_true(process->maps->num_vmas > 2);
    assert_int_equal(target_loss(target)->counts[LOSS_UNSEEN], 0);
    child_stop(&child);
}

static void processes_that_can_not_be_looked_at_are_counted(void **state)
{
    struct process *process, *again;

    (void)state;
    target_follow_all(target);
    assert_success(target_see(target, 4000001, &process));
    assert_string_equal(string_of(process->comm), "[pid 4000001]");
    assert_success(target_see(target, 4000001, &again));
    assert_ptr_equal(again, process);
    assert_int_equal(target_loss(target)->counts[LOSS_UNSEEN], 1);
    assert_success(target_see(target, UINT32_MAX, &process));
    assert_success(target_see(target, 0, &again));
    assert_ptr_equal(again, process);
    assert_string_equal(string_of(process->comm), "[no pid]");
    assert_int_equal(target_loss(target)->counts[LOSS_UNSEEN], 1);
}

static void child_of_a_process_not_yet_known_has_its_mappings(void **state)
{
    struct process *process;
    struct child_process child;

    (void)state;
    target_follow_all(target);
    child = child_start(do_nothing, NULL);
    child_wait_ready(&child);
    send_fork((uint32_t)child.pid, (uint32_t)child.pid, 4000002, 4000002); /* gone by now */
    assert_success(target_see(target, 4000002, &process));
    assert_true(process->maps->num_vmas > 2);
    assert_int_equal(target_loss(target)->counts[LOSS_UNSEEN], 0);
    child_stop(&child);
}

static void code_made_piece_by_piece_keeps_its_mapping(void **state)
{
    const struct maps *maps;
    uint32_t first, generation;
    size_t num_mappings;

    (void)state;
    assert_success(target_add_launched(target, 4000001));
    send_mmap(4000001, 0x10000, 0x20000, 0, "//anon", NULL);
    maps = target_find(target, 4000001)->maps;
    first = maps_find(maps, 0x10000)->mapping;
    generation = maps->generation;
    num_mappings = strings_and_mappings.num_mappings;
    /* V8 flips pages between writable and executable: the same range, or a part of it, again. */
    for (int i = 0; i < 100; i++)
        send_mmap(4000001, 0x12000, 0x14000, 0, "//anon", NULL);
    assert_int_equal(strings_and_mappings.num_mappings, num_mappings);
    /* A grown range is told as a whole: only the growth is new. */
    send_mmap(4000001, 0x8000, 0x30000, 0, "//anon", NULL);
    assert_int_equal(maps_find(maps, 0x10000)->mapping, first);
    assert_int_equal(maps_find(maps, 0x1ffff)->mapping, first);
    assert_int_not_equal(maps_find(maps, 0x8000)->mapping, first);
    assert_int_not_equal(maps_find(maps, 0x2ffff)->mapping, first);
    assert_int_equal(maps->generation, generation);
    assert_int_equal(strings_and_mappings.num_mappings, num_mappings + 2);
}

static void hole_in_text_is_that_file(void **state)
{
    struct stat exe;
    uint64_t file_off, num_bytes, start = 0x40000000;
    const struct vma *vma;

    (void)state;
    code_segment(&file_off, &num_bytes);
    assert_int_equal(stat("/proc/self/exe", &exe), 0);
    assert_success(target_add_launched(target, 4000001));
    send_mmap(4000001, start, start + num_bytes, file_off, "/proc/self/exe", &exe);
    send_mmap(4000001, start + 4096, start + 8192, 0, "//anon", NULL);
    vma = maps_find(target_find(target, 4000001)->maps, start + 5000);
    assert_int_equal(vma->kind, MAPPING_FILE);
    assert_int_equal(vma->bias, maps_find(target_find(target, 4000001)->maps, start)->bias);
    /* Beside the text it is what it seems. */
    send_mmap(4000001, start + num_bytes, start + num_bytes + 4096, 0, "//anon", NULL);
    vma = maps_find(target_find(target, 4000001)->maps, start + num_bytes);
    assert_int_equal(vma->kind, MAPPING_ANON);
}

static void map_with_hole(void *path, int fd)
{
    char *address = map_executable(path, 5 * 4096, 4096);

    mmap(address + 4096, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
         0);
    (void)!write(fd, &address, sizeof(address));
    /* A file that is gone, a JIT in its place. */
    address = map_executable(path, 5 * 4096, 4096);
    (void)!write(fd, &address, sizeof(address));
    munmap(address, 5 * 4096);
    mmap(address + 4096, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
         0);
}

static void hole_is_told_from_code_in_a_file_s_place(void **state)
{
    struct stat exe;
    struct process *process;
    uint64_t with_hole, gone;
    const struct vma *vma;
    uint32_t pid;
    char path[PATH_MAX] = "";

    (void)state;
    assert_true(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
    assert_int_equal(stat(path, &exe), 0);
    struct child_process child = child_start(map_with_hole, path);
    child_read(&child, &with_hole, sizeof(with_hole));
    child_read(&child, &gone, sizeof(gone));
    child_wait_ready(&child);
    pid = (uint32_t)child.pid;
    assert_success(target_add_process(target, child.pid, false, &process));
    vma = maps_find(process->maps, with_hole + 5000);
    assert_int_equal(vma->kind, MAPPING_FILE);
    assert_int_equal(vma->bias, maps_find(process->maps, with_hole)->bias);
    assert_int_equal(maps_find(process->maps, gone + 4096)->kind, MAPPING_ANON);
    /* The same, told by events: maps knows better. */
    send_comm(pid, pid, "again", true);
    send_mmap(pid, gone, gone + 5 * 4096, 4096, path, &exe);
    assert_int_equal(maps_find(process->maps, gone + 4096)->kind, MAPPING_FILE);
    send_mmap(pid, gone + 4096, gone + 8192, 0, "//anon", NULL);
    assert_int_equal(maps_find(process->maps, gone + 4096)->kind, MAPPING_ANON);
    child_stop(&child);
}

static void unreadable_module_is_counted_once(void **state)
{
    struct stat gone = {.st_dev = makedev(250, 1), .st_ino = 12345};
    const struct vma *vma;

    (void)state;
    assert_success(target_add_launched(target, 4000001));
    send_mmap(4000001, 0x1000, 0x2000, 0, "/no/such/file", &gone);
    send_mmap(4000001, 0x3000, 0x4000, 0x2000, "/no/such/file", &gone);
    assert_int_equal(target_loss(target)->counts[LOSS_UNREADABLE], 1);
    vma = maps_find(target_find(target, 4000001)->maps, 0x1000);
    assert_int_equal(vma->kind, MAPPING_FILE);
    assert_false(vma->has_bias);
    assert_string_equal(string_of(stack_table_mapping(&strings_and_mappings, vma->mapping)->path),
                        "/no/such/file");
}

static void kernel_has_one_mapping(void **state)
{
    const struct mapping *mapping;
    uint32_t id, again;

    (void)state;
    assert_success(target_kernel_mapping(target, &id));
    assert_success(target_kernel_mapping(target, &again));
    assert_int_equal(id, again);
    mapping = stack_table_mapping(&strings_and_mappings, id);
    assert_int_equal(mapping->kind, MAPPING_KERNEL);
    assert_true(mapping->start < 0xffffffff81000000 && mapping->limit > 0xffffffffc1000000);
    assert_string_equal(string_of(mapping->path), "[kernel.kallsyms]");
}

static void *run_on(void *fd)
{
    while (access("/proc/self/task", F_OK) == 0) {
        char state[512] = "";
        int stat_fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

        (void)!read(stat_fd, state, sizeof(state) - 1);
        close(stat_fd);
        if (strstr(state, ") Z "))
            break;
        usleep(1000);
    }
    (void)!write(*(int *)fd, "z", 1);
    pause();
    return NULL;
}

static void end_main_thread(void *context, int fd)
{
    static int thread_fd;
    pthread_t thread;

    (void)context;
    thread_fd = fd;
    pthread_create(&thread, NULL, run_on, &thread_fd);
    pthread_exit(NULL);
}

static void process_whose_main_thread_has_ended_is_read(void **state)
{
    struct child_process child = child_start(end_main_thread, NULL);
    struct process *process;
    uint32_t pid = (uint32_t)child.pid;
    char byte;

    (void)state;
    child_read(&child, &byte, 1);
    assert_success(diagnose_process(child.pid));
    assert_success(target_add_process(target, child.pid, true, &process));
    assert_false(process->has_ended);
    assert_int_equal(process->num_threads, 1);
    assert_true(process->maps->num_vmas > 2);
    assert_true(maps_find(process->maps, (uint64_t)&end_main_thread)->has_bias);
    send_exit(pid, process->threads[0].tid);
    assert_true(target_find(target, pid)->has_ended);
    child_stop(&child);
}

static void process_that_is_gone_is_said_so(void **state)
{
    pid_t zombie = fork();
    siginfo_t info;

    (void)state;
    if (zombie == 0)
        _exit(0);
    assert_int_equal(waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT), 0);
    assert_error(target_add_process(target, zombie, true, NULL), ERROR_GONE, "has ended");
    assert_int_equal(waitpid(zombie, NULL, 0), zombie);
    assert_error(target_add_process(target, 4000001, true, NULL), ERROR_GONE, "4000001");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(live_process_is_read_from_proc, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(vdso_of_a_live_process_has_a_module, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(events_and_proc_tell_the_same_once, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(maps_are_read_again_for_a_new_pc, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(launched_command_has_its_executable_as_main, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(equal_segments_of_two_processes_are_one_mapping,
                                        target_setup, target_teardown),
        cmocka_unit_test_setup_teardown(exec_empties_the_address_space, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(forked_child_copies_on_write, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(threads_have_names, target_setup, target_teardown),
        cmocka_unit_test_setup_teardown(process_ends_with_its_last_thread, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(pid_used_again_is_another_process, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(ended_processes_are_bounded, target_setup, target_teardown),
        cmocka_unit_test_setup_teardown(names_without_end_stay_within_their_limit, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(strangers_are_ignored_unless_all_are_followed, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(code_made_piece_by_piece_keeps_its_mapping, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(processes_of_samples_are_looked_up_when_all_are_followed,
                                        target_setup, target_teardown),
        cmocka_unit_test_setup_teardown(processes_that_can_not_be_looked_at_are_counted,
                                        target_setup, target_teardown),
        cmocka_unit_test_setup_teardown(child_of_a_process_not_yet_known_has_its_mappings,
                                        target_setup, target_teardown),
        cmocka_unit_test_setup_teardown(hole_in_text_is_that_file, target_setup, target_teardown),
        cmocka_unit_test_setup_teardown(hole_is_told_from_code_in_a_file_s_place, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(unreadable_module_is_counted_once, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(kernel_has_one_mapping, target_setup, target_teardown),
        cmocka_unit_test_setup_teardown(process_whose_main_thread_has_ended_is_read, target_setup,
                                        target_teardown),
        cmocka_unit_test_setup_teardown(process_that_is_gone_is_said_so, target_setup,
                                        target_teardown),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
