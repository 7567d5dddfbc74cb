#include "cmd/growth.h"

#include <unistd.h>

#include "profile/heap.h"

struct error *growth_choose(uint64_t interval, uint64_t rate_bytes,
                            struct growth_settings *settings_ret)
{
    struct option_list words = {.values = {"page-faults"}, .num_values = 1};
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);

    if (!interval)
        interval = (rate_bytes ? rate_bytes : GROWTH_DEFAULT_RATE_BYTES) / page_bytes;
    return events_choose(&words, 0, interval ? interval : 1, true, &settings_ret->events);
}

/* A sample stands for so many faults, each of which made one page resident, at least. */
static void set_values(const struct event_list *list, size_t event, uint64_t weight,
                       int64_t *values)
{
    int64_t page_bytes = sysconf(_SC_PAGESIZE);

    (void)list;
    (void)event;
    values[0] = weight < INT64_MAX ? (int64_t)weight : INT64_MAX;
    if (__builtin_mul_overflow(values[0], page_bytes, &values[1]))
        values[1] = INT64_MAX;
}

struct error *growth_init_recorder(const struct growth_settings *settings,
                                   struct stack_table *table, struct recorder *recorder)
{
    recorder->kind = "growth";
    recorder->events = &settings->events;
    recorder->set_values = set_values;
    return profile_init_growth(&recorder->profile, table, settings->events.events[0].period);
}
