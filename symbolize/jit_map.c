#include "symbolize/jit_map.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "symbolize/interval_map.h"
#include "symbolize/root_file.h"
#include "symbolize/symbolize.h"

#define JIT_MAP_MAX_FILE_BYTES ((size_t)256 << 20)

struct jit_map {
    char *text;         /* the file; names point into it */
    const char **names; /* by item number */
    size_t num_names, names_capacity;
    struct interval_map ranges;
};

DEFINE_CLEANUP(jit_map_destroy, struct jit_map *)

/* Reads hex digits (with or without 0x) up to a blank. Returns: behind the blank, NULL when it is
 * no number of at most 64 bits. */
static char *parse_hex(char *at, uint64_t *value_ret)
{
    uint64_t value = 0;
    char *first;

    if (at[0] == '0' && (at[1] == 'x' || at[1] == 'X'))
        at += 2;
    for (first = at; *at && *at != ' ' && *at != '\t'; at++) {
        unsigned digit = (unsigned char)*at;

        if (digit - '0' <= 9)
            digit -= '0';
        else if ((digit | 0x20) - 'a' <= 5)
            digit = (digit | 0x20) - 'a' + 10;
        else
            return NULL;
        if (value >> 60)
            return NULL;
        value = value << 4 | digit;
    }
    if (at == first || !*at)
        return NULL;
    *value_ret = value;
    return at + 1;
}

static bool parse_line(char *line, struct interval *interval_ret, const char **name_ret)
{
    uint64_t start;
    uint64_t num_bytes;
    char *at = parse_hex(line, &start);

    if (!at)
        return false;
    at = parse_hex(at, &num_bytes);
    if (!at || !*at || num_bytes == 0 || start + num_bytes < start)
        return false;
    *interval_ret = (struct interval){.start = start, .limit = start + num_bytes};
    *name_ret = at;
    return true;
}

static struct error *parse_lines(struct jit_map *map, size_t num_bytes)
{
    CLEANUP(free) struct interval *intervals = NULL;
    size_t capacity = 0;
    char *limit = map->text + num_bytes;

    for (char *line = map->text; line < limit;) {
        char *end = memchr(line, '\n', (size_t)(limit - line));
        struct interval interval;
        const char *name;

        if (!end)
            end = limit;
        *end = '\0';
        if (map->num_names < UINT32_MAX && parse_line(line, &interval, &name)) {
            size_t item = map->num_names;

            RETURN_IF_ERROR(array_reserve(&intervals, &capacity, item + 1, sizeof(*intervals)));
            RETURN_IF_ERROR(
                array_reserve(&map->names, &map->names_capacity, item + 1, sizeof(*map->names)));
            interval.item = (uint32_t)item;
            interval.priority = item; /* the last entry written for an address wins */
            intervals[item] = interval;
            map->names[map->num_names++] = name;
        }
        line = end + 1;
    }
    return interval_map_build(intervals, map->num_names, &map->ranges);
}

struct error *jit_map_parse_take(char *text, size_t num_bytes, struct jit_map **map_ret)
{
    CLEANUP(free) char *owned = text;
    CLEANUP(jit_map_destroy) struct jit_map *map = calloc(1, sizeof(*map));

    if (!map)
        return &error_no_memory;
    map->text = take_ptr(owned);
    RETURN_IF_ERROR(parse_lines(map, num_bytes));
    *map_ret = take_ptr(map);
    return NULL;
}

void jit_map_destroy(struct jit_map *map)
{
    if (!map)
        return;
    interval_map_deinit(&map->ranges);
    free(map->names);
    free(map->text);
    free(map);
}

const char *jit_map_find(const struct jit_map *map, uint64_t pc)
{
    const struct interval_segment *segment = interval_map_find(&map->ranges, pc);

    return segment ? map->names[segment->item] : NULL;
}

size_t jit_map_count(const struct jit_map *map)
{
    return map->num_names;
}

/* Steps back over ":DIGITS". Returns: where the colon is; NULL when there is none. */
static const char *number_before(const char *start, const char *end, long *value_ret)
{
    const char *at = end;

    while (at > start && at[-1] >= '0' && at[-1] <= '9')
        at--;
    if (at == end || end - at > 9 || at == start || at[-1] != ':')
        return NULL;
    *value_ret = strtol(at, NULL, 10);
    return at - 1;
}

