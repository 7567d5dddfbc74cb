#include "sampler/perf_event.h"

#include <asm/perf_regs.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/procfs.h"
#include "sampler/perf_record.h"

#define CAPABILITY_SYS_ADMIN 21 /* capabilities(7), linux/capability.h */
#define CAPABILITY_PERFMON 38
#define NS_PER_S 1000000000u
#define UPROBE_TYPE "/sys/bus/event_source/devices/uprobe/type"

/* What all our events have in common. */
static void attr_init(struct perf_event_attr *attr, uint64_t config)
{
    *attr = (struct perf_event_attr){
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof(*attr),
        .config = config,
        .read_format = PERF_FORMAT_LOST,
        .exclude_hv = 1,
        .use_clockid = 1,
        .clockid = CLOCK_MONOTONIC,
        .sample_id_all = 1,
    };
}

static void attr_set_inherit(struct perf_event_attr *attr, const struct sampler_options *options,
                             bool inherit)
{
    attr->inherit = inherit;
    attr->inherit_thread = inherit && !options->follow_children;
}

/* How often. Software events with PERF_SAMPLE_PERIOD and a fixed period would give a sample each
 * (kernel/events/core.c, perf_swevent_event()), so only those by frequency tell their period. */
static void attr_set_period(const struct sampler_event *event, struct perf_event_attr *attr)
{
    if (event->period) {
        attr->sample_period = event->period;
        attr->sample_type &= ~(uint64_t)PERF_SAMPLE_PERIOD;
    } else if (event->spec.class == EVENT_CLASS_CLOCK) {
        attr->sample_period = NS_PER_S / event->hz;
    } else {
        attr->freq = 1;
        attr->sample_freq = event->hz;
    }
}

void perf_event_attr_sampling(const struct sampler_options *options,
                              const struct sampler_event *event, bool inherit,
                              struct perf_event_attr *attr)
{
    const struct event_spec *spec = &event->spec;

    attr_init(attr, spec->perf_config);
    attr->type = spec->perf_type;
    attr_set_inherit(attr, options, inherit);
    attr->sample_type = PERF_RECORD_SAMPLE_TYPE | PERF_SAMPLE_REGS_USER;
    attr_set_period(event, attr);
    attr->sample_regs_user = PERF_RECORD_USER_REGS;
    if (options->stack_bytes) {
        attr->sample_type |= PERF_SAMPLE_STACK_USER;
        attr->sample_stack_user = options->stack_bytes;
    }
    if (options->kernel) {
        attr->sample_type |= PERF_SAMPLE_CALLCHAIN;
        attr->exclude_callchain_user = 1;
    }
    /* Without kernel frames, what happens in the kernel is still seen, by its user stack. */
    attr->exclude_kernel = spec->exclude_kernel || (!options->kernel && !spec->fires_in_kernel);
    attr->exclude_user = spec->exclude_user;
    attr->disabled = 1;
    attr->enable_on_exec = inherit && options->enable_on_exec;
    attr->exclude_idle = spec->class == EVENT_CLASS_CLOCK;
    attr->watermark = 1; /* the ring decides when we are woken */
}

void perf_event_attr_sideband(const struct sampler_options *options, bool inherit,
                              struct perf_event_attr *attr)
{
    attr_init(attr, PERF_COUNT_SW_DUMMY);
    attr_set_inherit(attr, options, inherit);
    attr->sample_type = PERF_RECORD_SIDEBAND_SAMPLE_TYPE;
    attr->exclude_kernel = 1; /* no samples come from it; asks for no privilege */
    attr->mmap = 1;
    attr->mmap2 = 1;
    attr->comm = 1;
    attr->comm_exec = 1;
    attr->task = 1;
    attr->watermark = 1; /* how much: perf_rings_open(), which knows the size */
}

void perf_event_attr_owner(struct perf_event_attr *attr)
{
    attr_init(attr, PERF_COUNT_SW_DUMMY);
    attr->sample_type = PERF_RECORD_SIDEBAND_SAMPLE_TYPE;
    attr->exclude_kernel = 1;
    attr->watermark = 1;
    attr->read_format = 0;
}

