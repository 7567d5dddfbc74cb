/* A process for heap tests: a child that calls the C library's malloc and free when it is told to,
 * and where breakpoints go in them. */
#ifndef TESTS_UNIT_SAMPLER_HEAP_TARGET_H
#define TESTS_UNIT_SAMPLER_HEAP_TARGET_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sampler/heap.h"

/* The functions of libc itself, behind the back of compilers and sanitizers. */
struct heap_libc {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*realloc)(void *, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    int fd; /* of its file */
    struct heap_site sites[4];
};

static int heap_find_offset(struct dl_phdr_info *info, size_t num_bytes, void *context)
{
    uint64_t *address = context;

    (void)num_bytes;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uint64_t from = *address - info->dlpi_addr - segment->p_vaddr;

        if (segment->p_type == PT_LOAD && from < segment->p_memsz) {
            *address = from + segment->p_offset;
            return 1;
        }
    }
    return 0;
}

/* A site at the start of a function, or where that is a `test %rdi, %rdi`, which the kernel has to
 * step, behind it: there is the jump for it. */
static inline struct heap_site heap_site_of(const void *function, enum allocator_role role)
{
    static const uint8_t test[] = {0x48, 0x85, 0xff};
    bool is_slid = memcmp(function, test, sizeof(test)) == 0;
    uint64_t offset = (uintptr_t)function + (is_slid ? sizeof(test) : 0);

    if (!dl_iterate_phdr(heap_find_offset, &offset))
        abort();
    return (struct heap_site){.name = "test", .file_off = offset, .role = role};
}

/* Looks them up. Returns: false when this is no glibc. */
static inline bool heap_libc_find(struct heap_libc *libc_ret)
{
    void *handle = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    struct heap_libc libc = {.fd = -1};
    Dl_info info;

    if (!handle)
        return false;
    *(void **)&libc.malloc = dlsym(handle, "malloc");
    *(void **)&libc.free = dlsym(handle, "free");
    *(void **)&libc.realloc = dlsym(handle, "realloc");
    *(void **)&libc.posix_memalign = dlsym(handle, "posix_memalign");
    if (!dladdr(*(void **)&libc.malloc, &info))
        return false;
    libc.fd = open(info.dli_fname, O_RDONLY | O_CLOEXEC);
    libc.sites[0] = heap_site_of(*(void **)&libc.malloc, ALLOCATOR_MALLOC);
    libc.sites[1] = heap_site_of(*(void **)&libc.free, ALLOCATOR_FREE);
    libc.sites[2] = heap_site_of(*(void **)&libc.realloc, ALLOCATOR_REALLOC);
    libc.sites[2].null_passes_on = true; /* it jumps to malloc then */
    libc.sites[0].num_callers = 1;       /* and may call it else */
    libc.sites[0].callers[0].start =
        (int64_t)((uintptr_t) * (void **)&libc.realloc - (uintptr_t) * (void **)&libc.malloc);
    libc.sites[0].callers[0].limit = libc.sites[0].callers[0].start + 1400;
    libc.sites[3] = heap_site_of(*(void **)&libc.posix_memalign, ALLOCATOR_POSIX_MEMALIGN);
    *libc_ret = libc;
    return libc.fd >= 0;
}

/* The child with our end of a socket. */
struct heap_child {
    pid_t pid;
    int fd;
};

/* What the child runs: step(libc, number) each time it is told to go on. */
typedef void heap_step_fn(const struct heap_libc *libc, int number);

static inline struct heap_child heap_child_start(const struct heap_libc *libc, heap_step_fn *step)
{
    struct heap_child child;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        abort();
    child = (struct heap_child){.pid = fork(), .fd = fds[0]};
    if (child.pid == 0) {
        char byte;

        close(fds[0]);
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        for (int number = 0; read(fds[1], &byte, 1) == 1; number++) {
            step(libc, number);
            if (write(fds[1], "", 1) != 1)
                break;
        }
        _exit(0);
    }
    close(fds[1]);
    return child;
}

/* Lets the child take its next step, and waits for its end. Returns: false when it has died. */
static inline bool heap_child_step(const struct heap_child *child)
{
    char byte;

    return send(child->fd, "", 1, MSG_NOSIGNAL) == 1 && recv(child->fd, &byte, 1, 0) == 1;
}

/* Ends the child. Returns: its wait status. */
static inline int heap_child_end(const struct heap_child *child)
{
    int status = -1;

    close(child->fd);
    waitpid(child->pid, &status, 0);
    return status;
}

#endif
