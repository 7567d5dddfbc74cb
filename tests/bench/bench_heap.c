/* Breakpoints of the heap profiler in one library of one running process, for
 * tests/bench/heap_costs.py: bench_heap PID FILE slid|entry. "slid": where we put them. "entry": at
 * the functions' first instructions, as other tools do. Prints "ready" when they are in; takes them
 * out at the end of stdin.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sampler/heap.h"
#include "sampler/probe_site.h"
#include "target/allocator.h"
#include "target/module.h"

/* Ends the program when there is an error. */
static void must(struct error *error)
{
    if (!error)
        return;
    fprintf(stderr, "bench_heap: %s\n", error->message);
    exit(1);
}

/* Makes the sites of a file whose functions are all those that count. */
static const struct module *make_sites(const char *path, struct heap_sites *sites_ret)
{
    struct module_table *table;
    struct module *module;
    struct allocator_set set, chosen;
    struct allocator_candidate candidate = {.set = &set};
    size_t num;

    must(module_table_create(&table));
    must(module_table_open_path(table, path, &module));
    must(allocator_find(module, &set));
    must(allocator_choose(&candidate, 1, &chosen, &num));
    must(heap_sites_make(module, &chosen, sites_ret));
    return module;
}

/* At the entry every instruction but a few has to be single-stepped. */
static void move_to_entries(struct heap_sites *sites)
{
    for (size_t i = 0; i < sites->num_sites; i++) {
        struct heap_site *site = &sites->sites[i];
        int64_t shift = (int64_t)(site->file_off - site->entry_off);

        site->file_off = site->entry_off;
        site->is_stepped = site->is_stepped || shift;
        for (uint32_t j = 0; j < site->num_callers; j++) {
            site->callers[j].start += shift;
            site->callers[j].limit += shift;
        }
    }
}

static void ignore(void *context, const struct event *event)
{
    (void)context;
    (void)event;
}

/* Reads samples away until the end of stdin. */
static void drain_until_end(struct sampler *sampler)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = sampler_heap.wait_fd(sampler), .events = POLLIN}};
    size_t num;
    char byte;

    while (poll(fds, 2, -1) > 0) {
        if (fds[1].revents)
            must(sampler_heap.drain(sampler, true, ignore, NULL, &num));
        if (fds[0].revents && read(STDIN_FILENO, &byte, 1) <= 0)
            return;
    }
}

int main(int argc, char **argv)
{
    struct heap_options heap = {.stack_bytes = HEAP_DEFAULT_STACK_BYTES};
    struct sampler_options options = {.scope = SAMPLER_PROCESSES, .heap = &heap};
    struct sampler *sampler;
    struct heap_sites sites;
    pid_t pid = argc == 4 ? (pid_t)strtol(argv[1], NULL, 10) : 0;

    if (pid <= 0) {
        fputs("usage: bench_heap PID FILE slid|entry\n", stderr);
        return 2;
    }
    const struct module *module = make_sites(argv[2], &sites);
    if (strcmp(argv[3], "entry") == 0)
        move_to_entries(&sites);
    must(sampler_heap.open(&options, &sampler));
    must(sampler_heap.attach(sampler, pid, pid));
    must(heap_sampler_probe(sampler, pid, module->fd, sites.sites, sites.num_sites));
    must(sampler_heap.start(sampler));
    puts("ready");
    fflush(stdout);
    drain_until_end(sampler);
    sampler_heap.destroy(sampler);
    return 0;
}
