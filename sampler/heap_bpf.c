#include "sampler/heap_bpf.h"

#if HAVE_BPF

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/bpf.h"
#include "base/file.h"
#include "sampler/bpf_loader.h"
#include "sampler/cpu_list.h"

#define BATCH_ENTRIES 8192 /* of the table, read by one system call */

/* The compiled programs, found by the assembler on the include path (-I$(O)). */
__asm__(".pushsection .rodata\n"
        ".balign 8\n"
        "heap_bpf_object:\n"
        ".incbin \"sampler/bpf/heap.bpf.o\"\n"
        "heap_bpf_object_limit:\n"
        ".balign 8\n"
        "heap_bpf_object_bytes:\n"
        ".quad heap_bpf_object_limit - heap_bpf_object\n"
        ".popsection\n");
extern const uint8_t heap_bpf_object[];
extern const uint64_t heap_bpf_object_bytes;

enum map { CONTROL, SITES, CPUS, OUTPUTS, LIVE, FILTER, PENDING, NUM_MAPS };

static const char *const map_names[NUM_MAPS] = {
    [CONTROL] = "control", [SITES] = "sites",   [CPUS] = "cpus",       [OUTPUTS] = "outputs",
    [LIVE] = "live",       [FILTER] = "filter", [PENDING] = "pending",
};

struct heap_bpf {
    int map_fds[NUM_MAPS];
    uint32_t num_cpus;           /* the kernel may ever have */
    struct heap_bpf_site *sites; /* as in the map */
    size_t num_sites, capacity;
};

static struct error *refusal(int err, const char *what)
{
    return bpf_loader_refusal(err, what, NULL);
}

static int map_update(int map_fd, const void *key, const void *value)
{
    union bpf_attr attr = {.map_fd = (uint32_t)map_fd};

    attr.key = (uintptr_t)key;
    attr.value = (uintptr_t)value;
    return bpf_call(BPF_MAP_UPDATE_ELEM, &attr);
}

/* Tells how many CPUs the kernel counts for at most: as many values has a map of one for each. */
static struct error *read_num_cpus(uint32_t *num_cpus_ret)
{
    struct cpu_list cpus = {0};
    CLEANUP(cpu_list_deinit) UNUSED struct cpu_list *guard = &cpus;
    CLEANUP(free) char *text = NULL;
    long num_configured = sysconf(_SC_NPROCESSORS_CONF);

    RETURN_IF_ERROR(
        file_read_all(AT_FDCWD, "/sys/devices/system/cpu/possible", 64 * 1024, &text, NULL));
    RETURN_IF_ERROR(cpu_list_parse(text, &cpus));
    if (cpus.num_cpus == 0)
        return error_create(ERROR_FAILED, NULL, "the kernel tells of no CPU");
    *num_cpus_ret = cpus.cpus[cpus.num_cpus - 1] + 1;
    if (num_configured > (long)*num_cpus_ret)
        *num_cpus_ret = (uint32_t)num_configured;
    return NULL;
}

static struct error *create_maps(struct heap_bpf *bpf, uint32_t max_live)
{
    const struct bpf_image image = {heap_bpf_object, heap_bpf_object_bytes};
    const uint32_t max_entries[NUM_MAPS] = {[OUTPUTS] = bpf->num_cpus, [LIVE] = max_live};

    for (size_t i = 0; i < NUM_MAPS; i++) {
        bpf->map_fds[i] = bpf_loader_create_map(&image, map_names[i], 0, max_entries[i]);
        if (bpf->map_fds[i] < 0)
            return refusal(-bpf->map_fds[i], "can't make a BPF map");
    }
    return NULL;
}

struct error *heap_bpf_create(uint32_t max_live, struct heap_bpf **bpf_ret)
{
    CLEANUP(heap_bpf_destroy) struct heap_bpf *bpf = calloc(1, sizeof(*bpf));

    if (!bpf)
        return &error_no_memory;
    for (size_t i = 0; i < NUM_MAPS; i++)
        bpf->map_fds[i] = -1;
    RETURN_IF_ERROR(read_num_cpus(&bpf->num_cpus));
    RETURN_IF_ERROR(create_maps(bpf, max_live));
    *bpf_ret = take_ptr(bpf);
    return NULL;
}

void heap_bpf_destroy(struct heap_bpf *bpf)
{
    if (!bpf)
        return;
    for (size_t i = 0; i < NUM_MAPS; i++)
        cleanup_close(&bpf->map_fds[i]);
    free(bpf->sites);
    free(bpf);
}

