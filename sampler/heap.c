#include "sampler/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/procfs.h"
#include "sampler/cpu_list.h"
#include "sampler/heap_bpf.h"
#include "sampler/heap_count.h"
#include "sampler/heap_keeper.h"
#include "sampler/heap_probes.h"
#include "sampler/heap_processes.h"
#include "sampler/heap_trial.h"
#include "sampler/perf_event.h"
#include "sampler/perf_merge.h"
#include "sampler/perf_record.h"
#include "sampler/perf_rings.h"
#include "target/allocator.h"

#define RING_HZ 1000 /* samples for which the rings are made; the caller keeps them below it */

struct sampler {
    struct sampler_options options;
    struct heap_options heap;
    struct perf_event_attr output_attr;
    struct perf_event_attr sideband_attr;
    struct perf_record_format sample_format;
    struct perf_record_format sideband_format;
    struct perf_rings rings;
    int *output_fds; /* one for each of rings.cpus; -1: none */
    struct perf_merge merge;
    struct heap_bpf *bpf;
    struct heap_programs programs;
    struct heap_trial trial;
    struct heap_keeper *keeper;
    struct heap_processes processes;
    struct heap_count *count; /* HEAP_MECHANISM_COUNT: does all; NULL: none */
    uint64_t rate_bytes;
    uint64_t limit_ns;    /* heap_sampler_set_limit(); 0: none */
    uint64_t num_dropped; /* entries of the table that we have taken out */
    bool is_sampling;
    bool is_stopped;
};

static void heap_destroy(struct sampler *sampler)
{
    if (!sampler)
        return;
    heap_keeper_stop(sampler->keeper);
    heap_count_destroy(sampler->count);
    heap_processes_deinit(&sampler->processes);
    heap_programs_deinit(&sampler->programs);
    heap_bpf_destroy(sampler->bpf);
    for (size_t i = 0; sampler->output_fds && i < sampler->rings.num_cpus; i++)
        cleanup_close(&sampler->output_fds[i]);
    free(sampler->output_fds);
    perf_merge_deinit(&sampler->merge);
    perf_rings_deinit(&sampler->rings);
    free(sampler);
}

DEFINE_CLEANUP(heap_destroy, struct sampler *)

/* Opens the mechanism that needs no BPF. */
static struct error *open_count(struct sampler *sampler)
{
    RETURN_IF_ERROR(
        heap_count_create(sampler->heap.stack_bytes, &sampler->trial.costs, &sampler->count));
    sampler->heap.mechanism = HEAP_MECHANISM_COUNT;
    sampler->trial.is_seccomp_safe = true; /* no return is caught */
    sampler->options.hz = RING_HZ / 4;     /* its samples come through rings of their own */
    return NULL;
}

/* Finds the first mechanism that works, or the one that was asked for. */
static struct error *choose_mechanism(struct heap_options *heap, struct heap_trial *trial_ret)
{
    enum heap_mechanism mechanism = HEAP_MECHANISM_SESSION;

    if (heap->mechanism != HEAP_MECHANISM_AUTO)
        return heap_trial_run(heap->mechanism, trial_ret);
    for (;; mechanism++) {
        CLEANUP(error_destroy) struct error *err = heap_trial_run(mechanism, trial_ret);

        if (!err) {
            heap->mechanism = mechanism;
            return NULL;
        }
        if (err->kind != ERROR_UNSUPPORTED || mechanism == HEAP_MECHANISM_PERF)
            return take_ptr(err);
        log_info("%s: %s", heap_mechanism_name(mechanism), err->message);
    }
}

static struct error *open_rings(struct sampler *sampler)
{
    struct cpu_list cpus = {0};
    CLEANUP(cpu_list_deinit) UNUSED struct cpu_list *guard = &cpus;
    const struct perf_event_attr *sideband = NULL;

    RETURN_IF_ERROR(cpu_list_online(&cpus));
    perf_event_attr_bpf_output(sampler->heap.stack_bytes, &sampler->output_attr);
    RETURN_IF_ERROR(perf_event_probe(&sampler->output_attr, -1, (int)cpus.cpus[0], false));
    perf_event_attr_sideband(&sampler->options, false, &sampler->sideband_attr);
    if (sampler->heap.has_sideband) {
        RETURN_IF_ERROR(perf_event_probe(&sampler->sideband_attr, -1, (int)cpus.cpus[0], false));
        sideband = &sampler->sideband_attr;
    }
    return perf_rings_init(&sampler->options, &cpus, -1, sideband, &sampler->rings);
}

