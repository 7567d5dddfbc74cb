/* Which file is it that a process has mapped: real files, deleted, replaced, hidden in a namespace.
 */
#include "tests/unit/target/support.h"

#include <elf.h>
#include <elfutils/libdwelf.h>
#include <sched.h>
#include <sys/mount.h>

#include "target/module.h"
#include "target/module_elf.h"
#include "tests/unit/skip.h"

static struct module_table *table;

static int table_setup(void **state)
{
    if (directory_setup(state) != 0)
        return -1;
    return module_table_create(&table) ? -1 : 0;
}

static int table_teardown(void **state)
{
    module_table_destroy(table);
    return directory_teardown(state);
}

static void join(char *path, void **state, const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", (const char *)*state, name);
}

/* Makes a request for a whole file that `pid` has mapped at `start`. */
static struct module_request request_of(const struct stat *status, const char *path, pid_t pid,
                                        void *start, size_t num_bytes)
{
    return (struct module_request){.pid = (uint32_t)pid,
                                   .start = (uint64_t)start,
                                   .limit = (uint64_t)start + num_bytes,
                                   .dev_major = major(status->st_dev),
                                   .dev_minor = minor(status->st_dev),
                                   .inode = status->st_ino,
                                   .path = path};
}

static void executable_is_read(void **state)
{
    struct module *module, *again;
    const void *build_id;
    bool has_code = false;

    (void)state;
    assert_success(module_table_open_path(table, "/proc/self/exe", &module));
    assert_non_null(module->elf);
    assert_int_equal(dwelf_elf_gnu_build_id(module->elf, &build_id), module->build_id_bytes);
    assert_memory_equal(build_id, module->build_id, module->build_id_bytes);
    for (size_t i = 0; i < module->num_segments; i++)
        has_code |= module->segments[i].is_executable;
    assert_true(has_code);
    assert_success(module_table_open_path(table, "/proc/self/exe", &again));
    assert_ptr_equal(again, module);
    assert_int_equal(module_table_count(table), 1);
    assert_ptr_equal(module_table_at(table, 0), module);
    assert_null(module_table_at(table, 1));
}

static void copies_with_one_build_id_are_one_module(void **state)
{
    char path[PATH_MAX];
    struct module *module, *copy, *longer;

    assert_success(module_table_open_path(table, "/proc/self/exe", &module));
    join(path, state, "copy");
    copy_file("/proc/self/exe", path);
    assert_success(module_table_open_path(table, path, &copy));
    assert_ptr_equal(copy, module);
    /* Another size is another file, whatever build-id it claims. */
    join(path, state, "longer");
    copy_file("/proc/self/exe", path);
    assert_int_equal(truncate(path, 1 << 24), 0);
    assert_success(module_table_open_path(table, path, &longer));
    assert_ptr_not_equal(longer, module);
}

static void what_is_no_program_has_no_elf(void **state)
{
    char path[PATH_MAX], exe[4096];
    struct module *module;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    assert_int_equal(read(fd, exe, sizeof(exe)), sizeof(exe));
    close(fd);
    join(path, state, "file");
    for (int round = 0; round < 7; round++) {
        char bytes[sizeof(exe)];
        size_t num_bytes = sizeof(bytes);
        Elf64_Ehdr *header = (Elf64_Ehdr *)bytes;

        memcpy(bytes, exe, sizeof(exe));
        if (round == 0)
            num_bytes = 0;
        else if (round == 1)
            num_bytes = 40; /* ends in the header */
        else if (round == 2)
            bytes[EI_CLASS] = ELFCLASS32;
        else if (round == 3)
            header->e_machine = EM_AARCH64;
        else if (round == 4)
            header->e_phoff = UINT64_MAX - 8;
        else if (round == 5)
            header->e_type = ET_REL;
        else
            memset(bytes, 'x', sizeof(bytes));
        unlink(path);
        write_file(path, bytes, num_bytes);
        assert_success(module_table_open_path(table, path, &module));
        assert_null(module->elf);
        assert_int_equal(module->num_segments, 0);
    }
}