void jit_name_place(const char *name, struct arena *arena, struct symbol *symbol)
{
    static const char *const beginnings[] = {"/", "file:///", "node:"};
    long line;
    const char *end = number_before(name, name + strlen(name), &line);
    const char *before = end ? number_before(name, end, &line) : NULL;

    if (before) /* with a column, as node 20 does; node 18 writes the line only */
        end = before;
    for (const char *at = end ? strchr(name, ' ') : NULL; at && at < end;
         at = strchr(at + 1, ' ')) {
        for (size_t i = 0; i < ARRAY_LENGTH(beginnings); i++) {
            const char *path = at + 1;
            const char *copy;

            if (strncmp(path, beginnings[i], strlen(beginnings[i])) != 0)
                continue;
            if (i == 1)
                path += strlen("file://");
            copy = path < end ? arena_copy(arena, path, (size_t)(end - path)) : NULL;
            if (copy) {
                symbol->filename = copy;
                symbol->start_line = line;
            }
            return;
        }
    }
}

/* A file left behind by an earlier process of the same pid names other code: it must have been
 * written since this process started. */
static bool is_written_by(const struct process *process, const struct stat *status)
{
    struct timespec realtime;
    struct timespec since_boot;
    long ticks_per_s = sysconf(_SC_CLK_TCK);

    if (status->st_uid != 0 && status->st_uid != process->uid)
        return false;
    if (process->start_time_ticks == 0 || ticks_per_s <= 0)
        return true;
    clock_gettime(CLOCK_REALTIME, &realtime);
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    return status->st_mtime + 2 >= realtime.tv_sec - since_boot.tv_sec +
                                       (time_t)(process->start_time_ticks / (uint64_t)ticks_per_s);
}

/* Opens the map of a process. Returns: -1 when there is none, or one that can't be trusted. */
static int open_map_file(const struct process *process, bool *is_refused_ret)
{
    uint32_t inner_pid = process->ns_pid ? process->ns_pid : process->pid;
    char live_root[40];
    const char *root = live_root;
    char path[40];
    struct stat status;
    int fd;

    snprintf(live_root, sizeof(live_root), "/proc/%u/root", process->pid);
    snprintf(path, sizeof(path), "/tmp/perf-%u.map", inner_pid);
    if (process->root && process->root[0])
        root = process->root;
    fd = root_file_open(root, path, false, &status);
    if (fd < 0) {
        snprintf(path, sizeof(path), "/tmp/perf-%u.map", process->pid);
        fd = root_file_open("", path, false, &status);
    }
    *is_refused_ret = fd >= 0 && !is_written_by(process, &status);
    if (*is_refused_ret) {
        log_warning("%s is not used: it belongs to uid %u or is older than process %u", path,
                    (unsigned)status.st_uid, process->pid);
        close(fd);
        return -1;
    }
    return fd;
}

bool jit_map_is_refused(const struct process *process)
{
    bool is_refused;
    CLEANUP(close) UNUSED int fd = open_map_file(process, &is_refused);

    return is_refused;
}

/* The source: the table and where its strings go. */
struct map_state {
    struct jit_map *map;
    struct arena *arena;
};

static struct error *jit_map_open(const struct symbolize_input *input, void **state_ret)
{
    CLEANUP(close) int fd = -1;
    CLEANUP(free) char *text = NULL;
    CLEANUP(jit_map_destroy) struct jit_map *map = NULL;
    struct map_state *state;
    char path[40];
    size_t num_bytes;
    bool is_refused;

    *state_ret = NULL;
    if (!input->process)
        return NULL;
    fd = open_map_file(input->process, &is_refused);
    if (fd < 0)
        return NULL;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    RETURN_IF_ERROR(file_read_all(AT_FDCWD, path, JIT_MAP_MAX_FILE_BYTES, &text, &num_bytes));
    RETURN_IF_ERROR(jit_map_parse_take(take_ptr(text), num_bytes, &map));
    state = malloc(sizeof(*state));
    if (!state)
        return &error_no_memory;
    *state = (struct map_state){.map = take_ptr(map), .arena = input->arena};
    *state_ret = state;
    return NULL;
}

static bool jit_map_lookup(void *state, uint64_t pc, struct symbol_frames *frames_ret)
{
    const struct map_state *opened = state;
    const char *name = jit_map_find(opened->map, pc);

    if (!name)
        return false;
    frames_ret->num_symbols = 1;
    frames_ret->symbols[0] =
        (struct symbol){.name = name, .system_name = name, .filename = "", .is_final = true};
    jit_name_place(name, opened->arena, &frames_ret->symbols[0]);
    return true;
}

static void jit_map_close(void *state)
{
    struct map_state *opened = state;

    jit_map_destroy(opened->map);
    free(opened);
}

const struct symbolize_ops symbolize_jit_map = {
    .name = "perf-PID.map",
    .open = jit_map_open,
    .lookup = jit_map_lookup,
    .close = jit_map_close,
};
