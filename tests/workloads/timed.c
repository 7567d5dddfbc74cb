/* Runs a command and writes when it started and ended and what it cost: timed FILE COMMAND
 * [ARGS...]. Stands between a recorder and its target, so that both can be measured apart. Times
 * are CLOCK_MONOTONIC. Source: wait4(2). */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "truth.h"

int main(int argc, char **argv)
{
    uint64_t start = clock_now_ns(CLOCK_MONOTONIC), end;
    struct rusage usage;
    int status;
    if (argc < 3)
        return 2;
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child)
        return 3;
    end = clock_now_ns(CLOCK_MONOTONIC);
    FILE *out = fopen(argv[1], "w");
    if (!out)
        return 4;
    fprintf(out, "{\"start\": %.9f, \"end\": %.9f, \"cpu\": %.6f, \"wall\": %.9f}\n",
            (double)start / 1e9, (double)end / 1e9,
            (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
            (double)(end - start) / 1e9);
    fclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