static void what_is_no_file_is_not_opened(void **state)
{
    char path[PATH_MAX];
    struct module *module;

    join(path, state, "fifo");
    assert_int_equal(mkfifo(path, 0644), 0);
    assert_success(module_table_open_path(table, path, &module));
    assert_int_equal(module->fd, -1);
    assert_success(module_table_open_path(table, "/dev/null", &module));
    assert_int_equal(module->fd, -1);
    assert_success(module_table_open_path(table, "/tmp", &module));
    assert_int_equal(module->fd, -1);
    assert_success(module_table_open_path(table, "/no/such/file", &module));
    assert_int_equal(module->fd, -1);
    assert_string_equal(module->path, "/no/such/file");
}

static void map_and_tell(void *path, int fd)
{
    void *address = map_executable(path, 4096, 0);

    (void)!write(fd, &address, sizeof(address));
}

static void deleted_file_is_read_through_its_mapping(void **state)
{
    char path[PATH_MAX], deleted[PATH_MAX + 16];
    struct module *module, *same;
    struct module_request request;
    void *address;

    if (geteuid() != 0)
        SKIP("needs root");
    join(path, state, "with blank\nand newline");
    const struct stat status = copy_file("/proc/self/exe", path);
    struct child_process child = child_start(map_and_tell, path);

    child_read(&child, &address, sizeof(address));
    child_wait_ready(&child);
    unlink(path);
    copy_file("/bin/true", path); /* replaced, as by an upgrade */
    snprintf(deleted, sizeof(deleted), "%s (deleted)", path);
    request = request_of(&status, deleted, child.pid, address, 4096);
    assert_success(module_table_get(table, &request, &module));
    assert_non_null(module->elf);
    assert_true(module->is_deleted);
    assert_string_equal(module->path, path);
    child_stop(&child);
    /* The process is gone, the module is not. */
    assert_success(module_table_get(table, &request, &same));
    assert_ptr_equal(same, module);
    assert_int_equal(pread(module->fd, &address, 4, 0), 4);
    assert_memory_equal(&address, ELFMAG, 4);
}

static void replaced_file_is_never_used(void **state)
{
    char path[PATH_MAX], other[PATH_MAX];
    struct module *module;

    join(path, state, "program");
    join(other, state, "other");
    const struct stat status = copy_file("/proc/self/exe", path);
    copy_file("/bin/true", other);
    assert_int_equal(rename(other, path), 0);
    struct module_request request = request_of(&status, path, 0, NULL, 4096);
    assert_success(module_table_get(table, &request, &module));
    assert_int_equal(module->fd, -1);
    assert_null(module->elf);
    assert_string_equal(module->path, path);
}

static void file_out_of_reach_is_tried_again_with_the_next_process(void **state)
{
    char path[PATH_MAX], moved[PATH_MAX];
    struct module *module, *later, *known;

    join(path, state, "program");
    join(moved, state, "moved");
    const struct stat status = copy_file("/proc/self/exe", path);
    struct module_request request = request_of(&status, path, 0, NULL, 4096);

    assert_int_equal(rename(path, moved), 0);
    assert_success(module_table_get(table, &request, &module));
    assert_int_equal(module->fd, -1);
    assert_success(module_table_get(table, &request, &known));
    assert_ptr_equal(known, module);
    assert_int_equal(rename(moved, path), 0);
    assert_success(module_table_get(table, &request, &later));
    assert_true(later->fd >= 0);
    assert_int_equal(module_table_count(table), 2);
    assert_success(module_table_get(table, &request, &known));
    assert_ptr_equal(known, later);
}

static void name_that_ends_like_a_deleted_one_is_kept(void **state)
{
    char path[PATH_MAX];
    struct module *module;

    join(path, state, "odd (deleted)");
    const struct stat status = copy_file("/proc/self/exe", path);
    struct module_request request = request_of(&status, path, 0, NULL, 4096);
    assert_success(module_table_get(table, &request, &module));
    assert_non_null(module->elf);
    assert_string_equal(module->path, path);
    assert_false(module->is_deleted);
}

static void map_in_namespace(void *directory, int fd)
{
    char path[PATH_MAX];
    void *address = NULL;
    struct stat status = {0};

    snprintf(path, sizeof(path), "%s/inner", (const char *)directory);
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("none", directory, "tmpfs", 0, NULL) == 0) {
        int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        int to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
        char buffer[65536];
        ssize_t num_bytes;

        while ((num_bytes = read(from, buffer, sizeof(buffer))) > 0)
            (void)!write(to, buffer, (size_t)num_bytes);
        fstat(to, &status);
        close(to);
        close(from);
        address = map_executable(path, 4096, 0);
    }
    (void)!write(fd, &address, sizeof(address));
    (void)!write(fd, &status, sizeof(status));
}

