/* Keeps 16 MB in blocks of 128 KB, then does what it is told on its standard input, one letter a
 * line: k keep 4 MB more, f free all, b allocate and free without end; ends with its input. */
#include <poll.h>
#include <unistd.h>

#include "truth.h"

#define BLOCK_BYTES 131072

static void *blocks[4096];
static int num_blocks;
static void *volatile passing; /* so that no allocation is optimized away */

APART void keep_first(void)
{
    for (int i = 0; i < 128; i++)
        blocks[num_blocks++] = malloc(BLOCK_BYTES);
}

APART void keep_more(void)
{
    for (int i = 0; i < 32 && num_blocks < 4096; i++)
        blocks[num_blocks++] = malloc(BLOCK_BYTES);
}

APART void free_all(void)
{
    while (num_blocks)
        free(blocks[--num_blocks]);
}

APART void churn(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    while (poll(&input, 1, 0) == 0) {
        for (int i = 0; i < 10000; i++) {
            passing = malloc(24);
            free(passing);
        }
    }
}

int main(void)
{
    char line[64];

    keep_first();
    for (const char *answer = "ready"; answer; answer = "done") {
        puts(answer);
        fflush(stdout);
        if (!fgets(line, sizeof(line), stdin))
            return 0;
        if (*line == 'k')
            keep_more();
        if (*line == 'f')
            free_all();
        if (*line == 'b')
            churn();
    }
    return 0;
}
