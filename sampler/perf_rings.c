#include "sampler/perf_rings.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sampler/perf_event.h"

#define DEFAULT_MAX_BYTES (64u << 20)
#define MIN_DATA_BYTES (64u << 10) /* room for one sample with its 32 KB of stack, and a bit */
#define MAX_DATA_BYTES (8u << 20)  /* more takes longer to allocate than it is worth */
#define MIN_SIDEBAND_BYTES (16u << 10)
#define MAX_SIDEBAND_BYTES (256u << 10)
#define RECORD_OVERHEAD_BYTES 1024 /* registers and kernel callchain, generously */

static size_t power_of_two_at_least(uint64_t bytes)
{
    size_t power = 1;

    while (power < bytes)
        power *= 2;
    return power;
}

static size_t clamp(size_t bytes, size_t min, size_t max)
{
    return bytes < min ? min : bytes > max ? max : bytes;
}

struct perf_rings_size perf_rings_choose_size(const struct sampler_options *options,
                                              size_t num_cpus)
{
    uint64_t max_bytes = options->max_ring_bytes ? options->max_ring_bytes : DEFAULT_MAX_BYTES;
    uint64_t bytes_per_s = (uint64_t)options->hz * (options->stack_bytes + RECORD_OVERHEAD_BYTES);
    struct perf_rings_size size;

    size.data_bytes = clamp(power_of_two_at_least(bytes_per_s / 4), MIN_DATA_BYTES, MAX_DATA_BYTES);
    for (;;) {
        size.sideband_bytes = clamp(size.data_bytes / 8, MIN_SIDEBAND_BYTES, MAX_SIDEBAND_BYTES);
        if ((size.data_bytes + size.sideband_bytes) * num_cpus <= max_bytes ||
            size.data_bytes <= MIN_DATA_BYTES)
            return size;
        size.data_bytes /= 2;
    }
}

/* Whom the event that owns a ring is opened on. */
struct whom {
    pid_t pid;
    int cgroup_fd; /* -1: none, `pid` holds */
};

/* Opens one event and maps its ring. ring: untouched on failure. Returns: NULL or an error; ENODEV
 * is told by *is_offline_ret instead. */
static struct error *open_ring(const struct perf_event_attr *attr, struct whom whom, uint32_t cpu,
                               size_t data_bytes, size_t watermark_bytes, struct perf_ring *ring,
                               bool *is_offline_ret)
{
    struct perf_event_attr sized = *attr;
    CLEANUP(close) int fd = -1;

    /* The event that is mapped sets the watermark of its ring for all that write into it. */
    if (sized.watermark)
        sized.wakeup_watermark = (uint32_t)watermark_bytes;
    fd = whom.cgroup_fd >= 0 ? perf_event_open_cgroup(&sized, whom.cgroup_fd, (int)cpu)
                             : perf_event_open(&sized, whom.pid, (int)cpu);
    if (fd == -ENODEV) {
        *is_offline_ret = true;
        return NULL;
    }
    if (fd < 0)
        return perf_event_refusal(-fd, whom.pid == -1);
    RETURN_IF_ERROR(perf_ring_init(fd, data_bytes, ring));
    (void)take_fd(&fd);
    return NULL;
}

