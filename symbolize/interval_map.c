#include "symbolize/interval_map.h"

#include <stdlib.h>

#include "base/array.h"
#include "base/cleanup.h"

/* The ranges that cover the sweep's position, the one with the largest priority on top (binary
 * heap). */
struct active {
    const struct interval **heap;
    size_t num;
};

static int interval_compare_start(const void *left, const void *right)
{
    const struct interval *a = left;
    const struct interval *b = right;

    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    return 0;
}

static void active_push(struct active *active, const struct interval *interval)
{
    size_t at = active->num++;

    while (at > 0 && active->heap[(at - 1) / 2]->priority < interval->priority) {
        active->heap[at] = active->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    active->heap[at] = interval;
}

static void active_pop(struct active *active)
{
    const struct interval *last = active->heap[--active->num];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= active->num)
            break;
        if (child + 1 < active->num &&
            active->heap[child + 1]->priority > active->heap[child]->priority)
            child++;
        if (active->heap[child]->priority <= last->priority)
            break;
        active->heap[at] = active->heap[child];
        at = child;
    }
    active->heap[at] = last;
}

static void segments_add(struct interval_map *map, uint64_t start, uint64_t limit, uint32_t item)
{
    struct interval_segment *last =
        map->num_segments > 0 ? &map->segments[map->num_segments - 1] : NULL;

    if (last && last->limit == start && last->item == item) {
        last->limit = limit;
        return;
    }
    /* 2n segments were reserved; the analyser can't know. NOLINTNEXTLINE(clang-analyzer-core.*) */
    map->segments[map->num_segments++] = (struct interval_segment){start, limit, item};
}

/* Every turn takes a range off the heap or moves to the start of the next one, and emits at most
 * one segment: hence 2n segments are enough. */
static void sweep(const struct interval *intervals, size_t num, struct active *active,
                  struct interval_map *map)
{
    uint64_t position = 0;
    size_t next = 0;

    for (;;) {
        while (active->num > 0 && active->heap[0]->limit <= position)
            active_pop(active);
        if (active->num == 0) {
            if (next == num)
                return;
            position = intervals[next].start;
        } else {
            const struct interval *top = active->heap[0];
            uint64_t limit = top->limit;

            if (next < num && intervals[next].start < limit)
                limit = intervals[next].start;
            if (limit > position)
                segments_add(map, position, limit, top->item);
            position = limit;
        }
        for (; next < num && intervals[next].start <= position; next++) {
            if (intervals[next].limit > position)
                active_push(active, &intervals[next]);
        }
    }
}

struct error *interval_map_build(struct interval *intervals, size_t num_intervals,
                                 struct interval_map *map_ret)
{
    struct interval_map map = {0};
    CLEANUP(free) const struct interval **heap = NULL;
    size_t heap_capacity = 0;
    size_t capacity = 0;

    if (num_intervals > 0) {
        RETURN_IF_ERROR(array_reserve(&heap, &heap_capacity, num_intervals, sizeof(*heap)));
        if (num_intervals > SIZE_MAX / 2)
            return &error_no_memory;
        RETURN_IF_ERROR(
            array_reserve(&map.segments, &capacity, 2 * num_intervals, sizeof(*map.segments)));
        qsort(intervals, num_intervals, sizeof(*intervals), interval_compare_start);
        sweep(intervals, num_intervals, &(struct active){.heap = heap}, &map);
    }
    if (map.num_segments < capacity / 2) {
        void *smaller = realloc(map.segments, (map.num_segments + 1) * sizeof(*map.segments));

        if (smaller)
            map.segments = smaller;
    }
    *map_ret = map;
    return NULL;
}

void interval_map_deinit(struct interval_map *map)
{
    free(map->segments);
    *map = (struct interval_map){0};
}

const struct interval_segment *interval_map_find(const struct interval_map *map, uint64_t elf_addr)
{
    size_t next = array_search(map->num_segments, at, map->segments[at].start <= elf_addr);

    if (next == 0 || elf_addr >= map->segments[next - 1].limit)
        return NULL;
    return &map->segments[next - 1];
}
