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
#include "target/threads.h"

/* How long to sleep at most: sideband rings are drained at least this often. */
#define DRAIN_INTERVAL_MS 500
/* At the start oftener: whether stacks are deep is known by the first samples, and until then a
 * whole batch of deep ones is read too late to be completed (docs/adr/0010). */
#define STARTUP_INTERVAL_MS 20
#define STARTUP_NS 500000000ULL
#define STARTUP_SAMPLES 16
#define PROGRESS_INTERVAL_NS 1000000000ULL
#define RECORDING_NICE (-15)
#define NAMES_SHARE 4 /* names may take one part in so many of the memory for stacks */
/* What woke us, where it was not the sampler (data.fd of struct epoll_event). */
#define WATCHED_SIGNAL (-2)
#define WATCHED_TARGET (-3)
#define WEIGHT_OF_PROFILE 1e12 /* of all samples of one together */

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
    return NULL;
}

static struct error *open_tables(struct session *session)
{
    struct string_table *strings = &session->table.strings;

    RETURN_IF_ERROR(stack_table_init(&session->table));
    RETURN_IF_ERROR(make_recorders(session));
    RETURN_IF_ERROR(string_table_add(strings, "pid", &session->key_pid));
    RETURN_IF_ERROR(string_table_add(strings, "thread_id", &session->key_thread_id));
    RETURN_IF_ERROR(string_table_add(strings, "thread_name", &session->key_thread_name));
    RETURN_IF_ERROR(string_table_add(strings, "comm", &session->key_comm));
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
    };

    return engine_open(&session->engines[session->num_engines++], &sampler_options, options->engine,
                       events_want_per_task(session->primary->events));
}

static struct error *open_engines(struct session *session)
{
    return open_event_engine(session);
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
static void restore_priority(struct session *session)
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

/* Whose event it is. */
static struct recorder *find_recorder(struct session *session, uint32_t event)
{
    struct recorder *last = &session->recorders[session->num_recorders - 1];

    return event >= last->first_event ? last : session->primary;
}

static struct error *add_sample(struct session *session, const struct sample *sample)
{
    struct recorder *recorder = find_recorder(session, sample->event);
    struct process *process = NULL;
    struct label labels[] = {
        {.key = session->key_pid, .num = sample->pid},
        {.key = session->key_thread_id, .num = sample->tid},
        {.key = session->key_thread_name},
        {.key = session->key_comm},
    };
    uint32_t stack, label_set;

    RETURN_IF_ERROR(target_see(session->target, sample->pid, &process));
    if (process) {
        labels[2].str = process_thread_name(process, sample->tid);
        labels[3].str = process->comm;
    }
    RETURN_IF_ERROR(make_chain(session, process, sample));
    RETURN_IF_ERROR(stack_table_intern(&session->table, session->chain, &stack));
    RETURN_IF_ERROR(
        stack_table_add_label_set(&session->table, labels, ARRAY_LENGTH(labels), &label_set));
    return recorder_add(recorder, sample, session->chain, stack, label_set);
}

/* Counts what an engine lost. All that it samples by shares its rings. */
static void add_loss(struct session *session, const struct engine *engine,
                     const struct event *event)
{
    for (size_t i = 0; i < session->num_recorders; i++)
        if (session->recorders[i].engine == engine && event->loss.kind < LOSS_NUM_KINDS)
            session->recorders[i].profile.loss.counts[event->loss.kind] += event->loss.count;
}

/* Receives every event in order of time; the first error is kept and ends the recording. */
static void handle_event(void *context, const struct event *event)
{
    struct session *session = context;

    if (session->failure)
        return;
    if (event->type == EVENT_SAMPLE) {
        session->failure = add_sample(session, event->sample);
        return;
    }
    if (event->type == EVENT_LOSS)
        add_loss(session, &session->engines[0], event);
    session->failure = target_handle_event(session->target, event);
}

/* --- recording ------------------------------------------------------------------------------ */

/* Bounds what was collected. */
static struct error *limit_memory(struct session *session)
{
    return session->num_recorders > 1 ? NULL
                                      : profile_limit_memory(&session->primary->profile,
                                                             session->options.max_memory_bytes);
}

static struct error *drain(struct session *session, bool final)
{
    struct engine *engine = &session->engines[0];
    size_t num_samples;

    RETURN_IF_ERROR(
        engine->ops->drain(engine->sampler, final, handle_event, session, &num_samples));
    if (session->failure)
        return take_ptr(session->failure);
    return limit_memory(session);
}

static struct error *add_process(struct session *session, const struct scope_task *task)
{
    bool is_main = task == session->options.scope->tasks;

