#include "cmd/session.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cmd/growth.h"
#include "cmd/signals.h"
#include "profile/profile_group.h"
#include "target/threads.h"

/* How long to sleep at most: sideband rings are drained at least this often. */
#define DRAIN_INTERVAL_MS 500
/* At the start oftener: whether stacks are deep is known by the first samples, and until then a
 * whole batch of deep ones is read too late to be completed (docs/adr/0010). */
#define STARTUP_INTERVAL_MS 20
#define STARTUP_NS 500000000ULL
#define STARTUP_SAMPLES 16
/* While processes vanish with their files before we look: a wakeup takes below 0.1 ms of CPU. */
#define HURRY_INTERVAL_MS 5
#define HURRY_NS 500000000ULL
#define PROGRESS_INTERVAL_NS 1000000000ULL
#define RECORDING_NICE (-15)
#define NAMES_SHARE 4 /* names may take one part in so many of the memory for stacks */
/* What woke us, where it was not the sampler (data.fd of struct epoll_event). */
#define WATCHED_SIGNAL (-2)
#define WATCHED_TARGET (-3)

/* --- opening -------------------------------------------------------------------------------- */

/* Adds a recorder for events that the first engine samples by. */
static struct error *add_recorder(struct session *session, const struct event_list *events,
                                  struct recorder **recorder_ret)
{
    struct recorder *recorder = &session->recorders[session->num_recorders++];

    recorder->engine = &session->engines[0];
    recorder->first_event = session->sampled.num_events;
    *recorder_ret = recorder;
    return events_join(&session->sampled, events);
}

/* Makes the recorders with their empty profiles. */
static struct error *make_recorders(struct session *session)
{
    const struct session_options *options = &session->options;

    session->primary = session->recorders;
    if (options->events) {
        RETURN_IF_ERROR(add_recorder(session, options->events, &session->cpu));
        session->cpu->kind = "cpu";
        session->cpu->events = options->events;
        session->cpu->set_values = events_set_values;
        session->clock = events_find_clock(options->events);
        session->has_clock = session->clock < options->events->num_events;
        RETURN_IF_ERROR(
            events_init_profile(options->events, &session->table, &session->cpu->profile));
    }
    if (options->growth) {
        RETURN_IF_ERROR(add_recorder(session, &options->growth->events, &session->growth));
        RETURN_IF_ERROR(growth_init_recorder(options->growth, &session->table, session->growth));
    }
    if (options->heap) {
        session->allocations = &session->recorders[session->num_recorders++];
        session->allocations->engine = &session->engines[session->cpu ? 1 : 0];
        session->allocations->first_event = 0;
        RETURN_IF_ERROR(heap_init_recorder(options->heap, &session->table, session->allocations));
    }
    return NULL;
}

static struct error *open_tables(struct session *session)
{
    RETURN_IF_ERROR(stack_table_init(&session->table));
    RETURN_IF_ERROR(make_recorders(session));
    RETURN_IF_ERROR(label_keys_init(&session->label_keys, &session->table));
    session->chain = malloc(sizeof(*session->chain));
    return session->chain ? NULL : &error_no_memory;
}

/* Opens the engine that samples by events, those of all recorders. */
static struct error *open_event_engine(struct session *session)
{
    const struct session_options *options = &session->options;
    const struct scope *scope = options->scope;
    struct sampler_options sampler_options = {
        .scope = scope_for_sampler(scope),
        .cgroup_fd = scope->cgroup.fd,
        .cpus = scope->cpus.num_cpus ? &scope->cpus : NULL,
        .hz = events_ring_hz(&session->sampled),
        .events = session->sampled.events,
        .num_events = session->sampled.num_events,
        .stack_bytes = SAMPLER_DEFAULT_STACK_BYTES,
        .kernel = options->kernel,
        .follow_children = options->follow_children,
        .enable_on_exec = scope->kind == SCOPE_COMMAND,
        .urgent_sideband = options->heap != NULL, /* new processes are to be probed */
    };

    return engine_open(&session->engines[session->num_engines++], &sampler_options, options->engine,
                       events_want_per_task(session->primary->events));
}

/* Opens the engine of allocations. */
static struct error *open_heap_engine(struct session *session)
{
    const struct session_options *options = &session->options;
    struct engine *engine = &session->engines[session->num_engines++];
    const struct heap_context context = {
        .settings = options->heap,
        .target = session->target,
        .table = &session->table,
        .keys = &session->label_keys,
        .engine = engine,
        .recorder = session->allocations,
        .follows_children = options->follow_children,
    };