void perf_event_attr_bpf_output(uint32_t stack_bytes, struct perf_event_attr *attr)
{
    attr_init(attr, PERF_COUNT_SW_BPF_OUTPUT);
    attr->sample_type = PERF_RECORD_BPF_SAMPLE_TYPE | PERF_SAMPLE_REGS_USER;
    attr->sample_period = 1;
    attr->sample_regs_user = PERF_RECORD_USER_REGS;
    if (stack_bytes) {
        attr->sample_type |= PERF_SAMPLE_STACK_USER;
        attr->sample_stack_user = stack_bytes;
    }
    attr->watermark = 1; /* the ring decides when we are woken */
}

struct error *perf_event_attr_uprobe(uint32_t stack_bytes, struct perf_event_attr *attr)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    CLEANUP(free) char *text = NULL;

    err = file_read_all(AT_FDCWD, UPROBE_TYPE, 4096, &text, NULL);
    if (err)
        return error_create(ERROR_UNSUPPORTED, "use a kernel with CONFIG_UPROBE_EVENTS",
                            "this kernel has no perf events on uprobes");
    attr_init(attr, 0);
    attr->type = (uint32_t)strtoul(text, NULL, 10);
    attr->sample_type =
        (PERF_RECORD_SAMPLE_TYPE & ~(uint64_t)PERF_SAMPLE_PERIOD) | PERF_SAMPLE_REGS_USER;
    attr->sample_regs_user = PERF_RECORD_USER_REGS;
    if (stack_bytes) {
        attr->sample_type |= PERF_SAMPLE_STACK_USER;
        attr->sample_stack_user = stack_bytes;
    }
    attr->watermark = 1; /* the ring decides when we are woken */
    return NULL;
}

static int open_with(const struct perf_event_attr *attr, int whom, int cpu, unsigned long flags)
{
    struct perf_event_attr copy = *attr; /* the kernel writes its size there on E2BIG */
    long fd = syscall(SYS_perf_event_open, &copy, whom, cpu, -1, flags | PERF_FLAG_FD_CLOEXEC);

    return fd < 0 ? -errno : (int)fd;
}

int perf_event_open(const struct perf_event_attr *attr, pid_t pid, int cpu)
{
    return open_with(attr, pid, cpu, 0);
}

int perf_event_open_cgroup(const struct perf_event_attr *attr, int cgroup_fd, int cpu)
{
    return open_with(attr, cgroup_fd, cpu, PERF_FLAG_PID_CGROUP);
}

/* Reads one number out of a small file of /proc. Returns: fallback when it is not there. */
static long read_number(const char *path, long fallback)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    CLEANUP(free) char *text = NULL;

    err = file_read_all(AT_FDCWD, path, 4096, &text, NULL);
    return err ? fallback : strtol(text, NULL, 10);
}

/* Takes one thing from `attr` that an older kernel may not know, or not allow. Returns: false when
 * nothing is left. */
static bool attr_degrade(struct perf_event_attr *attr)
{
    if (attr->read_format & PERF_FORMAT_LOST) { /* since Linux 6.0 */
        attr->read_format &= ~(uint64_t)PERF_FORMAT_LOST;
        return true;
    }
    if (attr->inherit_thread) { /* since Linux 5.13 */
        attr->inherit_thread = 0;
        return true;
    }
    if (attr->freq) { /* the kernel lowers the limit by itself where interrupts take long */
        long max_hz = read_number("/proc/sys/kernel/perf_event_max_sample_rate", 0);

        if (max_hz > 0 && (uint64_t)max_hz < attr->sample_freq) {
            log_warning("kernel.perf_event_max_sample_rate allows %ld Hz only", max_hz);
            attr->sample_freq = (uint64_t)max_hz;
            return true;
        }
    }
    return false;
}

