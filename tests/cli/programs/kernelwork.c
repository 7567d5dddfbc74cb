/* Works in the kernel and in the vdso: kernelwork [SECONDS]. */
#include <fcntl.h>
#include <unistd.h>

#include "truth.h"

APART uint64_t read_zeros(int fd)
{
    static char bytes[1 << 18];
    return (uint64_t)read(fd, bytes, sizeof(bytes)) + (uint64_t)bytes[7];
}

APART uint64_t ask_the_time(long rounds)
{
    uint64_t x = 0;
    for (long i = 0; i < rounds; i++)
        x += clock_now_ns(CLOCK_MONOTONIC);
    return x;
}

int main(int argc, char **argv)
{
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns(),
             x = 1;
    int fd = open("/dev/zero", O_RDONLY);
    while (thread_cpu_ns() - start < budget_ns)
        x += read_zeros(fd) + ask_the_time(3000);
    truth_begin(x);
    truth_end();
    return 0;
}
