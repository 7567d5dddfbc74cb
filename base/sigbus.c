#include "base/sigbus.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_ulong sigbus_num_pages;
static uintptr_t sigbus_page_bytes;

/* mmap is not in the list of signal-safety(7), but on Linux it is a bare system call. */
static void sigbus_handle(int signal_number, siginfo_t *info, void *context)
{
    int saved_errno = errno;

    (void)context;
    if (info->si_code == BUS_ADRERR && info->si_addr) {
        uintptr_t page = (uintptr_t)info->si_addr & ~(sigbus_page_bytes - 1);
        void *zeros = mmap((void *)page, sigbus_page_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (zeros != MAP_FAILED) {
            atomic_fetch_add(&sigbus_num_pages, 1);
            errno = saved_errno;
            return;
        }
    }
    /* Not ours: the instruction faults again, now with the default action; a SIGBUS that someone
     * sent (si_code <= 0) is sent on. */
    signal(signal_number, SIG_DFL);
    if (info->si_code <= 0)
        raise(signal_number);
    errno = saved_errno;
}

void sigbus_guard_install(void)
{
    struct sigaction action = {.sa_sigaction = sigbus_handle, .sa_flags = SA_SIGINFO | SA_RESTART};

    sigbus_page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL); /* fails only for invalid arguments */
}

unsigned long sigbus_guard_count(void)
{
    return atomic_load(&sigbus_num_pages);
}
