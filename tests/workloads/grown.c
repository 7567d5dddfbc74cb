/* Three functions that make 8, 24 and 48 MB resident, page by page: grown. */
#include <sys/mman.h>
#include <unistd.h>

#include "truth.h"

/* Fresh memory without huge pages, so that each page is one fault. */
static char *fresh(size_t bytes)
{
    char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED || madvise(start, bytes, MADV_NOHUGEPAGE) != 0)
        _exit(3);
    return start;
}

/* Not faster than a recorder can follow: each fault may be a sample. */
#define TOUCH(name)                                    \
    APART void touch_##name(char *start, size_t bytes) \
    {                                                  \
        for (size_t i = 0; i < bytes; i += 4096) {     \
            start[i] = 1;                              \
            if (i % (1u << 17) == 0)                   \
                usleep(2000);                          \
        }                                              \
    }
TOUCH(eight)
TOUCH(twenty_four)
TOUCH(forty_eight)

int main(void)
{
    touch_eight(fresh(8u << 20), 8u << 20);
    touch_twenty_four(fresh(24u << 20), 24u << 20);
    touch_forty_eight(fresh(48u << 20), 48u << 20);
    truth_begin(0);
    truth_number("touch_eight", 8u << 20);
    truth_number("touch_twenty_four", 24u << 20);
    truth_number("touch_forty_eight", 48u << 20);
    truth_end();
    return 0;
}