    RETURN_IF_ERROR(heap_open_engine(options->heap, !session->cpu, engine));
    return heap_init(&session->heap, &context);
}

static struct error *open_engines(struct session *session)
{
    if (session->sampled.num_events)
        RETURN_IF_ERROR(open_event_engine(session));
    return session->options.heap ? open_heap_engine(session) : NULL;
}

/* Has every engine sample a thread. */
static struct error *attach_engines(struct session *session, pid_t pid, pid_t tid)
{
    for (size_t i = 0; i < session->num_engines; i++) {
        struct engine *engine = &session->engines[i];

        RETURN_IF_ERROR(engine->ops->attach(engine->sampler, pid, tid));
    }
    return NULL;
}

/* Remembers that it was the command itself that could not be started. Returns: err. */
static struct error *note_missing(struct session *session, struct error *err)
{
    session->command_is_missing =
        err && (err->kind == ERROR_NOT_FOUND || err->kind == ERROR_PERMISSION);
    return err;
}

/* Until the recording ends we need little CPU, but soon: behind a hundred runnable threads the
 * command waits long for us to get ready, and the rings overflow before it is our turn. The command
 * was forked before and keeps its priority. Refused without privileges: then samples may be lost,
 * which is counted. */
static void raise_priority(struct session *session)
{
    errno = 0;
    session->old_nice = getpriority(PRIO_PROCESS, 0);
    session->has_raised_priority = errno == 0 && session->old_nice > RECORDING_NICE &&
                                   setpriority(PRIO_PROCESS, 0, RECORDING_NICE) == 0;
}

/* Naming at the end takes CPU for long: it must not push the target aside. */
void session_restore_priority(struct session *session)
{
    if (session->has_raised_priority)
        (void)setpriority(PRIO_PROCESS, 0, session->old_nice);
    session->has_raised_priority = false;
}

static struct error *open_launch(struct session *session)
{
    pid_t pid;

    RETURN_IF_ERROR(note_missing(session, launch_start(session->options.argv, &session->launch)));
    pid = launch_pid(session->launch);
    signals_forward_to(pid);
    raise_priority(session);
    if (session->options.scope->kind != SCOPE_COMMAND)
        return open_engines(session);
    RETURN_IF_ERROR(target_add_launched(session->target, pid));
    RETURN_IF_ERROR(open_engines(session));
    return attach_engines(session, pid, pid);
}

static struct error *attach_thread(void *context, pid_t pid, pid_t tid)
{
    return attach_engines(context, pid, tid);
}

/* Attaches one of the tasks of the scope. */
static struct error *attach_task(struct session *session, const struct scope_task *task)
{
    if (session->options.scope->kind == SCOPE_THREADS)
        return attach_engines(session, task->pid, task->tid);
    return error_prefix_take(threads_visit(task->pid, attach_thread, session, NULL), "process %d",
                             (int)task->pid);
}

/* Does something with each task. One that ends meanwhile is passed over, unless it is the last.
 * Returns: NULL or an error. */
static struct error *visit_tasks(struct session *session,
                                 struct error *(*visit)(struct session *session,
                                                        const struct scope_task *task))
{
    struct scope *scope = session->options.scope;
    size_t num_there = 0;

    for (size_t i = 0; i < scope->num_tasks; i++)
        num_there += !scope->tasks[i].has_ended;
    for (size_t i = 0; i < scope->num_tasks; i++) {
        struct scope_task *task = &scope->tasks[i];
        CLEANUP(error_destroy) struct error *err = task->has_ended ? NULL : visit(session, task);

        if (err && (err->kind != ERROR_GONE || --num_there == 0))
            return take_ptr(err);
        if (err)
            log_warning("%s", err->message);
        task->has_ended |= err != NULL;
    }
    return NULL;
}

static struct error *open_attach(struct session *session)
{
    raise_priority(session);
    RETURN_IF_ERROR(scope_hold(session->options.scope));
    RETURN_IF_ERROR(open_engines(session));
    return visit_tasks(session, attach_task);
}

struct error *session_open(struct session *session, const struct session_options *options)
{
    struct unwind_options unwind_options = {.live_tail = true, .remember_frames = true};

