#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "sampler/bpf_filter.h"
#include "sampler/cpu_list.h"
#include "sampler/perf_event.h"
#include "sampler/perf_merge.h"
#include "sampler/perf_record.h"
#include "sampler/perf_rings.h"
#include "sampler/perf_wakeup.h"
#include "sampler/sampler.h"

struct sampler {
    struct sampler_options options;
    struct perf_event_attr clock_attr;
    struct perf_event_attr sideband_attr;
    struct perf_record_format clock_format;
    struct perf_record_format sideband_format;
    struct perf_rings rings;
    int *clock_fds; /* sampling events by index into rings.cpus */
    struct perf_wakeup wakeup;
    struct perf_merge merge;
    struct bpf_filter *filter;
    bool is_started;
    bool is_stopped;
};

static void cpu_wide_destroy(struct sampler *sampler)
{
    if (!sampler)
        return;
    for (size_t i = 0; sampler->clock_fds && i < sampler->rings.num_cpus; i++) {
        if (sampler->clock_fds[i] >= 0)
            close(sampler->clock_fds[i]);
    }
    free(sampler->clock_fds);
    perf_merge_deinit(&sampler->merge);
    perf_rings_deinit(&sampler->rings);
    bpf_filter_destroy(sampler->filter);
    free(sampler);
}

DEFINE_CLEANUP(cpu_wide_destroy, struct sampler *)

/* Opens the events and their rings on all CPUs, sampling still disabled. */
static struct error *open_rings(struct sampler *sampler)
{
    struct cpu_list cpus = {0};
    CLEANUP(cpu_list_deinit) UNUSED struct cpu_list *guard = &cpus;

    RETURN_IF_ERROR(cpu_list_online(&cpus));
    perf_event_attr_clock(&sampler->options, false, &sampler->clock_attr);
    perf_event_attr_sideband(&sampler->options, false, &sampler->sideband_attr);
    if (sampler->options.cpus)
        RETURN_IF_ERROR(cpu_list_check_online(sampler->options.cpus));
    RETURN_IF_ERROR(perf_event_probe(&sampler->clock_attr, -1, (int)cpus.cpus[0], false));
    RETURN_IF_ERROR(perf_event_probe(&sampler->sideband_attr, -1, (int)cpus.cpus[0], false));
    return perf_rings_init(&sampler->options, &cpus, -1, &sampler->sideband_attr, &sampler->rings);
}

/* Opens the sampling event of one CPU, behind the filter, writing into that CPU's ring. */
static struct error *open_clock(struct sampler *sampler, size_t cpu_index)
{
    const struct perf_cpu_rings *rings = &sampler->rings.cpus[cpu_index];
    int fd;

    if (rings->data.fd < 0)
        return NULL;
    fd = sampler->options.scope == SAMPLER_CGROUP
             ? perf_event_open_cgroup(&sampler->clock_attr, sampler->options.cgroup_fd,
                                      (int)rings->cpu)
             : perf_event_open(&sampler->clock_attr, -1, (int)rings->cpu);
    if (fd < 0)
        return perf_event_refusal(-fd, true);
    sampler->clock_fds[cpu_index] = fd;
    if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, rings->data.fd))
        return error_from_errno(errno, NULL, "can't sample CPU %u", rings->cpu);
    return sampler->filter ? bpf_filter_attach(sampler->filter, fd) : NULL;
}

static struct error *open_clocks(struct sampler *sampler)
{
    size_t num_cpus = sampler->rings.num_cpus;

    sampler->clock_fds = malloc(num_cpus * sizeof(*sampler->clock_fds));
    if (!sampler->clock_fds)
        return &error_no_memory;
    for (size_t i = 0; i < num_cpus; i++)
        sampler->clock_fds[i] = -1;
    for (size_t i = 0; i < num_cpus; i++)
        RETURN_IF_ERROR(open_clock(sampler, i));
    return NULL;
}

static struct error *join_rings(struct sampler *sampler)
{
    sampler->clock_format = (struct perf_record_format){
        .sample_type = sampler->clock_attr.sample_type,
        .stack_bytes = sampler->options.stack_bytes,
    };
    sampler->sideband_format = (struct perf_record_format){
        .sample_type = sampler->sideband_attr.sample_type,
        .is_sideband = true,
    };
    RETURN_IF_ERROR(perf_merge_init(&sampler->merge));
    return perf_merge_add_rings(&sampler->merge, &sampler->rings, &sampler->clock_format,
                                &sampler->sideband_format);
}

/* The whole system needs no filter, and a cgroup's events the kernel filters itself. */
static bool has_filter(const struct sampler_options *options)
{
    return options->scope == SAMPLER_PROCESSES || options->scope == SAMPLER_THREADS;
}

static struct error *cpu_wide_open(const struct sampler_options *options,
                                   struct sampler **sampler_ret)
{
    CLEANUP(cpu_wide_destroy) struct sampler *sampler = calloc(1, sizeof(*sampler));

    if (!sampler)
        return &error_no_memory;
    sampler->options = *options;
    sampler->rings.epoll_fd = -1;
    perf_event_raise_nofile();
    RETURN_IF_ERROR(open_rings(sampler));
    RETURN_IF_ERROR(join_rings(sampler));
    if (has_filter(options))
        RETURN_IF_ERROR(bpf_filter_create(options->scope == SAMPLER_THREADS,
                                          options->follow_children, &sampler->filter));
    RETURN_IF_ERROR(open_clocks(sampler));
    *sampler_ret = take_ptr(sampler);
    return NULL;
}