size_t heap_bpf_list_fds(const struct heap_bpf *bpf, int *fds, size_t max_fds)
{
    size_t num_fds = max_fds < NUM_MAPS ? max_fds : NUM_MAPS;

    memcpy(fds, bpf->map_fds, num_fds * sizeof(*fds));
    return num_fds;
}

struct error *heap_bpf_load(const struct heap_bpf *bpf, enum heap_bpf_program program,
                            enum heap_bpf_attach attach, uint64_t fixed_cookie, int *fd_ret)
{
    static const char *const sections[] = {
        [HEAP_BPF_ON_SESSION] = "uprobe/session",
        [HEAP_BPF_ON_CALL] = "uprobe/call",
        [HEAP_BPF_ON_RETURN] = "uprobe/return",
    };
    const struct bpf_image image = {heap_bpf_object, heap_bpf_object_bytes};
    struct bpf_symbol symbols[NUM_MAPS + 1];
    int fd;

    for (size_t i = 0; i < NUM_MAPS; i++)
        symbols[i] = (struct bpf_symbol){map_names[i], (uint64_t)bpf->map_fds[i]};
    symbols[NUM_MAPS] = (struct bpf_symbol){"fixed_cookie", fixed_cookie};
    fd = bpf_loader_load(&image, sections[program], attach, symbols, NUM_MAPS + 1);
    if (fd < 0)
        return refusal(-fd, "the kernel refuses the BPF program of the heap");
    *fd_ret = fd;
    return NULL;
}

struct error *heap_bpf_set_output(const struct heap_bpf *bpf, uint32_t cpu, int event_fd)
{
    int err = map_update(bpf->map_fds[OUTPUTS], &cpu, &event_fd);

    return err ? refusal(-err, "can't write samples of the heap") : NULL;
}

struct error *heap_bpf_add_site(struct heap_bpf *bpf, const struct heap_bpf_site *site,
                                uint32_t *index_ret)
{
    uint32_t index = (uint32_t)bpf->num_sites;
    int err;

    for (uint32_t i = 0; i < bpf->num_sites; i++) {
        if (!memcmp(&bpf->sites[i], site, sizeof(*site))) {
            *index_ret = i;
            return NULL;
        }
    }
    if (bpf->num_sites == HEAP_BPF_MAX_SITES)
        return error_create(ERROR_FAILED, NULL, "more than %d kinds of allocator functions",
                            HEAP_BPF_MAX_SITES);
    RETURN_IF_ERROR(array_reserve(&bpf->sites, &bpf->capacity, bpf->num_sites + 1, sizeof(*site)));
    err = map_update(bpf->map_fds[SITES], &index, site);
    if (err)
        return refusal(-err, "can't tell the BPF program a site");
    bpf->sites[bpf->num_sites++] = *site;
    *index_ret = index;
    return NULL;
}

void heap_bpf_set_rate(const struct heap_bpf *bpf, uint64_t rate_bytes)
{
    struct heap_bpf_control control = {.rate = rate_bytes};
    uint32_t zero = 0;

    (void)map_update(bpf->map_fds[CONTROL], &zero,
                     &control); /* a write into an array: no refusal */
}

void heap_bpf_count(const struct heap_bpf *bpf, struct heap_bpf_cpu *sum_ret)
{
    const size_t num_words = sizeof(*sum_ret) / 8;
    CLEANUP(free) uint64_t *values = calloc(bpf->num_cpus * num_words, sizeof(*values));
    union bpf_attr attr = {.map_fd = (uint32_t)bpf->map_fds[CPUS]};
    uint64_t *sum = (uint64_t *)sum_ret;
    uint32_t zero = 0;

    memset(sum_ret, 0, sizeof(*sum_ret));
    attr.key = (uintptr_t)&zero;
    attr.value = (uintptr_t)values;
    if (!values || bpf_call(BPF_MAP_LOOKUP_ELEM, &attr))
        return;
    for (size_t i = 0; i < bpf->num_cpus * num_words; i++)
        sum[i % num_words] += values[i];
}

/* Buffers of one batch. */
struct batch {
    struct heap_bpf_key *keys;
    uint64_t *ids;
    uint32_t capacity;
};

static void batch_deinit(struct batch *batch)
{
    free(batch->keys);
    free(batch->ids);
}