/* Opens the event that the BPF program writes through on one CPU. */
static struct error *open_output(struct sampler *sampler, size_t cpu_index)
{
    const struct perf_cpu_rings *rings = &sampler->rings.cpus[cpu_index];
    int fd;

    if (rings->data.fd < 0)
        return NULL;
    fd = perf_event_open(&sampler->output_attr, -1, (int)rings->cpu);
    if (fd < 0)
        return perf_event_refusal(-fd, true);
    sampler->output_fds[cpu_index] = fd; /* from here on heap_destroy() knows it */
    if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, rings->data.fd))
        return error_from_errno(errno, NULL, "can't sample CPU %u", rings->cpu);
    return heap_bpf_set_output(sampler->bpf, rings->cpu, fd);
}

static struct error *open_outputs(struct sampler *sampler)
{
    sampler->output_fds = malloc(sampler->rings.num_cpus * sizeof(*sampler->output_fds));
    if (!sampler->output_fds)
        return &error_no_memory;
    for (size_t i = 0; i < sampler->rings.num_cpus; i++)
        sampler->output_fds[i] = -1;
    for (size_t i = 0; i < sampler->rings.num_cpus; i++)
        RETURN_IF_ERROR(open_output(sampler, i));
    return NULL;
}

static struct error *join_rings(struct sampler *sampler)
{
    sampler->sample_format = (struct perf_record_format){
        .sample_type = sampler->output_attr.sample_type,
        .stack_bytes = sampler->heap.stack_bytes,
    };
    sampler->sideband_format = (struct perf_record_format){
        .sample_type = sampler->sideband_attr.sample_type,
        .is_sideband = true,
    };
    RETURN_IF_ERROR(perf_merge_init(&sampler->merge));
    return perf_merge_add_rings(&sampler->merge, &sampler->rings, &sampler->sample_format,
                                &sampler->sideband_format);
}

/* Copies the options, with what this engine makes of them. */
static void take_options(struct sampler *sampler, const struct sampler_options *options)
{
    sampler->options = *options;
    sampler->heap = *options->heap;
    if (!sampler->heap.rate_bytes)
        sampler->heap.rate_bytes = HEAP_DEFAULT_RATE_BYTES;
    if (!sampler->heap.max_live)
        sampler->heap.max_live = HEAP_DEFAULT_MAX_LIVE;
    sampler->options.hz = RING_HZ;
    sampler->options.stack_bytes = sampler->heap.stack_bytes;
    sampler->options.cpus = NULL;
    sampler->options.urgent_sideband = sampler->heap.has_sideband;
    sampler->rate_bytes = sampler->heap.rate_bytes;
}

/* Opens what sets breakpoints: BPF, else what goes without. */
static struct error *open_mechanism(struct sampler *sampler)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    CLEANUP(error_destroy) struct error *count_err = NULL;

    if (sampler->heap.mechanism == HEAP_MECHANISM_COUNT)
        return open_count(sampler);
    err = choose_mechanism(&sampler->heap, &sampler->trial);
    if (!err)
        err = heap_bpf_create(sampler->heap.max_live, &sampler->bpf);
    if (!err)
        err = heap_programs_load(sampler->bpf, sampler->heap.mechanism, &sampler->programs);
    if (!err)
        err = heap_keeper_start(&sampler->programs, &sampler->keeper);
    if (!err || sampler->heap.mechanism != HEAP_MECHANISM_AUTO ||
        (err->kind != ERROR_PERMISSION && err->kind != ERROR_UNSUPPORTED))
        return take_ptr(err);
    count_err = open_count(sampler);
    if (count_err)
        return take_ptr(err); /* what would help with that is better */
    log_warning("heap: no BPF (%s): allocations are sampled by count, and what is in use stays "
                "unknown",
                err->message);
    return NULL;
}

/* Has its descriptor tell of samples by count, too. */
static struct error *open_wait(struct sampler *sampler)
{
    int fd = heap_count_wait_fd(sampler->count);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(sampler->rings.epoll_fd, EPOLL_CTL_ADD, fd, &wanted)
               ? error_from_errno(errno, NULL, "can't wait for samples")
               : NULL;
}

static struct error *heap_open(const struct sampler_options *options, struct sampler **sampler_ret)
{
    CLEANUP(heap_destroy) struct sampler *sampler = calloc(1, sizeof(*sampler));