    memset(session, 0, sizeof(*session));
    session->options = *options;
    session->unwind_ops = &unwind_cfi;
    RETURN_IF_ERROR(open_tables(session));
    RETURN_IF_ERROR(target_create(&session->table, &session->target));
    target_limit_names(session->target, options->max_memory_bytes / NAMES_SHARE);
    RETURN_IF_ERROR(
        session->unwind_ops->create(&unwind_options, session->target, &session->unwinder));
    if (scope_is_open(options->scope))
        target_follow_all(session->target);
    return options->argv ? open_launch(session) : open_attach(session);
}

/* --- one event ------------------------------------------------------------------------------ */

/* Unwinds; a sample of a process that no event told of still counts, as one reason frame. */
static struct error *make_chain(struct session *session, struct process *process,
                                const struct sample *sample)
{
    struct callchain *chain = session->chain;

    if (!process) {
        chain->num_frames = 0;
        chain->stop = REASON_NO_MAPPING;
        callchain_push(chain, 0, 0, REASON_NO_MAPPING);
        return NULL;
    }
    if (sample->num_kernel_pcs && !session->kernel_mapping)
        RETURN_IF_ERROR(target_kernel_mapping(session->target, &session->kernel_mapping));
    session->unwind_ops->unwind(session->unwinder, process, sample, session->kernel_mapping, chain);
    return NULL;
}

/* Whose sample it is. */
static struct recorder *find_recorder(struct session *session, const struct sample *sample)
{
    if (sample->heap)
        return session->allocations;
    return session->growth && sample->event >= session->growth->first_event ? session->growth
                                                                            : session->cpu;
}

static struct error *add_sample(struct session *session, const struct sample *sample)
{
    struct recorder *recorder = find_recorder(session, sample);
    struct process *process = NULL;
    uint32_t stack, label_set;

    RETURN_IF_ERROR(target_see(session->target, sample->pid, &process));
    RETURN_IF_ERROR(make_chain(session, process, sample));
    if (sample->heap)
        heap_complete_chain(&session->heap, process, sample, session->chain);
    RETURN_IF_ERROR(stack_table_intern(&session->table, session->chain, &stack));
    RETURN_IF_ERROR(labels_of_thread(&session->label_keys, &session->table, process, sample->pid,
                                     sample->tid, &label_set));
    return sample->heap ? heap_add_sample(&session->heap, sample, session->chain, stack, label_set)
                        : recorder_add(recorder, sample, session->chain, stack, label_set);
}

/* Whose events they are. */
struct draining {
    struct session *session;
    const struct engine *engine;
};

/* Counts what an engine lost. All that it samples by shares its rings. */
static void add_loss(struct session *session, const struct engine *engine,
                     const struct event *event)
{
    for (size_t i = 0; i < session->num_recorders; i++)
        if (session->recorders[i].engine == engine && event->loss.kind < LOSS_NUM_KINDS)
            session->recorders[i].profile.loss.counts[event->loss.kind] += event->loss.count;
}

/* Receives every event of an engine in order of time; the first error is kept and ends the
 * recording. */
static void handle_event(void *context, const struct event *event)
{
    const struct draining *draining = context;
    struct session *session = draining->session;

    if (session->failure)
        return;
    if (event->type == EVENT_SAMPLE) {
        session->failure = add_sample(session, event->sample);
        return;
    }
    if (event->type == EVENT_LOSS)
        add_loss(session, draining->engine, event);
    session->failure = target_handle_event(session->target, event);
    if (!session->failure && session->heap.is_open)
        session->failure = heap_note(&session->heap, event);
}

/* --- recording ------------------------------------------------------------------------------ */

/* Bounds what was collected. */
static struct error *limit_memory(struct session *session)
{
    struct profile_group group = {.num_profiles = session->num_recorders};

    for (size_t i = 0; i < session->num_recorders; i++)
        group.profiles[i] = &session->recorders[i].profile;
    if (session->allocations && !session->heap.is_by_count) {
        group.heap = &session->allocations->profile;
        group.live = &session->heap.live;
    }
    return profile_group_limit_memory(&group, session->options.max_memory_bytes);
}

static struct error *drain_engine(struct session *session, const struct engine *engine, bool final)
{
    struct draining draining = {session, engine};
    size_t num_samples;

    if (!engine->sampler)
        return NULL;
    RETURN_IF_ERROR(
        engine->ops->drain(engine->sampler, final, handle_event, &draining, &num_samples));
    return take_ptr(session->failure);
}

