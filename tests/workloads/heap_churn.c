/* Threads that are always in malloc, realloc, calloc and free, and check every byte that they get
 * back: heap-churn FILE [THREADS [plain|forks|seccomp]]. FILE is shared with whoever watches: see
 * struct shared. Ends with 0 when `stop` is set, with 30 at a wrong byte. "forks": a process forks
 * children that do the same for a moment, all the time. "seccomp": any system call that a plain
 * malloc/free loop does not need kills.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "truth.h"

#define NUM_BLOCKS 64
#define OPS_BETWEEN_LOOKS 256

struct shared {
    uint64_t num_ops;
    uint64_t num_wrong;
    uint64_t stop;
    uint64_t num_signals;
    uint64_t num_children;
    uint64_t num_bad_children;
};

struct block {
    unsigned char *bytes;
    size_t size;
    unsigned char value;
};

static struct shared *shared;
static pthread_barrier_t started; /* what a thread's start needs is not allowed later */

static void count_signal(int signal_number)
{
    (void)signal_number;
    __atomic_fetch_add(&shared->num_signals, 1, __ATOMIC_RELAXED);
}

/* Both ends and one place between: enough to see a block that somebody else writes to. */
static int is_whole(const struct block *block)
{
    return block->bytes[0] == block->value && block->bytes[block->size / 2] == block->value &&
           block->bytes[block->size - 1] == block->value;
}

static void fill(struct block *block, uint32_t *seed)
{
    block->value = (unsigned char)next_random(seed);
    memset(block->bytes, block->value, block->size);
}

static size_t random_size(uint32_t *seed)
{
    uint32_t kind = next_random(seed) % 1000;
    if (kind == 0)
        return 1 + next_random(seed) % 300000;
    return 1 + next_random(seed) % (kind < 50 ? 8000 : 300);
}

static void change(struct block *block, uint32_t *seed)
{
    size_t size = random_size(seed);
    int is_zeroed = next_random(seed) % 8 == 0;
    if (block->bytes && !is_whole(block))
        _exit(30);
    if (block->bytes && next_random(seed) % 4 == 0) {
        block->bytes = realloc(block->bytes, size);
        if (block->bytes[0] != block->value)
            _exit(30);
    } else {
        free(block->bytes);
        block->bytes = is_zeroed ? calloc(1, size) : malloc(size);
        if (is_zeroed && (block->bytes[0] || block->bytes[size / 2] || block->bytes[size - 1]))
            _exit(30);
    }
    block->size = size;
    fill(block, seed);
}

static void churn(uint32_t seed, long num_ops)
{
    struct block blocks[NUM_BLOCKS] = {{0}};
    while (num_ops != 0 && !__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
        for (int i = 0; i < OPS_BETWEEN_LOOKS; i++)
            change(&blocks[next_random(&seed) % NUM_BLOCKS], &seed);
        __atomic_fetch_add(&shared->num_ops, OPS_BETWEEN_LOOKS, __ATOMIC_RELAXED);
        num_ops -= num_ops > 0;
    }
    for (int i = 0; i < NUM_BLOCKS; i++) {
        if (blocks[i].bytes && !is_whole(&blocks[i]))
            _exit(30);
        free(blocks[i].bytes);
    }
}

static void *run_thread(void *number)
{
    pthread_barrier_wait(&started);
    churn((uint32_t)(uintptr_t)number, -1);
    return NULL;
}

static void fork_all_the_time(void)
{
    for (uint32_t i = 1; !__atomic_load_n(&shared->stop, __ATOMIC_RELAXED); i++) {
        int status = -1;
        pid_t child = fork();
        if (child < 0)
            _exit(31);
        if (child == 0) {
            churn(i, 4);
            _exit(0);
        }
        while (waitpid(child, &status, 0) < 0)
            ;
        shared->num_children++;
        shared->num_bad_children += status != 0;
    }
}

/* What glibc's allocator and this program need, and no more. */
static void allow_little(void)
{
    static const int allowed[] = {SYS_write,    SYS_exit,   SYS_exit_group,   SYS_brk,
                                  SYS_mmap,     SYS_munmap, SYS_mremap,       SYS_madvise,
                                  SYS_mprotect, SYS_futex,  SYS_rt_sigreturn, SYS_rt_sigprocmask};
    enum { NUM = sizeof(allowed) / sizeof(allowed[0]) };
    struct sock_filter code[NUM + 3];
    size_t length = 0;
    code[length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < NUM; i++)
        code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                      (uint32_t)allowed[i], (uint8_t)(NUM - i), 0);
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)length, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        _exit(32);
}

static void interrupt_often(void)
{
    struct itimerval often = {{0, 2000}, {0, 2000}};
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
}

int main(int argc, char **argv)
{
    long num_threads = (long)argument(argc, argv, 2, 4);
    const char *kind = argc > 3 ? argv[3] : "plain";
    pthread_t threads[256];
    int file = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0666) : -1;
    if (file < 0 || ftruncate(file, sizeof(*shared)) != 0 || num_threads < 1 || num_threads > 256)
        return 2;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED)
        return 2;
    if (strcmp(kind, "seccomp") != 0)
        interrupt_often();
    else
        mallopt(M_ARENA_MAX, 1); /* others open a file of /proc when they shrink */
    pthread_barrier_init(&started, NULL, (unsigned)num_threads);
    for (long i = 1; i < num_threads; i++)
        if (pthread_create(&threads[i], NULL, run_thread, (void *)(uintptr_t)(i + 100)) != 0)
            return 3;
    pthread_barrier_wait(&started);
    if (strcmp(kind, "seccomp") == 0)
        allow_little();
    if (write(1, "ready\n", 6) != 6)
        return 4;
    if (strcmp(kind, "forks") == 0)
        fork_all_the_time();
    else
        churn(99, -1);
    for (long i = 1; i < num_threads; i++)
        pthread_join(threads[i], NULL);
    _exit(shared->num_wrong != 0 || shared->num_bad_children != 0);
}