    if (!sampler)
        return &error_no_memory;
    sampler->rings.epoll_fd = -1;
    sampler->programs = (struct heap_programs){.call_fd = -1, .return_fd = -1};
    if (options->scope != SAMPLER_PROCESSES)
        return error_create(ERROR_UNSUPPORTED, "name the processes: -p PID",
                            "allocations can be sampled in some processes only");
    if (options->heap->rate_bytes > HEAP_MAX_RATE_BYTES)
        return error_create(ERROR_USAGE, NULL, "the distance of samples is at most 16 GiB");
    take_options(sampler, options);
    perf_event_raise_nofile();
    RETURN_IF_ERROR(open_mechanism(sampler));
    RETURN_IF_ERROR(open_rings(sampler));
    RETURN_IF_ERROR(sampler->count ? open_wait(sampler) : open_outputs(sampler));
    RETURN_IF_ERROR(join_rings(sampler));
    *sampler_ret = take_ptr(sampler);
    return NULL;
}

static struct error *heap_attach(struct sampler *sampler, pid_t pid, pid_t tid)
{
    (void)sampler;
    (void)tid;
    if (syscall(SYS_tgkill, pid, pid, 0) && errno == ESRCH)
        return error_create(ERROR_GONE, NULL, "process %d has ended", (int)pid);
    return NULL;
}

void heap_sampler_set_sampling(struct sampler *sampler, bool is_on)
{
    sampler->is_sampling = is_on;
    if (sampler->count) {
        heap_count_set_sampling(sampler->count, is_on);
        return;
    }
    heap_bpf_set_rate(sampler->bpf, is_on ? sampler->rate_bytes : 0);
}

static struct error *heap_start(struct sampler *sampler)
{
    heap_sampler_set_sampling(sampler, true);
    return NULL;
}

static int heap_wait_fd(const struct sampler *sampler)
{
    return sampler->rings.epoll_fd;
}

/* Takes the return address off the stack of a sample that was taken at the call. */
static void complete_return(struct sample *sample)
{
    uint64_t caller;

    if (sample->stack_bytes < sizeof(caller))
        return;
    memcpy(&caller, sample->stack, sizeof(caller));
    sample->regs[SAMPLE_REG_IP] = caller;
    sample->regs[SAMPLE_REG_SP] += sizeof(caller);
    sample->stack += sizeof(caller);
    sample->stack_bytes -= sizeof(caller);
    sample->stack_asked_bytes -= sizeof(caller);
}

/* Makes the leaf of a sample's stack a caller, as heap.h says. */
static bool complete_record(void *context, struct perf_record *record)
{
    struct sample *sample = &record->sample;

    (void)context;
    if (record->event.type != EVENT_SAMPLE || !sample->has_user_regs)
        return true;
    if (sample->heap && sample->heap->address == 0)
        complete_return(sample);
    sample->pc = --sample->regs[SAMPLE_REG_IP];
    return true;
}

/* Delivers what was lost without a record telling so, after the last record of a ring. */
static void deliver_untold_loss(struct sampler *sampler, const struct perf_merge_sink *sink)
{
    uint64_t lost_sideband = 0;
    struct heap_counts counts;

    heap_sampler_counts(sampler, &counts);
    for (size_t i = 0; i < sampler->rings.num_cpus; i++) {
        struct perf_event_count count;

        if (sampler->rings.cpus[i].sideband.fd >= 0 &&
            perf_event_read(sampler->rings.cpus[i].sideband.fd, &sampler->sideband_attr, &count))
            lost_sideband += count.lost;
    }
    perf_merge_deliver_rest(&sampler->merge, LOSS_LOST, counts.num_lost, sink);
    perf_merge_deliver_rest(&sampler->merge, LOSS_SIDEBAND, lost_sideband, sink);
}

static struct error *heap_drain(struct sampler *sampler, bool final, event_handler_fn *handler,
                                void *context, size_t *num_samples_ret)
{
    struct perf_merge_sink sink = {
        .handler = handler, .handler_context = context, .accept = complete_record};
    uint64_t limit_ns = final ? UINT64_MAX : clock_monotonic_ns();

    if (!final && sampler->limit_ns && sampler->limit_ns < limit_ns)
        limit_ns = sampler->limit_ns;
    *num_samples_ret = perf_merge_drain(&sampler->merge, limit_ns, &sink);
    if (sampler->count)
        *num_samples_ret += heap_count_drain(sampler->count, limit_ns, handler, context);
    if (final)
        deliver_untold_loss(sampler, &sink);
    return NULL;
}

static void heap_stop(struct sampler *sampler)
{
    if (sampler->is_stopped)
        return;
    sampler->is_stopped = true;
    heap_sampler_set_sampling(sampler, false);
    for (size_t i = 0; i < sampler->rings.num_cpus; i++) {
        if (sampler->rings.cpus[i].sideband.fd >= 0)
            ioctl(sampler->rings.cpus[i].sideband.fd, PERF_EVENT_IOC_DISABLE, 0);
    }
}

