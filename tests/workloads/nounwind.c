/* Nine frames and a leaf, to be built with and without unwind tables, frame pointers, glibc; then
 * the same in children that vfork made: nounwind [SECONDS]. */
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone))

static volatile unsigned long sink;

APART void burn_leaf(long rounds)
{
    for (long i = 0; i < rounds; i++)
        sink += (unsigned long)(i * i);
}

APART void descend(int depth)
{
    volatile long room[7];

    room[0] = depth;
    if (depth > 0)
        descend(depth - 1);
    else
        burn_leaf(2000000);
    sink += (unsigned long)room[0];
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 0.5;

    while ((double)clock() / CLOCKS_PER_SEC < seconds) {
        pid_t child;

        descend(8);
        child = vfork();
        if (child == 0) {
            burn_leaf(200000);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    return sink == 42;
}
