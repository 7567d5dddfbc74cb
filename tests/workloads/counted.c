/* Makes a known number of events in functions that have names: counted pages|switches|calls
 * [NUMBER]. pages: NUMBER first touches in touch_quarter() for three times as many in
 * touch_three_quarters(). switches: NUMBER short sleeps. calls: NUMBER times getppid(2). */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "truth.h"

#define PAGE_BYTES 4096
#define MAX_BLOCK_PAGES 1000

static volatile uint64_t result;

APART void touch_quarter(volatile char *memory, long num_pages)
{
    for (long i = 0; i < num_pages; i++)
        memory[i * PAGE_BYTES] = 1;
    result += 1;
}

APART void touch_three_quarters(volatile char *memory, long num_pages)
{
    for (long i = 0; i < 3 * num_pages; i++)
        memory[i * PAGE_BYTES] = 1;
    result += 3;
}

/* Touches new memory block by block, so that it needs little at a time. */
APART int touch_pages(long num_pages)
{
    for (long left = num_pages; left > 0; left -= MAX_BLOCK_PAGES) {
        long block = left < MAX_BLOCK_PAGES ? left : MAX_BLOCK_PAGES;
        size_t num_bytes = (size_t)block * 4 * PAGE_BYTES;
        char *memory =
            mmap(NULL, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (memory == MAP_FAILED || madvise(memory, num_bytes, MADV_NOHUGEPAGE) != 0)
            return 3;
        touch_quarter(memory, block);
        touch_three_quarters(memory + block * PAGE_BYTES, block);
        munmap(memory, num_bytes);
    }
    return 0;
}

APART void sleep_often(long number)
{
    const struct timespec short_time = {.tv_nsec = 20000};

    for (long i = 0; i < number; i++)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &short_time, NULL);
    result += 1;
}

APART void call_often(long number)
{
    for (long i = 0; i < number; i++)
        syscall(SYS_getppid);
    result += 1;
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "pages";
    long number = (long)argument(argc, argv, 2, 1000);
    struct rusage usage;
    int status = 0;

    if (strcmp(kind, "pages") == 0)
        status = touch_pages(number);
    else if (strcmp(kind, "switches") == 0)
        sleep_often(number);
    else
        call_often(number);
    getrusage(RUSAGE_SELF, &usage);
    truth_begin(result);
    truth_number("faults", (uint64_t)(usage.ru_minflt + usage.ru_majflt));
    truth_number("switches", (uint64_t)(usage.ru_nvcsw + usage.ru_nivcsw));
    truth_end();
    return status;
}
