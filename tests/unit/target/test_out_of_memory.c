/* Every allocation of target/ fails once, in turn: the work ends or goes on, nothing leaks. */
#include "tests/unit/target/support.h"

#include "base/cleanup.h"
#include "target/diagnose.h"
#include "target/launch.h"
#include "target/target.h"
#include "target/threads.h"
#include "tests/unit/alloc_fault.h"
#include "tests/unit/skip.h"

static struct error *send_mmap(struct target *target, uint64_t start, const char *path)
{
    struct event event = {.type = EVENT_MMAP, .pid = 4000001, .tid = 4000001};
    struct stat status = {0};

    event.mmap = (struct mmap_event){
        .start = start, .limit = start + 0x2000, .prot = PROT_READ | PROT_EXEC, .path = path};
    if (stat(path, &status) == 0) {
        event.mmap.dev_major = major(status.st_dev);
        event.mmap.dev_minor = minor(status.st_dev);
        event.mmap.inode = status.st_ino;
    }
    return target_handle_event(target, &event);
}

static struct error *send_task(struct target *target, enum event_type type, uint32_t pid,
                               uint32_t tid)
{
    struct event event = {.type = type, .pid = pid, .tid = tid};

    if (type == EVENT_FORK)
        event.fork.parent_pid = event.fork.parent_tid = 4000001;
    else
        event.comm = (struct comm_event){.comm = "name", .is_exec = tid == pid};
    return target_handle_event(target, &event);
}

/* Sends events of all kinds. */
static struct error *send_events(struct target *target)
{
    RETURN_IF_ERROR(target_add_launched(target, 4000001));
    RETURN_IF_ERROR(send_task(target, EVENT_COMM, 4000001, 4000001));
    RETURN_IF_ERROR(send_mmap(target, 0x10000, "/proc/self/exe"));
    RETURN_IF_ERROR(send_mmap(target, 0x20000, "[vdso]"));
    RETURN_IF_ERROR(send_mmap(target, 0x30000, "//anon"));
    RETURN_IF_ERROR(send_mmap(target, 0x11000, "//anon"));
    RETURN_IF_ERROR(send_task(target, EVENT_FORK, 4000001, 4000005));
    RETURN_IF_ERROR(send_task(target, EVENT_FORK, 4000002, 4000002));
    RETURN_IF_ERROR(send_mmap(target, 0x40000, "/lib64/ld-linux-x86-64.so.2"));
    RETURN_IF_ERROR(send_task(target, EVENT_COMM, 4000002, 4000002));
    return send_task(target, EVENT_EXIT, 4000002, 4000002);
}

static struct error *follow(void)
{
    struct stack_table table;
    struct target *target = NULL;
    struct error *err;
    uint32_t mapping;

    RETURN_IF_ERROR(stack_table_init(&table));
    err = target_create(&table, &target);
    if (!err)
        err = send_events(target);
    if (!err)
        err = target_kernel_mapping(target, &mapping);
    if (!err)
        err = target_add_process(target, getpid(), true, NULL);
    if (!err)
        target_reread_maps(target, target_find(target, (uint32_t)getpid()));
    target_destroy(target);
    stack_table_deinit(&table);
    return err;
}

static struct error *visit_nothing(void *context, pid_t pid, pid_t tid)
{
    (void)context;
    (void)pid;
    (void)tid;
    return NULL;
}

static struct error *look_around(void)
{
    pid_t *pids = NULL;
    size_t num_pids;
    struct error *err = diagnose_process(getpid());

    if (!err)
        err = diagnose_process(4000001);
    if (err && err->kind == ERROR_GONE) {
        error_destroy(err);
        err = NULL;
    }
    if (!err)
        err = threads_visit(getpid(), visit_nothing, NULL, NULL);
    if (!err)
        err = diagnose_find_by_name("no-such-program-here", &pids, &num_pids);
    free(pids);
    if (err && err->kind == ERROR_NOT_FOUND) {
        error_destroy(err);
        err = NULL;
    }
    return err;
}

static struct error *launch_true(void)
{
    char *argv[] = {"true", NULL};
    struct launch *launch;

    RETURN_IF_ERROR(launch_start(argv, &launch));
    struct error *err = launch_go(launch);
    launch_wait(launch, true, NULL, NULL);
    launch_destroy(launch);
    return err;
}

/* Runs `work` with each of its allocations failing in turn. */
static void fail_each(struct error *(*work)(void))
{
    if (!alloc_fault_is_possible())
        SKIP("allocations of this build can't be made to fail");
    for (unsigned long fail_at = 1; fail_at < 100000; fail_at++) {
        struct error *err;
        bool has_failed;

        alloc_fault_arm(fail_at);
        err = work();
        if (err && err->kind != ERROR_NO_MEMORY)
            fail_msg("allocation %lu: %s", fail_at, err->message);
        error_destroy(err);
        has_failed = alloc_fault_disarm();
        if (alloc_fault_leaks() != 0)
            fail_msg("allocation %lu: %ld blocks leak", fail_at, alloc_fault_leaks());
        if (!has_failed) {
            assert_null(err);
            return;
        }
    }
    fail();
}

static void following_survives_want_of_memory(void **state)
{
    (void)state;
    fail_each(follow);
}

static void looking_around_survives_want_of_memory(void **state)
{
    (void)state;
    fail_each(look_around);
}

static void launching_survives_want_of_memory(void **state)
{
    (void)state;
    fail_each(launch_true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(following_survives_want_of_memory),
        cmocka_unit_test(looking_around_survives_want_of_memory),
        cmocka_unit_test(launching_survives_want_of_memory),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
