/* Every thread is found, also those that start while we look. */
#include "tests/unit/target/support.h"

#include <pthread.h>

#include "target/threads.h"

/* What a visitor has seen. */
struct seen {
    pid_t tids[4096];
    size_t num_tids;
    size_t num_gone; /* the first that many are said to be gone */
    int to_fd;       /* tells the child to start one more thread */
    int from_fd;
    size_t num_to_start;
};

static void *thread_wait(void *unused)
{
    (void)unused;
    pause();
    return NULL;
}

static void *thread_end(void *unused)
{
    return unused;
}

static struct error *note_thread(void *context, pid_t pid, pid_t tid)
{
    struct seen *seen = context;
    char byte;

    (void)pid;
    for (size_t i = 0; i < seen->num_tids; i++)
        assert_int_not_equal(seen->tids[i], tid);
    assert_true(seen->num_tids < sizeof(seen->tids) / sizeof(*seen->tids));
    seen->tids[seen->num_tids++] = tid;
    if (seen->num_to_start > 0) {
        seen->num_to_start--;
        assert_int_equal(write(seen->to_fd, "t", 1), 1);
        assert_int_equal(read(seen->from_fd, &byte, 1), 1);
    }
    if (seen->num_tids <= seen->num_gone)
        return error_create(ERROR_GONE, NULL, "gone");
    return NULL;
}

/* Starts 20 threads, then one for each byte that comes. */
static void start_threads(void *context, int fd)
{
    const int *to_fd = context;
    pthread_t thread;
    char byte;

    for (int i = 0; i < 20; i++)
        pthread_create(&thread, NULL, thread_wait, NULL);
    (void)!write(fd, "r", 1);
    while (read(*to_fd, &byte, 1) == 1 && pthread_create(&thread, NULL, thread_wait, NULL) == 0)
        (void)!write(fd, "t", 1);
}

static void threads_that_start_meanwhile_are_found(void **state)
{
    static struct seen seen;
    size_t num_threads;
    int to[2];
    char byte;

    (void)state;
    assert_int_equal(pipe(to), 0);
    struct child_process child = child_start(start_threads, &to[0]);
    child_read(&child, &byte, 1);
    seen = (struct seen){.to_fd = to[1], .from_fd = child.from_fd, .num_to_start = 30};
    assert_success(threads_visit(child.pid, note_thread, &seen, &num_threads));
    assert_int_equal(num_threads, 51);
    assert_int_equal(seen.num_tids, 51);
    child_stop(&child);
    close(to[0]);
    close(to[1]);
}

static void threads_that_end_are_no_error(void **state)
{
    static struct seen seen;
    size_t num_threads;
    int to[2];
    char byte;

    (void)state;
    assert_int_equal(pipe(to), 0);
    struct child_process child = child_start(start_threads, &to[0]);
    child_read(&child, &byte, 1);
    seen = (struct seen){.num_gone = 5};
    assert_success(threads_visit(child.pid, note_thread, &seen, &num_threads));
    assert_int_equal(seen.num_tids, 21);
    assert_int_equal(num_threads, 16);
    child_stop(&child);
    close(to[0]);
    close(to[1]);
}

static struct error *refuse(void *context, pid_t pid, pid_t tid)
{
    (void)context;
    return error_create(ERROR_FAILED, NULL, "no %d %d", (int)pid, (int)tid);
}

static void error_of_the_visitor_ends_it(void **state)
{
    (void)state;
    assert_error(threads_visit(getpid(), refuse, NULL, NULL), ERROR_FAILED, "no ");
}

static void process_that_is_gone_is_said_so(void **state)
{
    static struct seen seen;

    (void)state;
    assert_error(threads_visit(4000001, note_thread, &seen, NULL), ERROR_GONE, "4000001");
}

static void churn(void *context, int fd)
{
    (void)context;
    (void)!write(fd, "r", 1);
    for (;;) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, thread_end, NULL) == 0)
            pthread_join(thread, NULL);
    }
}

static void endless_churn_of_threads_does_not_keep_us(void **state)
{
    static struct seen seen;
    char byte;

    (void)state;
    struct child_process child = child_start(churn, NULL);
    child_read(&child, &byte, 1);
    assert_success(threads_visit(child.pid, note_thread, &seen, NULL));
    assert_true(seen.num_tids >= 1);
    child_stop(&child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_start_meanwhile_are_found),
        cmocka_unit_test(threads_that_end_are_no_error),
        cmocka_unit_test(error_of_the_visitor_ends_it),
        cmocka_unit_test(process_that_is_gone_is_said_so),
        cmocka_unit_test(endless_churn_of_threads_does_not_keep_us),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