/* Tries to open an event. Returns: 0 or a positive errno value. */
static int probe(struct perf_event_attr *attr, pid_t pid, int cpu, bool may_drop_kernel)
{
    for (;;) {
        int fd = perf_event_open(attr, pid, cpu);

        if (fd >= 0) {
            close(fd);
            return 0;
        }
        if ((fd == -EINVAL || fd == -E2BIG) && attr_degrade(attr))
            continue;
        if (fd == -EACCES && may_drop_kernel && !attr->exclude_kernel) {
            attr->exclude_kernel = 1;
            attr->exclude_callchain_kernel = 1;
            continue;
        }
        return -fd;
    }
}

struct error *perf_event_probe(struct perf_event_attr *attr, pid_t pid, int cpu,
                               bool may_drop_kernel)
{
    int err = probe(attr, pid, cpu, may_drop_kernel);

    return err ? perf_event_refusal(err, pid == -1) : NULL;
}

/* Reads the value of one line "name:\tvalue" of /proc/self/status. Returns: 0 when it is not there.
 */
static uint64_t read_status(const char *name, int base)
{
    CLEANUP(error_destroy) struct error *err = NULL;
    CLEANUP(free) char *text = NULL;
    const char *line;

    err = file_read_all(AT_FDCWD, "/proc/self/status", 64 * 1024, &text, NULL);
    if (err)
        return 0;
    line = procfs_status_find(text, name);
    return line ? strtoull(line, NULL, base) : 0;
}

static struct error *permission_refusal(int err, bool is_cpu_wide)
{
    uint64_t effective = read_status("CapEff", 16);
    bool has_perfmon = effective & (1ULL << CAPABILITY_PERFMON | 1ULL << CAPABILITY_SYS_ADMIN);
    long paranoid = read_number("/proc/sys/kernel/perf_event_paranoid", -100);
    long allowed = is_cpu_wide ? 0 : 2;
    struct error *error;

    if (err == EPERM && read_status("Seccomp", 10) != 0)
        error = error_create(ERROR_PERMISSION,
                             "start the container with --cap-add PERFMON --cap-add BPF --cap-add "
                             "SYS_PTRACE, or with --security-opt seccomp=unconfined",
                             "perf events are refused: a seccomp filter forbids perf_event_open");
    else if (!has_perfmon && paranoid > allowed && is_cpu_wide)
        error = error_create(
            ERROR_PERMISSION,
            "run with sudo, or once: sudo setcap cap_perfmon,cap_bpf,cap_sys_ptrace+ep "
            "$(command -v cprofiler)",
            "CPU-wide perf events are refused: perf_event_paranoid is %ld and "
            "CAP_PERFMON is missing",
            paranoid);
    else if (!has_perfmon && paranoid > allowed)
        error = error_create(ERROR_PERMISSION, "sudo sysctl kernel.perf_event_paranoid=1",
                             "perf events are refused: perf_event_paranoid is %ld and CAP_PERFMON "
                             "is missing",
                             paranoid);
    else
        error = error_create(ERROR_PERMISSION, "run with sudo",
                             "perf events are refused: %s (perf_event_paranoid is %ld)",
                             strerror(err), paranoid);
    if (error != &error_no_memory)
        error->errno_value = err;
    return error;
}

static struct error *files_refusal(int err, size_t num_open)
{
    struct rlimit limit = {0};
    char hint[80];

    if (err == ENFILE)
        return error_from_errno(err, "raise it: sudo sysctl fs.file-max=1000000",
                                "can't open more than %zu perf events", num_open);
    getrlimit(RLIMIT_NOFILE, &limit);
    snprintf(hint, sizeof(hint), "ulimit -n %llu", (unsigned long long)limit.rlim_cur * 4);
    return error_from_errno(err, hint,
                            "can't open more than %zu perf events: RLIMIT_NOFILE is %llu", num_open,
                            (unsigned long long)limit.rlim_cur);
}

struct error *perf_event_refusal(int err, bool is_cpu_wide)
{
    switch (err) {
    case EACCES:
    case EPERM:
        return permission_refusal(err, is_cpu_wide);
    case EMFILE:
    case ENFILE:
        return files_refusal(err, 0);
    case ENOMEM:
        return &error_no_memory;
    case ENOSYS:
        return error_create(ERROR_UNSUPPORTED, "use a kernel with CONFIG_PERF_EVENTS",
                            "this kernel (or sandbox) has no perf_event_open");
    case EINVAL:
    case E2BIG:
    case ENOENT:
    case EOPNOTSUPP:
        return error_create(ERROR_UNSUPPORTED, "Linux 5.10 or newer on x86-64 is needed",
                            "this kernel can't sample the CPU clock with user stacks: %s",
                            strerror(err));
    default:
        return error_from_errno(err, NULL, "can't open a perf event");
    }
}