/* Drains all engines; the first one tells who runs and what is mapped, the other's samples wait
 * until that is known. */
static struct error *drain(struct session *session, bool final)
{
    uint64_t limit_ns = clock_monotonic_ns();

    RETURN_IF_ERROR(drain_engine(session, &session->engines[0], final));
    if (session->heap.is_open)
        RETURN_IF_ERROR(heap_follow(&session->heap));
    if (session->num_engines > 1) {
        heap_sampler_set_limit(session->engines[1].sampler, limit_ns);
        RETURN_IF_ERROR(drain_engine(session, &session->engines[1], final));
    }
    return limit_memory(session);
}

static struct error *add_process(struct session *session, const struct scope_task *task)
{
    bool is_main = task == session->options.scope->tasks;

    RETURN_IF_ERROR(target_add_process(session->target, task->pid, is_main, NULL));
    return session->heap.is_open ? heap_add_process(&session->heap, task->pid) : NULL;
}

/* A member of the cgroup; the others are seen when they show up. */
static struct error *add_member(void *context, pid_t pid)
{
    struct session *session = context;

    CLEANUP(error_destroy)
    struct error *err = target_add_process(session->target, pid, false, NULL);
    return err && err->kind == ERROR_NO_MEMORY ? take_ptr(err) : NULL;
}

/* Enables the events first and reads the maps after, so that nothing falls between the two. */
static struct error *begin(struct session *session)
{
    session->start_ns = clock_monotonic_ns();
    for (size_t i = 0; i < session->num_recorders; i++)
        session->recorders[i].profile.time_ns = (int64_t)clock_realtime_ns();
    for (size_t i = 0; i < session->num_engines; i++) {
        struct engine *engine = &session->engines[i];

        RETURN_IF_ERROR(engine->ops->start(engine->sampler));
        engine->ops->info(engine->sampler, &engine->info);
    }
    scope_begin(session->options.scope);
    if (session->cpu && session->cpu->engine->info.period_ns)
        session->cpu->profile.period = (int64_t)session->cpu->engine->info.period_ns;
    if (session->options.scope->kind == SCOPE_CGROUP)
        RETURN_IF_ERROR(cgroup_visit(&session->options.scope->cgroup, add_member, session));
    if (session->launch && session->heap.is_open)
        RETURN_IF_ERROR(heap_add_launched(&session->heap, launch_pid(session->launch),
                                          launch_path(session->launch)));
    if (session->launch)
        return note_missing(session, launch_go(session->launch));
    RETURN_IF_ERROR(visit_tasks(session, add_process));
    return session->heap.is_open ? heap_admit(&session->heap) : NULL;
}

/* Returns: whether the launched command, or without one, anything to record, is still there. */
static bool any_target_alive(struct session *session)
{
    if (session->launch) {
        if (!session->command_has_ended) {
            unsigned long long cpu_ns = 0;

            session->command_has_ended =
                launch_wait(session->launch, false, &session->command_status, &cpu_ns);
            if (session->command_has_ended)
                session->command_cpu_ns = cpu_ns;
        }
        return !session->command_has_ended;
    }
    return scope_is_alive(session->options.scope);
}

/* Lets the sampler's epoll descriptor wait for a signal and the target's end, too: asking one
 * descriptor for news takes less of each wakeup than asking three. */
static struct error *watch_target(struct session *session)
{
    const struct engine *first = &session->engines[0];
    const struct engine *second = session->num_engines > 1 ? &session->engines[1] : NULL;
    const int fds[] = {
        signals_fd(),
        session->launch ? launch_pidfd(session->launch) : scope_wait_fd(session->options.scope),
        second ? second->ops->wait_fd(second->sampler) : -1,
    };

    session->epoll_fd = first->ops->wait_fd(first->sampler);
    for (size_t i = 0; i < ARRAY_LENGTH(fds); i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = WATCHED_SIGNAL - (int)i};

        if (fds[i] >= 0 && epoll_ctl(session->epoll_fd, EPOLL_CTL_ADD, fds[i], &event))
            return error_from_errno(errno, NULL, "can't wait for the target");
    }
    session->has_target_fd = fds[1] >= 0;
    return NULL;
}

/* Tells how long to sleep at most. Less at the start, and for a while whenever the file of a
 * process could not be opened: as a rule it was gone with its mount namespace when we looked. */