    return target_add_process(session->target, task->pid, is_main, NULL);
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
    if (session->launch)
        return note_missing(session, launch_go(session->launch));
    return visit_tasks(session, add_process);
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
                session->due_ns = cpu_ns;
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

/* Sleeps until samples wait, the target may have ended, a signal came, or it is time to look.
 * Returns: whether it is time to look if the target is alive (not after each sample: a wait4 each).
 */
static bool wait_for_work(struct session *session, uint64_t end_ns)
{
    struct epoll_event events[8];
    uint64_t now_ns = clock_monotonic_ns();
    bool is_starting =
        now_ns - session->start_ns < STARTUP_NS && session_num_samples(session) < STARTUP_SAMPLES;
    int timeout_ms = is_starting ? STARTUP_INTERVAL_MS : DRAIN_INTERVAL_MS;
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
    session->duration_ns = clock_monotonic_ns() - session->start_ns;
    for (size_t i = 0; i < session->num_recorders; i++)
        session->recorders[i].profile.duration_ns = (int64_t)session->duration_ns;
    if (!err)
        err = drain(session, true);
    restore_priority(session);
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
        if (err)
            break;
    }
    return end_take(session, take_ptr(err));
}

/* --- finishing ------------------------------------------------------------------------------ */

/* Adds what share of a profile each location stands for. */
static void weigh_profile(const struct profile *profile, uint64_t *weights)
{
    const struct stack_table *table = profile->table;
    double total = (double)profile_total(profile, 0);

    for (size_t i = 0; i < profile->num_samples; i++) {
        const struct profile_sample *sample = &profile->samples[i];
        const struct stack *stack = &table->stacks[sample->stack];
        uint64_t weight = (uint64_t)((double)sample->values[0] / total * WEIGHT_OF_PROFILE);

        for (uint32_t j = 0; j < stack->num_locations; j++)
            weights[table->stack_locations[stack->first + j]] += weight;
    }
}

/* How much each location stands for, all profiles alike: decides the order of symbolization. */
static struct error *weigh_locations(const struct session *session, uint64_t **weights_ret)
{
    CLEANUP(free) uint64_t *weights = calloc(session->table.num_locations + 1, sizeof(*weights));

    if (!weights)
        return &error_no_memory;
    for (size_t i = 0; i < session->num_recorders; i++)
        weigh_profile(&session->recorders[i].profile, weights);
    *weights_ret = take_ptr(weights);
    return NULL;
}

/* Says who recorded what, and how. */
static struct error *add_origin(struct session *session, struct recorder *recorder)
{
    char events_text[EVENTS_TEXT_BYTES];
    char line[1024];
    size_t used = 0;

    events_describe(recorder->events, session_hz(session), events_text);
    RETURN_IF_ERROR(profile_add_comment(&recorder->profile,
                                        "cprofiler " CPROFILER_VERSION ", %s, %s",
                                        recorder->engine->info.engine, events_text));
    if (!session->options.argv)
        return NULL;
    for (char *const *word = session->options.argv; *word && used < sizeof(line); word++)
        used += (size_t)snprintf(line + used, sizeof(line) - used, " %s", *word);
    return profile_add_comment(&recorder->profile, "command:%s", line);
}

static struct error *add_comments(struct session *session, struct recorder *recorder)
{
    struct profile *profile = &recorder->profile;

    RETURN_IF_ERROR(add_origin(session, recorder));
    if (session->num_recalled)
        RETURN_IF_ERROR(profile_add_comment(profile,
                                            "stacks completed by frames of earlier samples: %llu",
                                            (unsigned long long)session->num_recalled));
    RETURN_IF_ERROR(profile_add_comment(profile, "stacks complete: %llu of %llu samples",
                                        (unsigned long long)recorder->num_complete,
                                        (unsigned long long)recorder->num_samples));
    for (int kind = 0; kind < LOSS_NUM_KINDS; kind++)
        if (profile->loss.counts[kind] || kind == LOSS_LOST || kind == LOSS_THROTTLED)
            RETURN_IF_ERROR(profile_add_comment(profile, "loss: %s %llu",
                                                loss_name((enum loss_kind)kind),
                                                (unsigned long long)profile->loss.counts[kind]));
    return NULL;
}

static struct error *finish_recorder(struct session *session, struct recorder *recorder)
{
    loss_add(&recorder->profile.loss, &session->symbols.loss);
    loss_add(&recorder->profile.loss, target_loss(session->target));
    RETURN_IF_ERROR(add_comments(session, recorder));
    return profile_check(&recorder->profile, session->options.symbolize);
}

struct error *session_finish(struct session *session)
{
    CLEANUP(free) uint64_t *weights = NULL;
    struct unwind_stats stats = {0};
    struct symbolize_options options = {
        .scope = session->options.symbolize ? SYMBOLIZE_ALL : SYMBOLIZE_HERE,
        .inlines = session->options.inlines,
        .debug_dir = session->options.debug_dir,
        .debuginfod = session->options.debuginfod,
        .fetch = session->options.fetch,
        .fetch_context = session->options.fetch_context,
        .timeout_ns = session->options.symbol_timeout_ns,
    };

    if (session->cpu)
        events_settle(session->cpu->events, &session->cpu->engine->info, session->cpu->tallies,
                      &session->cpu->profile);
    RETURN_IF_ERROR(weigh_locations(session, &weights));
    options.location_weights = weights;
    if (options.debuginfod)
        signals_rearm(); /* what ended the recording does not end fetching, the next one does */
    RETURN_IF_ERROR(symbolize_table(&session->table, session->target, &options, &session->symbols));
    session->unwind_ops->stats(session->unwinder, &stats);
    session->num_recalled = stats.num_tails_recalled;
    for (size_t i = 0; i < session->num_recorders; i++)
        RETURN_IF_ERROR(finish_recorder(session, &session->recorders[i]));
    return NULL;
}

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