static void file_of_another_mount_namespace_is_found(void **state)
{
    struct child_process child = child_start(map_in_namespace, *state);
    char path[PATH_MAX], rooted[PATH_MAX + 64];
    struct module *module;
    struct stat status, found;
    void *address;

    child_read(&child, &address, sizeof(address));
    child_read(&child, &status, sizeof(status));
    child_wait_ready(&child);
    if (!address) {
        child_stop(&child);
        SKIP("may not mount here");
    }
    join(path, state, "inner");
    /* A wrong range: map_files can't help, /proc/PID/root has to. */
    struct module_request request = request_of(&status, path, child.pid, (char *)address + 1, 4096);
    assert_success(module_table_get(table, &request, &module));
    assert_non_null(module->elf);
    assert_false(module->is_deleted);
    child_stop(&child);
    /* Its namespace lasts: what else is in there can be found still. */
    snprintf(rooted, sizeof(rooted), "%s%s", module->root, path);
    assert_int_equal(stat(rooted, &found), 0);
    assert_int_equal(found.st_ino, status.st_ino);
    assert_true(stat(path, &found) != 0 || found.st_ino != status.st_ino);
}

/* What own_deleted_executable... hands to its child. */
struct deleted_case {
    const char *path;
    struct stat file;
};

/* As nobody: starts the program, tells so, waits until its file is gone, looks for its module. */
static void look_at_deleted_program(void *context, int fd)
{
    const struct deleted_case *deleted = context;
    struct module *module = NULL;
    char path[PATH_MAX + 16];
    int ready[2];
    char result;
    pid_t pid;

    if (setgid(65534) != 0 || setuid(65534) != 0 || prctl(PR_SET_DUMPABLE, 1) != 0 ||
        pipe2(ready, O_CLOEXEC) != 0)
        return;
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(deleted->path, deleted->path, "60", NULL);
        _exit(3);
    }
    close(ready[1]);
    (void)!read(ready[0], &result, 1); /* ends with the exec */
    (void)!write(fd, "x", 1);
    while (access(deleted->path, F_OK) == 0)
        usleep(1000);
    snprintf(path, sizeof(path), "%s (deleted)", deleted->path);
    struct module_request request = request_of(&deleted->file, path, pid, NULL, 4096);
    struct error *err = module_table_get(table, &request, &module);
    result = !err && module->elf && module->is_deleted ? 'y' : 'n';
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    (void)!write(fd, &result, 1);
}

static void own_deleted_executable_is_read_without_privileges(void **state)
{
    char path[PATH_MAX], byte;

    if (geteuid() != 0)
        SKIP("needs root");
    join(path, state, "sleep");
    struct deleted_case deleted = {path, copy_file("/bin/sleep", path)};
    struct child_process child = child_start(look_at_deleted_program, &deleted);

    child_read(&child, &byte, 1);
    unlink(path);
    child_read(&child, &byte, 1);
    assert_int_equal(byte, 'y');
    child_stop(&child);
}

static void memfd_is_a_module(void **state)
{
    int fd = memfd_create("code", MFD_CLOEXEC);
    char link[64];
    struct module *module;
    struct stat status;
    void *address;

    (void)state;
    if (geteuid() != 0)
        SKIP("needs root");
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    copy_file("/proc/self/exe", link);
    assert_int_equal(fstat(fd, &status), 0);
    address = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    struct module_request request =
        request_of(&status, "/memfd:code (deleted)", getpid(), address, 4096);
    assert_success(module_table_get(table, &request, &module));
    assert_non_null(module->elf);
    assert_string_equal(module->path, "/memfd:code");
    munmap(address, 4096);
    close(fd);
}