static int sleep_ms(struct session *session, uint64_t now_ns)
{
    uint64_t num_missed = target_loss(session->target)->counts[LOSS_UNREADABLE];

    if (num_missed > session->num_missed)
        session->hurries_until_ns = now_ns + HURRY_NS;
    session->num_missed = num_missed;
    if (now_ns < session->hurries_until_ns)
        return HURRY_INTERVAL_MS;
    return now_ns - session->start_ns < STARTUP_NS && session_num_samples(session) < STARTUP_SAMPLES
               ? STARTUP_INTERVAL_MS
               : DRAIN_INTERVAL_MS;
}

/* Sleeps until samples wait, the target may have ended, a signal came, or it is time to look.
 * Returns: whether it is time to look if the target is alive (not after each sample: a wait4 each).
 */
static bool wait_for_work(struct session *session, uint64_t end_ns)
{
    struct epoll_event events[8];
    uint64_t now_ns = clock_monotonic_ns();
    int timeout_ms = sleep_ms(session, now_ns);
    int num_events;

    if (end_ns && end_ns <= now_ns)
        return false;
    if (end_ns && (end_ns - now_ns) / 1000000 < (uint64_t)timeout_ms)
        timeout_ms = (int)((end_ns - now_ns + 999999) / 1000000);
    num_events = epoll_wait(session->epoll_fd, events, ARRAY_LENGTH(events), timeout_ms);
    for (int i = 0; i < num_events; i++) {
        if (events[i].data.fd == WATCHED_TARGET)
            return true;
    }
    return num_events <= 0 || !session->has_target_fd;
}

/* How much CPU time there was to sample, where the kernel's accounting covers just this recording.
 */
static void compute_due(struct session *session)
{
    const struct session_options *options = &session->options;
    const struct sampler_info *info = &session->cpu->engine->info;

    if ((!info->has_kernel && !info->counts_kernel) ||
        options->events->events[session->clock].spec.exclude_user)
        return; /* accounting includes user and kernel time, our samples do not */
    session->due_ns = session->command_cpu_ns;
    if (options->scope->kind == SCOPE_COMMAND)
        session->has_due = session->command_has_ended && options->follow_children &&
                           options->scope->cpus.num_cpus == 0;
    else
        session->has_due = scope_due_ns(options->scope, &session->due_ns);
    if (!session->has_due && info->has_exact) {
        session->due_ns = info->exact[session->clock];
        session->has_due = true;
    }
}

/* Finds out what is in use now. */
static struct error *take_in_use(struct session *session, bool final)
{
    RETURN_IF_ERROR(heap_begin_snapshot(&session->heap));
    RETURN_IF_ERROR(drain(session, final));
    return heap_end_snapshot(&session->heap);
}

/* What a heap recording has to look after now and then. */
static struct error *look_after_heap(struct session *session)
{
    const struct session_options *options = &session->options;
    uint64_t now_ns = clock_monotonic_ns();
    bool is_due = session->next_snapshot_ns && now_ns >= session->next_snapshot_ns;

    heap_look(&session->heap);
    if (session->heap.probes.has_let_go && !session->heap.is_frozen) {
        session->heap.is_frozen = true; /* what is in use stays as of now */
        return take_in_use(session, false);
    }
    if (session->heap.is_frozen)
        return NULL;
    if (is_due || heap_needs_snapshot(&session->heap))
        RETURN_IF_ERROR(take_in_use(session, false));
    if (is_due) {
        session->next_snapshot_ns += options->heap->snapshot_ns;
        options->snapshot(options->snapshot_context, session);
    }
    return NULL;
}

/* Takes the last look at resident memory. */
static void end_growth(struct session *session)
{
    resident_look(&session->resident, session->target, true);
    if (session->launch && session->command_has_ended)
        resident_add_peak(&session->resident, launch_peak_rss(session->launch));
}

/* Stops sampling and takes what is still in the rings. err: what ended the recording, NULL: as it
 * should. Returns: err, or what went wrong now. */