DEFINE_CLEANUP(batch_deinit, struct batch *)

static struct error *batch_grow(struct batch *batch, uint32_t capacity)
{
    batch_deinit(batch);
    *batch = (struct batch){
        .keys = calloc(capacity, sizeof(*batch->keys)),
        .ids = calloc(capacity, sizeof(*batch->ids)),
        .capacity = capacity,
    };
    return batch->keys && batch->ids ? NULL : &error_no_memory;
}

static void visit_batch(const struct heap_bpf *bpf, const struct batch *batch, uint32_t num_entries,
                        heap_bpf_live_fn *visit, void *context)
{
    for (uint32_t i = 0; i < num_entries; i++) {
        union bpf_attr attr = {.map_fd = (uint32_t)bpf->map_fds[LIVE]};

        if (visit(context, batch->keys[i].process, batch->ids[i]))
            continue;
        attr.key = (uintptr_t)&batch->keys[i];
        (void)bpf_call(BPF_MAP_DELETE_ELEM, &attr); /* it may be gone by itself */
    }
}

struct error *heap_bpf_visit_live(const struct heap_bpf *bpf, heap_bpf_live_fn *visit,
                                  void *context)
{
    struct batch batch = {0};
    CLEANUP(batch_deinit) UNUSED struct batch *guard = &batch;
    uint32_t position = 0;
    bool is_first = true;

    RETURN_IF_ERROR(batch_grow(&batch, BATCH_ENTRIES));
    for (;;) {
        union bpf_attr attr = {.batch = {.count = batch.capacity}};
        int err;

        attr.batch.map_fd = (uint32_t)bpf->map_fds[LIVE];
        attr.batch.in_batch = is_first ? 0 : (uintptr_t)&position;
        attr.batch.out_batch = (uintptr_t)&position;
        attr.batch.keys = (uintptr_t)batch.keys;
        attr.batch.values = (uintptr_t)batch.ids;
        err = bpf_call(BPF_MAP_LOOKUP_BATCH, &attr);
        if (err == -ENOSPC) { /* one bucket of the table alone holds more */
            RETURN_IF_ERROR(batch_grow(&batch, batch.capacity * 2));
            continue;
        }
        if (err && err != -ENOENT)
            return refusal(-err, "can't read what is in use");
        visit_batch(bpf, &batch, attr.batch.count, visit, context);
        if (err)
            return NULL;
        is_first = false;
    }
}

#else

struct error *heap_bpf_create(uint32_t max_live, struct heap_bpf **bpf_ret)
{
    (void)max_live;
    (void)bpf_ret;
    return error_create(ERROR_UNSUPPORTED, "build it with: make BPF=1",
                        "sampling allocations needs BPF, which this build leaves out");
}

void heap_bpf_destroy(struct heap_bpf *bpf)
{
    (void)bpf;
}

size_t heap_bpf_list_fds(const struct heap_bpf *bpf, int *fds, size_t max_fds)
{
    (void)bpf;
    (void)fds;
    (void)max_fds;
    return 0;
}

struct error *heap_bpf_load(const struct heap_bpf *bpf, enum heap_bpf_program program,
                            enum heap_bpf_attach attach, uint64_t fixed_cookie, int *fd_ret)
{
    (void)bpf;
    (void)program;
    (void)attach;
    (void)fixed_cookie;
    (void)fd_ret;
    return NULL;
}

struct error *heap_bpf_set_output(const struct heap_bpf *bpf, uint32_t cpu, int event_fd)
{
    (void)bpf;
    (void)cpu;
    (void)event_fd;
    return NULL;
}

struct error *heap_bpf_add_site(struct heap_bpf *bpf, const struct heap_bpf_site *site,
                                uint32_t *index_ret)
{
    (void)bpf;
    (void)site;
    *index_ret = 0;
    return NULL;
}

void heap_bpf_set_rate(const struct heap_bpf *bpf, uint64_t rate_bytes)
{
    (void)bpf;
    (void)rate_bytes;
}

void heap_bpf_count(const struct heap_bpf *bpf, struct heap_bpf_cpu *sum_ret)
{
    (void)bpf;
    *sum_ret = (struct heap_bpf_cpu){0};
}

struct error *heap_bpf_visit_live(const struct heap_bpf *bpf, heap_bpf_live_fn *visit,
                                  void *context)
{
    (void)bpf;
    (void)visit;
    (void)context;
    return NULL;
}

#endif