static void build_id_is_found_among_notes(void **state)
{
    /* NT_GNU_ABI_TAG, a Go note, then the build-id; names and descriptors padded to 4. */
    static const uint32_t notes[] = {4, 16, 1,          0x00554e47, 0,          3,          2,
                                     0, 4,  3,          4,          0x00006f47, 0x01616161, 4,
                                     5, 3,  0x00554e47, 0x04030201, 0x00000005};
    uint8_t build_id[MODULE_MAX_BUILD_ID_BYTES];
    const uint8_t *bytes = (const uint8_t *)notes;

    (void)state;
    assert_int_equal(notes_find_build_id(bytes, sizeof(notes), 4, build_id), 5);
    assert_memory_equal(build_id, "\1\2\3\4\5", 5);
    for (size_t size = 0; size < sizeof(notes) - 3; size++)
        assert_int_equal(notes_find_build_id(bytes, size, 4, build_id), 0);
}

/* One note of "Go" with a text. Returns: its length. */
static size_t make_go_note(const char *text, uint8_t notes[256])
{
    const uint32_t header[] = {4, (uint32_t)strlen(text), 4, 0x00006f47};

    memset(notes, 0, 256);
    memcpy(notes, header, sizeof(header));
    memcpy(notes + sizeof(header), text, strlen(text));
    return sizeof(header) + ((strlen(text) + 3) & ~(size_t)3);
}

static void build_id_of_go_is_taken_when_it_tells_builds_apart(void **state)
{
    static const char good[] = "Uq6dH2UV3U-gDTzYKEht/GDSgb7R6gd30xHBQx58v/3ab3nEOQb-lXx2O5_huW/"
                               "D0TjQlL4O4JmIH2XfgwF";
    static const char *const others[] = {
        "",
        "redacted",
        "a/b/c/d",
        "Uq6dH2UV3U-gDTzYKEht/GDSgb7R6gd30xHBQx58v/3ab3nEOQb-lXx2O5_huW/D0TjQlL4O4JmIH2Xfgw",
        "Uq6dH2UV3U-gDTzYKEht/GDSgb7R6gd30xHBQx58v/3ab3nEOQb-lXx2O5_huW/D0TjQlL4O4JmIH2Xfgw\n",
        "Uq6dH2UV3U-gDTzYKEhtaGDSgb7R6gd30xHBQx58v/3ab3nEOQb-lXx2O5_huW/D0TjQlL4O4JmIH2XfgwF"};
    char found[GO_BUILD_ID_LENGTH + 1];
    uint8_t notes[256];
    size_t num_bytes = make_go_note(good, notes);

    (void)state;
    assert_true(notes_find_go_build_id(notes, num_bytes, 4, found));
    assert_string_equal(found, good);
    for (size_t size = 0; size < 16 + strlen(good); size++)
        assert_false(notes_find_go_build_id(notes, size, 4, found));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        num_bytes = make_go_note(others[i], notes);
        assert_false(notes_find_go_build_id(notes, num_bytes, 4, found));
    }
}

static void vdso_is_one_module(void **state)
{
    uint8_t garbage[100] = {1};
    uint8_t image[8192] = {0};
    struct module *module, *same, *none;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_true(read(fd, image, sizeof(image)) > 0);
    close(fd);
    assert_success(module_table_get_vdso(table, image, sizeof(image), &module));
    assert_non_null(module->elf);
    assert_true(module->is_vdso);
    assert_success(module_table_get_vdso(table, image, sizeof(image), &same));
    assert_ptr_equal(same, module);
    for (uint8_t i = 0; i < 50; i++) { /* hostile: bounded */
        garbage[1] = i;
        assert_success(module_table_get_vdso(table, garbage, sizeof(garbage), &none));
        assert_null(none->elf && none != module ? none->elf : NULL);
    }
    assert_true(module_table_count(table) <= 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(executable_is_read, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(copies_with_one_build_id_are_one_module, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(what_is_no_program_has_no_elf, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_not_opened, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(deleted_file_is_read_through_its_mapping, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(replaced_file_is_never_used, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(file_out_of_reach_is_tried_again_with_the_next_process,
                                        table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(name_that_ends_like_a_deleted_one_is_kept, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(file_of_another_mount_namespace_is_found, table_setup,
                                        table_teardown),
        cmocka_unit_test_setup_teardown(own_deleted_executable_is_read_without_privileges,
                                        table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(memfd_is_a_module, table_setup, table_teardown),
        cmocka_unit_test_setup_teardown(build_id_is_found_among_notes, table_setup, table_teardown),
        cmocka_unit_test(build_id_of_go_is_taken_when_it_tells_builds_apart),
        cmocka_unit_test_setup_teardown(vdso_is_one_module, table_setup, table_teardown),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