static void heap_info(const struct sampler *sampler, struct sampler_info *info_ret)
{
    *info_ret = (struct sampler_info){
        .engine = heap_mechanism_name(sampler->heap.mechanism),
        .num_events = sampler->rings.num_cpus + sampler->rings.num_events,
        .ring_bytes = sampler->rings.bytes,
        .ring_is_small = sampler->rings.is_small,
    };
}

/* Tells whether a process runs under a seccomp filter. */
static bool has_seccomp_filter(pid_t pid)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    CLEANUP(free) char *text = NULL;
    const char *line;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    err = file_read_all(AT_FDCWD, path, 64 * 1024, &text, NULL);
    line = err ? NULL : procfs_status_find(text, "Seccomp");
    return line && strtol(line, NULL, 10) != 0;
}

/* Looks whether breakpoints can be set in a process. The kernel finds its memory by its main
 * thread. */
static struct error *check_process(pid_t pid)
{
    struct procfs_stat stat;

    RETURN_IF_ERROR(procfs_stat_read(pid, &stat));
    if (stat.state != 'Z' && stat.state != 'X')
        return NULL;
    return error_create(ERROR_GONE, NULL, "the main thread of process %d has ended", (int)pid);
}

/* Tells the BPF programs of a site. */
static struct error *make_probe(struct sampler *sampler, uint32_t process, bool entry_only,
                                const struct heap_site *site, struct heap_probe *probe_ret)
{
    const struct allocator_arguments *arguments;
    struct heap_bpf_site told = {.num_callers = site->num_callers};
    uint32_t index;

    if (site->role >= ALLOCATOR_NUM_ROLES || site->num_callers > HEAP_BPF_MAX_CALLERS)
        return error_create(ERROR_FAILED, NULL, "an allocator function of an unknown kind");
    arguments = &allocator_arguments[site->role];
    told.is_free = site->role == ALLOCATOR_FREE;
    told.is_stepped = site->is_stepped;
    told.may_throw = site->role == ALLOCATOR_NEW;
    told.entry_only = entry_only;
    told.null_passes_on = site->null_passes_on;
    told.small_passes_on = site->small_passes_on;
    /* ALLOCATOR_NO_ARGUMENT becomes HEAP_BPF_NO_ARGUMENT. */
    told.size_argument = (uint8_t)arguments->size & HEAP_BPF_NO_ARGUMENT;
    told.count_argument = (uint8_t)arguments->count & HEAP_BPF_NO_ARGUMENT;
    told.old_argument = (uint8_t)arguments->old & HEAP_BPF_NO_ARGUMENT;
    told.out_argument = (uint8_t)arguments->out & HEAP_BPF_NO_ARGUMENT;
    for (size_t i = 0; i < site->num_callers; i++) {
        told.caller_start[i] = site->callers[i].start;
        told.caller_limit[i] = site->callers[i].limit;
    }
    RETURN_IF_ERROR(heap_bpf_add_site(sampler->bpf, &told, &index));
    *probe_ret = (struct heap_probe){
        .file_off = site->file_off,
        .cookie = HEAP_BPF_COOKIE(process, index),
        .catches_returns = !told.is_free && !entry_only,
    };
    return NULL;
}

struct error *heap_sampler_probe(struct sampler *sampler, pid_t pid, int module_fd,
                                 const struct heap_site *sites, size_t num_sites)
{
    CLEANUP(free) struct heap_probe *probes = calloc(num_sites + 1, sizeof(*probes));
    bool entry_only = !sampler->trial.is_seccomp_safe && has_seccomp_filter(pid);
    uint32_t number;

    if (!probes)
        return &error_no_memory;
    if (entry_only)
        log_warning("process %d has a seccomp filter, which this kernel's return probes would set "
                    "off: its memory in use stays unknown",
                    (int)pid);
    RETURN_IF_ERROR(check_process(pid));
    if (sampler->count)
        return heap_count_probe(sampler->count, pid, module_fd, sites, num_sites);
    RETURN_IF_ERROR(heap_processes_get(&sampler->processes, pid, &number));
    for (size_t i = 0; i < num_sites; i++)
        RETURN_IF_ERROR(make_probe(sampler, number, entry_only, &sites[i], &probes[i]));
    return heap_keeper_set(sampler->keeper, number, pid, module_fd, probes, num_sites);
}