static struct error *add_to_epoll(const struct perf_rings *rings, const struct perf_ring *ring)
{
    /* Edge-triggered: whoever wakes reads all rings, so a ring need not be asked again. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = ring->fd};

    if (epoll_ctl(rings->epoll_fd, EPOLL_CTL_ADD, ring->fd, &event))
        return error_from_errno(errno, NULL, "can't wait for perf events");
    return NULL;
}

/* Opens and maps the ring for samples of one CPU. */
static struct error *open_data(struct perf_rings *rings, const struct perf_rings_size *size,
                               pid_t pid, struct perf_cpu_rings *slot, bool *is_offline_ret)
{
    struct perf_event_attr owner_attr;

    perf_event_attr_owner(&owner_attr);
    RETURN_IF_ERROR(open_ring(&owner_attr, (struct whom){pid, -1}, slot->cpu, size->data_bytes,
                              size->data_bytes / 2, &slot->data, is_offline_ret));
    if (*is_offline_ret)
        return NULL;
    rings->bytes += size->data_bytes;
    rings->num_events++;
    return add_to_epoll(rings, &slot->data);
}

/* Opens and maps the ring for sideband of one CPU. */
static struct error *open_sideband(struct perf_rings *rings, const struct perf_rings_size *size,
                                   const struct sampler_options *options, pid_t pid,
                                   const struct perf_event_attr *attr, struct perf_cpu_rings *slot,
                                   bool *is_offline_ret)
{
    struct whom whom = {pid, options->scope == SAMPLER_CGROUP ? options->cgroup_fd : -1};
    size_t watermark_bytes = options->urgent_sideband ? 1 : size->sideband_bytes / 2;

    RETURN_IF_ERROR(open_ring(attr, whom, slot->cpu, size->sideband_bytes, watermark_bytes,
                              &slot->sideband, is_offline_ret));
    if (*is_offline_ret)
        return NULL;
    rings->bytes += size->sideband_bytes;
    rings->num_events++;
    return add_to_epoll(rings, &slot->sideband);
}

/* Opens the rings of one CPU as rings->cpus[rings->num_cpus]. */
static struct error *open_cpu(struct perf_rings *rings, const struct perf_rings_size *size,
                              const struct sampler_options *options, pid_t pid, uint32_t cpu,
                              const struct perf_event_attr *sideband_attr)
{
    struct perf_cpu_rings *slot = &rings->cpus[rings->num_cpus];
    bool is_offline = false;

    *slot = (struct perf_cpu_rings){.cpu = cpu, .data.fd = -1, .urgent.fd = -1, .sideband.fd = -1};
    rings->num_cpus++; /* from here on perf_rings_deinit() knows it */
    if (sideband_attr)
        RETURN_IF_ERROR(open_sideband(rings, size, options, pid, sideband_attr, slot, &is_offline));
    if (is_offline) {
        rings->num_cpus--;
        return NULL;
    }
    if (options->cpus && !cpu_list_has(options->cpus, cpu))
        return NULL;
    /* When it goes offline just now, its sideband ring stays, if any: it is empty. */
    return open_data(rings, size, pid, slot, &is_offline);
}

/* Opens all rings with one size. rings: to be deinitialised also after an error. */
static struct error *open_all(struct perf_rings *rings, const struct perf_rings_size *size,
                              const struct sampler_options *options, const struct cpu_list *cpus,
                              pid_t pid, const struct perf_event_attr *sideband_attr)
{
    size_t num_sampled = 0;

    rings->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (rings->epoll_fd < 0)
        return error_from_errno(errno, NULL, "can't wait for perf events");
    rings->cpus = calloc(cpus->num_cpus, sizeof(*rings->cpus));
    if (!rings->cpus)
        return &error_no_memory;
    for (size_t i = 0; i < cpus->num_cpus; i++)
        RETURN_IF_ERROR(open_cpu(rings, size, options, pid, cpus->cpus[i], sideband_attr));
    for (size_t i = 0; i < rings->num_cpus; i++)
        num_sampled += rings->cpus[i].data.fd >= 0;
    if (num_sampled == 0)
        return error_create(ERROR_FAILED, NULL, "none of the CPUs to sample is online");
    return NULL;
}

/* Tells whether `err` is the refusal of mmap for lack of lockable memory (perf_event_open(2)). */
static bool is_memory_refusal(const struct error *err)
{
    return err->errno_value == EPERM || err->errno_value == ENOMEM;
}

struct error *perf_rings_init(const struct sampler_options *options, const struct cpu_list *cpus,
                              pid_t pid, const struct perf_event_attr *sideband_attr,
                              struct perf_rings *rings_ret)
{
    struct perf_rings_size size =
        perf_rings_choose_size(options, options->cpus ? options->cpus->num_cpus : cpus->num_cpus);
    struct perf_rings rings = {.epoll_fd = -1};
    struct error *err;

    while ((err = open_all(&rings, &size, options, cpus, pid, sideband_attr))) {
        perf_rings_deinit(&rings);
        if (!is_memory_refusal(err) || size.data_bytes <= MIN_DATA_BYTES)
            return err;
        error_destroy(err);
        size.data_bytes /= 2;
        size.sideband_bytes =
            clamp(size.sideband_bytes / 2, MIN_SIDEBAND_BYTES, MAX_SIDEBAND_BYTES);
        rings.is_small = true;
    }
    *rings_ret = rings;
    return NULL;
}

/* Opens the urgent ring of one CPU. */
static struct error *open_urgent(struct perf_rings *rings, pid_t pid, struct perf_cpu_rings *slot)
{
    struct perf_event_attr owner_attr;
    size_t num_bytes = slot->data.data_bytes;
    bool is_offline = false;

    if (slot->data.fd < 0)
        return NULL;
    perf_event_attr_owner(&owner_attr);
    RETURN_IF_ERROR(open_ring(&owner_attr, (struct whom){pid, -1}, slot->cpu, num_bytes, 1,
                              &slot->urgent, &is_offline));
    if (is_offline)
        return error_create(ERROR_FAILED, NULL, "CPU %u went offline", slot->cpu);
    rings->bytes += num_bytes;
    rings->num_events++;
    return add_to_epoll(rings, &slot->urgent);
}

struct error *perf_rings_open_urgent(struct perf_rings *rings, pid_t pid)
{
    struct error *err = NULL;

    for (size_t i = 0; i < rings->num_cpus && !err; i++)
        err = open_urgent(rings, pid, &rings->cpus[i]);
    for (size_t i = 0; i < rings->num_cpus && err; i++) {
        if (rings->cpus[i].urgent.fd >= 0) {
            rings->bytes -= rings->cpus[i].urgent.data_bytes;
            rings->num_events--;
        }
        perf_ring_deinit(&rings->cpus[i].urgent);
    }
    return err;
}

void perf_rings_deinit(struct perf_rings *rings)
{
    bool is_small = rings->is_small;

    for (size_t i = 0; i < rings->num_cpus; i++) {
        perf_ring_deinit(&rings->cpus[i].data);
        perf_ring_deinit(&rings->cpus[i].urgent);
        perf_ring_deinit(&rings->cpus[i].sideband);
    }
    free(rings->cpus);
    if (rings->epoll_fd >= 0)
        close(rings->epoll_fd);
    *rings = (struct perf_rings){.epoll_fd = -1, .is_small = is_small};
}