/* Tells whether the processor has counters that we can reach, by asking for the one that all have.
 */
static bool has_hardware_counters(void)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof(attr),
        .config = PERF_COUNT_HW_CPU_CYCLES,
        .disabled = 1,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    int fd = perf_event_open(&attr, 0, -1);

    if (fd >= 0)
        close(fd);
    return fd != -ENOENT && fd != -EOPNOTSUPP && fd != -ENODEV;
}

static struct error *hardware_refusal(int err, const struct event_spec *spec)
{
    if (!has_hardware_counters())
        return error_create(ERROR_UNSUPPORTED, "sample by CPU time instead: -e cpu-clock",
                            "%s: this machine has no hardware counters (virtual machine?)",
                            spec->name);
    return error_create(ERROR_UNSUPPORTED, "those it has: -e list",
                        "%s: this processor can't sample by it: %s", spec->name, strerror(err));
}

/* Whether an event is worth nothing without kernel mode. */
static bool needs_kernel(const struct event_spec *spec)
{
    return spec->fires_in_kernel || spec->exclude_user;
}

static struct error *sampling_refusal(int err, const struct event_spec *spec, bool is_cpu_wide)
{
    bool is_unknown = err == ENOENT || err == EOPNOTSUPP || err == ENODEV || err == EINVAL;
    long paranoid = read_number("/proc/sys/kernel/perf_event_paranoid", -100);

    if (is_unknown && spec->class == EVENT_CLASS_HARDWARE)
        return hardware_refusal(err, spec);
    if (is_unknown && spec->class != EVENT_CLASS_CLOCK)
        return error_create(ERROR_UNSUPPORTED, "those it has: -e list",
                            "%s: this kernel can't sample by it: %s", spec->name, strerror(err));
    if ((err == EACCES || err == EPERM) && !is_cpu_wide && needs_kernel(spec) && paranoid >= 2)
        return error_from_errno(err, "sudo sysctl kernel.perf_event_paranoid=1",
                                "%s happens in kernel mode, which perf_event_paranoid %ld hides",
                                spec->name, paranoid);
    return perf_event_refusal(err, is_cpu_wide);
}

struct error *perf_event_probe_sampling(const struct event_spec *spec, struct perf_event_attr *attr,
                                        pid_t pid, int cpu, bool may_drop_kernel)
{
    int err = probe(attr, pid, cpu, may_drop_kernel && !needs_kernel(spec));

    return err ? sampling_refusal(err, spec, pid == -1) : NULL;
}

struct error *perf_event_task_refusal(int err, pid_t pid, pid_t tid, size_t num_open)
{
    if (err == EMFILE || err == ENFILE)
        return files_refusal(err, num_open);
    if (err == ESRCH)
        return error_create(ERROR_GONE, NULL, "thread %d of process %d has ended", (int)tid,
                            (int)pid);
    if (err == EACCES || err == EPERM)
        return error_from_errno(err, "run as the owner of that process or with sudo",
                                "process %d may not be profiled", (int)pid);
    return error_from_errno(err, NULL, "can't open a perf event for thread %d of process %d",
                            (int)tid, (int)pid);
}

bool perf_event_read(int fd, const struct perf_event_attr *attr, struct perf_event_count *count_ret)
{
    uint64_t words[2] = {0, 0};
    size_t num_bytes = attr->read_format & PERF_FORMAT_LOST ? 16 : 8;

    if (read(fd, words, num_bytes) != (ssize_t)num_bytes)
        return false;
    *count_ret = (struct perf_event_count){.value = words[0], .lost = words[1]};
    return true;
}

void perf_event_raise_nofile(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* refused: the old limit stays, EMFILE will tell */
}
