#include "sampler/cpu_list.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

/* Reads one decimal number below CPU_LIST_MAX_CPUS and steps over it. */
static bool parse_number(const char **text, uint32_t *number_ret)
{
    uint32_t number = 0;
    const char *digit = *text;

    if (!isdigit((unsigned char)*digit))
        return false;
    for (; isdigit((unsigned char)*digit); digit++) {
        number = number * 10 + (uint32_t)(*digit - '0');
        if (number >= CPU_LIST_MAX_CPUS)
            return false;
    }
    *text = digit;
    *number_ret = number;
    return true;
}

/* Marks all CPUs that `text` names in `is_listed`, which has CPU_LIST_MAX_CPUS entries. */
static bool mark_cpus(const char *text, bool *is_listed)
{
    uint32_t first;
    uint32_t last;

    for (;;) {
        if (!parse_number(&text, &first))
            return false;
        last = first;
        if (*text == '-') {
            text++;
            if (!parse_number(&text, &last) || last < first)
                return false;
        }
        memset(is_listed + first, true, last - first + 1);
        if (*text != ',')
            break;
        text++;
    }
    while (isspace((unsigned char)*text))
        text++;
    return *text == '\0';
}

struct error *cpu_list_parse(const char *text, struct cpu_list *list_ret)
{
    CLEANUP(free) bool *is_listed = calloc(CPU_LIST_MAX_CPUS, sizeof(*is_listed));
    size_t num_cpus = 0;
    uint32_t *cpus;

    if (!is_listed)
        return &error_no_memory;
    if (!mark_cpus(text, is_listed))
        return error_create(ERROR_USAGE, "write it like 0-3,8", "\"%.64s\" is no list of CPUs",
                            text);
    for (uint32_t cpu = 0; cpu < CPU_LIST_MAX_CPUS; cpu++)
        num_cpus += is_listed[cpu];
    cpus = calloc(num_cpus, sizeof(*cpus));
    if (!cpus)
        return &error_no_memory;
    list_ret->cpus = cpus;
    list_ret->num_cpus = num_cpus;
    for (uint32_t cpu = 0; cpu < CPU_LIST_MAX_CPUS; cpu++) {
        if (is_listed[cpu])
            *cpus++ = cpu;
    }
    return NULL;
}

struct error *cpu_list_online(struct cpu_list *list_ret)
{
    static const char path[] = "/sys/devices/system/cpu/online";
    CLEANUP(free) char *text = NULL;
    CLEANUP(error_destroy) struct error *err = NULL;
    char fallback[32];
    long num_online;

    err = file_read_all(AT_FDCWD, path, 64 * 1024, &text, NULL);
    if (!err)
        return error_prefix_take(cpu_list_parse(text, list_ret), "%s", path);
    /* A container may hide /sys; then CPUs are taken to be numbered without holes. */
    num_online = sysconf(_SC_NPROCESSORS_ONLN);
    if (num_online < 1 || num_online > CPU_LIST_MAX_CPUS)
        return take_ptr(err);
    snprintf(fallback, sizeof(fallback), "0-%ld", num_online - 1);
    return cpu_list_parse(fallback, list_ret);
}

void cpu_list_deinit(struct cpu_list *list)
{
    free(list->cpus);
    *list = (struct cpu_list){0};
}