static struct error *cpu_wide_attach(struct sampler *sampler, pid_t pid, pid_t tid)
{
    bool by_thread = sampler->options.scope == SAMPLER_THREADS;

    if (syscall(SYS_tgkill, pid, by_thread ? tid : pid, 0) && errno == ESRCH)
        return by_thread ? error_create(ERROR_GONE, NULL, "thread %d has ended", (int)tid)
                         : error_create(ERROR_GONE, NULL, "process %d has ended", (int)pid);
    return bpf_filter_add(sampler->filter, by_thread ? tid : pid,
                          sampler->options.enable_on_exec && !sampler->is_started);
}

static struct error *cpu_wide_start(struct sampler *sampler)
{
    for (size_t i = 0; i < sampler->rings.num_cpus; i++) {
        if (sampler->clock_fds[i] >= 0 && ioctl(sampler->clock_fds[i], PERF_EVENT_IOC_ENABLE, 0))
            return error_from_errno(errno, NULL, "can't start sampling CPU %u",
                                    sampler->rings.cpus[i].cpu);
    }
    sampler->is_started = true;
    return NULL;
}

static int cpu_wide_wait_fd(const struct sampler *sampler)
{
    return sampler->rings.epoll_fd;
}

/* Delivers what was lost without a record telling so: after the last record of a ring, or forks
 * that found the filter's map full. */
static void deliver_untold_loss(struct sampler *sampler, const struct perf_merge_sink *sink)
{
    uint64_t lost[2] = {0, 0};

    for (size_t i = 0; i < sampler->rings.num_cpus; i++) {
        struct perf_event_count count;

        if (sampler->clock_fds[i] >= 0 &&
            perf_event_read(sampler->clock_fds[i], &sampler->clock_attr, &count))
            lost[0] += count.lost;
        if (perf_event_read(sampler->rings.cpus[i].sideband.fd, &sampler->sideband_attr, &count))
            lost[1] += count.lost;
    }
    perf_merge_deliver_rest(&sampler->merge, LOSS_LOST, lost[0], sink);
    perf_merge_deliver_rest(
        &sampler->merge, LOSS_SIDEBAND,
        lost[1] + (sampler->filter ? bpf_filter_num_unfollowed(sampler->filter) : 0), sink);
}

/* Passes all records on; the filter has sorted out strangers' samples. */
static bool count_record(void *context, const struct perf_record *record)
{
    struct sampler *sampler = context;

    if (record->event.type == EVENT_SAMPLE)
        perf_wakeup_count(&sampler->wakeup, &record->sample);
    return true;
}

static struct perf_wakeup_event clock_at(const void *context, size_t index)
{
    const struct sampler *sampler = context;

    return (struct perf_wakeup_event){.fd = sampler->clock_fds[index], .cpu_index = index};
}

static struct error *cpu_wide_drain(struct sampler *sampler, bool final, event_handler_fn *handler,
                                    void *context, size_t *num_samples_ret)
{
    struct perf_merge_sink sink = {
        .handler = handler,
        .handler_context = context,
        .accept = count_record,
        .accept_context = sampler,
    };
    uint64_t limit_ns = final ? UINT64_MAX : clock_monotonic_ns();
    size_t num_samples = perf_merge_drain(&sampler->merge, limit_ns, &sink);

    if (final)
        deliver_untold_loss(sampler, &sink);
    else
        perf_wakeup_adapt(&sampler->wakeup, &sampler->options, &sampler->rings, -1, &sampler->merge,
                          &sampler->clock_format, sampler->rings.num_cpus, clock_at, sampler);
    *num_samples_ret = num_samples;
    return NULL;
}

static void cpu_wide_stop(struct sampler *sampler)
{
    if (sampler->is_stopped)
        return;
    sampler->is_stopped = true;
    for (size_t i = 0; i < sampler->rings.num_cpus; i++) {
        if (sampler->clock_fds[i] >= 0)
            ioctl(sampler->clock_fds[i], PERF_EVENT_IOC_DISABLE, 0);
        ioctl(sampler->rings.cpus[i].sideband.fd, PERF_EVENT_IOC_DISABLE, 0);
    }
}

static void cpu_wide_info(const struct sampler *sampler, struct sampler_info *info_ret)
{
    size_t num_clocks = 0;
    uint64_t cgroup_ns = 0;

    for (size_t i = 0; i < sampler->rings.num_cpus; i++) {
        struct perf_event_count count;

        if (sampler->clock_fds[i] < 0)
            continue;
        num_clocks++;
        if (perf_event_read(sampler->clock_fds[i], &sampler->clock_attr, &count))
            cgroup_ns += count.value;
    }
    *info_ret = (struct sampler_info){
        .engine = "perf (cpu-wide)",
        .period_ns = sampler->clock_attr.sample_period,
        .num_events = num_clocks + sampler->rings.num_events,
        .has_exact_cpu = sampler->options.scope == SAMPLER_CGROUP,
        .exact_cpu_ns = cgroup_ns,
        .ring_bytes = sampler->rings.bytes,
        .ring_is_small = sampler->rings.is_small,
        .has_kernel = !sampler->clock_attr.exclude_kernel,
    };
}

const struct sampler_ops sampler_cpu_wide = {
    .name = "cpu-wide",
    .open = cpu_wide_open,
    .attach = cpu_wide_attach,
    .start = cpu_wide_start,
    .wait_fd = cpu_wide_wait_fd,
    .drain = cpu_wide_drain,
    .stop = cpu_wide_stop,
    .info = cpu_wide_info,
    .destroy = cpu_wide_destroy,
};
