/* Runs two functions that no file contains: jitwork SECONDS [MAP-FILE-DIRECTORY].
 *
 * With a directory it writes perf-PID.map there, as JIT compilers do. Both functions count down in
 * a loop and return; they have no frame pointer and no unwind table. */
#include <sys/mman.h>
#include <unistd.h>

#include "truth.h"

#define FIRST_OFFSET 0x100
#define SECOND_OFFSET 0x800
#define CODE_BYTES 4096

typedef void count_down_fn(uint64_t count);

static void write_map(const char *directory, const uint8_t *code, size_t code_bytes)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/perf-%d.map", directory, (int)getpid());
    FILE *map = fopen(path, "w");
    if (!map)
        exit(3);
    fprintf(map, "%lx %zx jitted_first\n", (unsigned long)(uintptr_t)(code + FIRST_OFFSET),
            code_bytes);
    fprintf(map, "%lx %zx jitted second(int)\n", (unsigned long)(uintptr_t)(code + SECOND_OFFSET),
            code_bytes);
    fclose(map);
}

APART void call_both(uint8_t *code)
{
    ((count_down_fn *)(void *)(code + FIRST_OFFSET))(100000);
    ((count_down_fn *)(void *)(code + SECOND_OFFSET))(300000);
}

int main(int argc, char **argv)
{
    static const uint8_t count_down[] = {0x48, 0xff, 0xcf, /* 1: dec %rdi */
                                         0x75, 0xfb,       /* jnz 1b */
                                         0xc3};            /* ret */
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns();
    uint8_t *code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        return 3;
    memcpy(code + FIRST_OFFSET, count_down, sizeof(count_down));
    memcpy(code + SECOND_OFFSET, count_down, sizeof(count_down));
    if (argc > 2)
        write_map(argv[2], code, sizeof(count_down));
    while (thread_cpu_ns() - start < budget_ns)
        call_both(code);
    truth_begin(1);
    truth_number("pid", (uint64_t)getpid());
    truth_end();
    return 0;
}
