#include "sampler/cpu_list.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
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

/* Marks all CPUs that `text` names in `is_listed`, which has CPU_LIST_MAX_CPUS entries.
 * limit_ret: one more than the highest of them. */
static bool mark_cpus(const char *text, bool *is_listed, uint32_t *limit_ret)
{
    uint32_t limit = 0;
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
        if (last >= limit)
            limit = last + 1;
        if (*text != ',')
            break;
        text++;
    }
    while (isspace((unsigned char)*text))
        text++;
    *limit_ret = limit;
    return *text == '\0';
}

struct error *cpu_list_parse(const char *text, struct cpu_list *list_ret)
{
    CLEANUP(free) bool *is_listed = calloc(CPU_LIST_MAX_CPUS, sizeof(*is_listed));
    size_t num_cpus = 0;
    uint32_t limit;
    uint32_t *cpus;

    if (!is_listed)
        return &error_no_memory;
    if (!mark_cpus(text, is_listed, &limit))
        return error_create(ERROR_USAGE, "write it like 0-3,8", "\"%.64s\" is no list of CPUs",
                            text);
    for (uint32_t cpu = 0; cpu < limit; cpu++)
        num_cpus += is_listed[cpu];
    cpus = calloc(num_cpus, sizeof(*cpus));
    if (!cpus)
        return &error_no_memory;
    list_ret->cpus = cpus;
    list_ret->num_cpus = num_cpus;
    for (uint32_t cpu = 0; cpu < limit; cpu++) {
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

bool cpu_list_has(const struct cpu_list *list, uint32_t cpu)
{
    size_t position = array_search(list->num_cpus, at, list->cpus[at] < cpu);

    return position < list->num_cpus && list->cpus[position] == cpu;
}

void cpu_list_format(const struct cpu_list *list, char *text, size_t text_bytes)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < list->num_cpus;) {
        char range[32];
        size_t last = i;

        while (last + 1 < list->num_cpus && list->cpus[last + 1] == list->cpus[last] + 1)
            last++;
        if (last == i)
            snprintf(range, sizeof(range), "%s%u", i ? "," : "", list->cpus[i]);
        else
            snprintf(range, sizeof(range), "%s%u-%u", i ? "," : "", list->cpus[i],
                     list->cpus[last]);
        if (used + strlen(range) + sizeof("...") > text_bytes) {
            snprintf(text + used, text_bytes - used, "...");
            return;
        }
        used += (size_t)snprintf(text + used, text_bytes - used, "%s", range);
        i = last + 1;
    }
}

struct error *cpu_list_check_online(const struct cpu_list *wanted)
{
    struct cpu_list online = {0};
    CLEANUP(cpu_list_deinit) UNUSED struct cpu_list *guard = &online;
    char text[128];
    char hint[160];
    char path[64];

    RETURN_IF_ERROR(cpu_list_online(&online));
    cpu_list_format(&online, text, sizeof(text));
    snprintf(hint, sizeof(hint), "online are: %s", text);
    for (size_t i = 0; i < wanted->num_cpus; i++) {
        uint32_t cpu = wanted->cpus[i];

        if (cpu_list_has(&online, cpu))
            continue;
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u", cpu);
        return error_create(ERROR_NOT_FOUND, hint,
                            access(path, F_OK) ? "there is no CPU %u" : "CPU %u is offline", cpu);
    }
    return NULL;
}

void cpu_list_deinit(struct cpu_list *list)
{
    free(list->cpus);
    *list = (struct cpu_list){0};
}
