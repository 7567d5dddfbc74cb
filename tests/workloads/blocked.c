/* Threads asleep in calls that return EINTR when a debugger touches them: blocked.
 *
 * epoll_wait, recv with a timeout, semtimedop and sigtimedwait, until a byte comes on stdin. The
 * truth is how often each ended with EINTR: 0, unless somebody interrupted. Source: signal(7).
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "truth.h"

enum { IN_EPOLL, IN_RECV, IN_SEMTIMEDOP, IN_SIGTIMEDWAIT, NUM_CALLS };

static uint64_t interrupted[NUM_CALLS];
static _Atomic int stop;
static int pair[2], semaphore;

static void *wait_in_epoll(void *nothing)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event);
    while (!stop)
        if (epoll_wait(epoll, &event, 1, 60000) < 0)
            interrupted[IN_EPOLL] += errno == EINTR;
    return nothing;
}

static void *wait_in_recv(void *nothing)
{
    struct timeval limit = {60, 0};
    char byte;
    setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    while (!stop)
        if (recv(pair[1], &byte, 1, 0) < 0)
            interrupted[IN_RECV] += errno == EINTR;
    return nothing;
}

static void *wait_in_semtimedop(void *nothing)
{
    struct sembuf take = {.sem_op = -1};
    struct timespec limit = {60, 0};
    while (!stop)
        if (semtimedop(semaphore, &take, 1, &limit) < 0)
            interrupted[IN_SEMTIMEDOP] += errno == EINTR;
    return nothing;
}

static void *wait_in_sigtimedwait(void *nothing)
{
    struct timespec limit = {60, 0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    while (!stop)
        if (sigtimedwait(&set, NULL, &limit) < 0)
            interrupted[IN_SIGTIMEDWAIT] += errno == EINTR;
    return nothing;
}

int main(void)
{
    void *(*const calls[])(void *) = {wait_in_epoll, wait_in_recv, wait_in_semtimedop,
                                      wait_in_sigtimedwait};
    pthread_t threads[NUM_CALLS];
    sigset_t set;
    char byte;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    semaphore = semget(IPC_PRIVATE, 1, 0600);
    if (semaphore < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return 3;
    for (int i = 0; i < NUM_CALLS; i++)
        pthread_create(&threads[i], NULL, calls[i], NULL);
    usleep(100000);
    puts("ready");
    fflush(stdout);
    if (read(0, &byte, 1) < 0)
        return 4;
    stop = 1;
    uint64_t counts[NUM_CALLS];
    memcpy(counts, interrupted, sizeof(counts));
    if (write(pair[1], "x", 1) != 1 || write(pair[0], "x", 1) != 1)
        return 5;
    semctl(semaphore, 0, IPC_RMID);
    pthread_kill(threads[IN_SIGTIMEDWAIT], SIGUSR1);
    for (int i = 0; i < NUM_CALLS; i++)
        pthread_join(threads[i], NULL);
    truth_begin(0);
    truth_number("epoll_wait", counts[IN_EPOLL]);
    truth_number("recv", counts[IN_RECV]);
    truth_number("semtimedop", counts[IN_SEMTIMEDOP]);
    truth_number("sigtimedwait", counts[IN_SIGTIMEDWAIT]);
    truth_end();
    return 0;
}