static struct error *end_take(struct session *session, struct error *err)
{
    for (size_t i = 0; i < session->num_engines; i++) {
        struct engine *engine = &session->engines[i];

        engine->ops->stop(engine->sampler);
        engine->ops->info(engine->sampler, &engine->info);
    }
    if (session->has_clock)
        compute_due(session);
    if (session->growth)
        end_growth(session);
    session->duration_ns = clock_monotonic_ns() - session->start_ns;
    for (size_t i = 0; i < session->num_recorders; i++)
        session->recorders[i].profile.duration_ns = (int64_t)session->duration_ns;
    if (session->heap.is_open)
        heap_end(&session->heap, session->command_has_ended && session->options.follow_children
                                     ? session->command_cpu_ns
                                     : 0);
    if (!err)
        err = session->heap.is_open && !session->heap.is_frozen ? take_in_use(session, true)
                                                                : drain(session, true);
    if (session->heap.is_open)
        engine_close(session->heap.context.engine); /* the target runs free while we name things */
    session_restore_priority(session);
    return err;
}

struct error *session_record(struct session *session, session_progress_fn *progress, void *context)
{
    bool look = true;
    uint64_t next_progress_ns, end_ns;
    CLEANUP(error_destroy) struct error *err = begin(session);

    if (!err)
        err = watch_target(session);
    if (err)
        return take_ptr(err);
    next_progress_ns = session->start_ns + PROGRESS_INTERVAL_NS;
    if (session->options.heap && session->options.heap->snapshot_ns)
        session->next_snapshot_ns = session->start_ns + session->options.heap->snapshot_ns;
    end_ns = session->options.duration_ns ? session->start_ns + session->options.duration_ns : 0;
    while (!signals_received() && (!look || any_target_alive(session))) {
        uint64_t now_ns = clock_monotonic_ns();

        if (end_ns && now_ns >= end_ns)
            break;
        if (progress && now_ns >= next_progress_ns) {
            session->duration_ns = now_ns - session->start_ns;
            progress(context, session);
            next_progress_ns = now_ns + PROGRESS_INTERVAL_NS;
        }
        look = wait_for_work(session, end_ns);
        err = drain(session, false);
        if (session->growth)
            resident_look(&session->resident, session->target, false);
        if (!err && session->heap.is_open)
            err = look_after_heap(session);
        if (err || (session->heap.probes.has_let_go && !session->cpu))
            break; /* or nothing is left to record */
    }
    return end_take(session, take_ptr(err));
}

/* --- ending ------------------------------------------------------------------------------------
 */

int session_wait_command(struct session *session)
{
    unsigned long long cpu_ns;

    if (!session->command_has_ended)
        session->command_has_ended =
            launch_wait(session->launch, true, &session->command_status, &cpu_ns);
    return session->command_status;
}

uint32_t session_hz(const struct session *session)
{
    uint64_t period_ns = session->cpu ? session->cpu->engine->info.period_ns : 0;

    if (!session->cpu)
        return 0;
    return period_ns ? (uint32_t)((1000000000ULL + period_ns / 2) / period_ns)
                     : session->cpu->events->events[0].hz;
}

uint64_t session_num_samples(const struct session *session)
{
    uint64_t num_samples = 0;

    for (size_t i = 0; i < session->num_recorders; i++)
        num_samples += session->recorders[i].num_samples;
    return num_samples;
}

void session_target_name(const struct session *session, char *text)
{
    if (session->options.scope->kind == SCOPE_COMMAND) {
        const char *slash = strrchr(session->options.argv[0], '/');
        const char *name = slash ? slash + 1 : session->options.argv[0];

        snprintf(text, SESSION_NAME_BYTES, "%.64s-%d", *name ? name : "process",
                 (int)launch_pid(session->launch));
    } else {
        scope_name(session->options.scope, text, SESSION_NAME_BYTES);
    }
    for (char *c = text; *c; c++)
        if (*c == '/' || (unsigned char)*c <= ' ' || *c == 127)
            *c = '_';
}

void session_detach(struct session *session)
{
    for (size_t i = session->num_engines; i-- > 0;)
        engine_close(&session->engines[i]);
}

void session_deinit(struct session *session)
{
    session_detach(session);
    heap_deinit(&session->heap);
    if (session->unwinder)
        session->unwind_ops->destroy(session->unwinder);
    signals_forward_to(0);
    launch_destroy(session->launch);
    target_destroy(session->target);
    for (size_t i = 0; i < session->num_recorders; i++)
        recorder_deinit(&session->recorders[i]);
    for (size_t i = 0; i < session->num_engines; i++)
        engine_deinit(&session->engines[i]);
    stack_table_deinit(&session->table);
    error_destroy(session->failure);
    free(session->chain);
    memset(session, 0, sizeof(*session));
}