void heap_sampler_forget(struct sampler *sampler, pid_t pid, bool keeps_live)
{
    uint32_t number = heap_processes_remove(&sampler->processes, pid, !keeps_live);

    if (sampler->count)
        heap_count_forget(sampler->count, pid);
    else if (number)
        heap_keeper_drop(sampler->keeper, number);
}

void heap_sampler_let_go(struct sampler *sampler)
{
    if (sampler->count)
        heap_count_let_go(sampler->count);
    else
        heap_keeper_drop_all(sampler->keeper);
}

bool heap_sampler_is_gone(const struct sampler *sampler)
{
    return sampler->keeper && heap_keeper_is_gone(sampler->keeper);
}

void heap_sampler_counts(const struct sampler *sampler, struct heap_counts *counts_ret)
{
    struct heap_bpf_cpu sum;

    if (sampler->count) {
        heap_count_counts(sampler->count, counts_ret);
        return;
    }
    heap_bpf_count(sampler->bpf, &sum);
    *counts_ret = (struct heap_counts){
        .num_allocs = sum.num_allocs,
        .alloc_bytes = sum.position,
        .num_frees = sum.num_frees,
        .num_stepped = sum.num_stepped,
        .num_nested = sum.num_nested,
        .num_samples = sum.num_samples,
        .num_lost = sum.num_lost,
        .num_untracked = sum.num_untracked,
        .num_live = sum.num_put - sum.num_taken - sampler->num_dropped,
    };
}

/* The reading of the table. */
struct reading {
    struct sampler *sampler;
    struct heap_live live;
    size_t capacity;
    bool is_short_of_memory;
};

static bool note_live(void *context, uint64_t process, uint64_t id)
{
    struct reading *reading = context;
    struct heap_live *live = &reading->live;

    if (heap_processes_is_dropped(&reading->sampler->processes, process)) {
        reading->sampler->num_dropped++;
        return false;
    }
    if (reading->is_short_of_memory)
        return true;
    reading->is_short_of_memory =
        array_reserve(&live->ids, &reading->capacity, live->num_ids + 1, sizeof(*live->ids));
    if (!reading->is_short_of_memory)
        live->ids[live->num_ids++] = id;
    return true;
}

static int compare_ids(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

void heap_live_deinit(struct heap_live *live)
{
    free(live->ids);
    *live = (struct heap_live){0};
}

struct error *heap_sampler_live(struct sampler *sampler, struct heap_live *live_ret)
{
    struct reading reading = {.sampler = sampler};
    struct error *err = sampler->count ? NULL /* nothing is known to be in use */
                                       : heap_bpf_visit_live(sampler->bpf, note_live, &reading);

    if (!err && reading.is_short_of_memory)
        err = &error_no_memory;
    if (err) {
        heap_live_deinit(&reading.live);
        return err;
    }
    if (reading.live.num_ids > 0)
        qsort(reading.live.ids, reading.live.num_ids, sizeof(*reading.live.ids), compare_ids);
    *live_ret = reading.live;
    return NULL;
}

uint64_t heap_sampler_rate(const struct sampler *sampler)
{
    if (sampler->count)
        return heap_count_interval(sampler->count);
    return sampler->rate_bytes;
}

void heap_sampler_double_rate(struct sampler *sampler)
{
    if (sampler->count)
        heap_count_double_interval(sampler->count);
    if (sampler->count || sampler->rate_bytes > HEAP_MAX_RATE_BYTES / 2)
        return;
    sampler->rate_bytes *= 2;
    heap_sampler_set_sampling(sampler, sampler->is_sampling);
}

void heap_sampler_set_limit(struct sampler *sampler, uint64_t time_ns)
{
    sampler->limit_ns = time_ns;
}

enum heap_mechanism heap_sampler_mechanism(const struct sampler *sampler)
{
    return sampler->heap.mechanism;
}

struct error *heap_sampler_calibrate(struct sampler *sampler, struct heap_costs *costs_ret)
{
    struct heap_trial trial;

    if (sampler->count) {
        *costs_ret = sampler->trial.costs;
        return NULL;
    }
    RETURN_IF_ERROR(heap_trial_run(sampler->heap.mechanism, &trial));
    *costs_ret = trial.costs;
    return NULL;
}

const struct sampler_ops sampler_heap = {
    .name = "heap",
    .open = heap_open,
    .attach = heap_attach,
    .start = heap_start,
    .wait_fd = heap_wait_fd,
    .drain = heap_drain,
    .stop = heap_stop,
    .info = heap_info,
    .destroy = heap_destroy,
};
