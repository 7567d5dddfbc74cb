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

/* --- opening -------------------------------------------------------------------------------- */

static struct error *open_tables(struct session *session)
{
    struct string_table *strings = &session->table.strings;

    RETURN_IF_ERROR(stack_table_init(&session->table));
    RETURN_IF_ERROR(events_init_profile(session->options.events, &session->table, &session->cpu));
    RETURN_IF_ERROR(string_table_add(strings, "pid", &session->key_pid));
    RETURN_IF_ERROR(string_table_add(strings, "thread_id", &session->key_thread_id));
    RETURN_IF_ERROR(string_table_add(strings, "thread_name", &session->key_thread_name));
    RETURN_IF_ERROR(string_table_add(strings, "comm", &session->key_comm));
    session->chain = malloc(sizeof(*session->chain));
    return session->chain ? NULL : &error_no_memory;
}

/* Opens the first engine that this host and user allow, or just the one asked for. */
static struct error *open_sampler(struct session *session)
{
    static const struct sampler_ops *const ladder[] = {&sampler_cpu_wide, &sampler_per_task,
                                                       &sampler_ptrace};
    const struct session_options *options = &session->options;
    const struct scope *scope = options->scope;
    size_t num_engines = scope_is_open(scope) ? 1 : ARRAY_LENGTH(ladder);
    bool prefers_next = num_engines > 1 && events_want_per_task(options->events);
    struct sampler_options sampler_options = {
        .scope = scope_for_sampler(scope),
        .cgroup_fd = scope->cgroup.fd,
        .cpus = scope->cpus.num_cpus ? &scope->cpus : NULL,
        .hz = events_ring_hz(options->events),
        .events = options->events->events,
        .num_events = options->events->num_events,
        .stack_bytes = SAMPLER_DEFAULT_STACK_BYTES,
        .kernel = options->kernel,
        .follow_children = options->follow_children,
        .enable_on_exec = scope->kind == SCOPE_COMMAND,
    };
    CLEANUP(error_destroy) struct error *err = NULL; /* of the engine before */

    for (size_t i = 0; i < num_engines; i++) {
        struct error *refusal;

        if (options->engine ? strcmp(options->engine, ladder[i]->name) != 0
                            : prefers_next && i == 0)
            continue;
        refusal = ladder[i]->open(&sampler_options, &session->sampler);
        if (!refusal) {
            session->sampler_ops = ladder[i];
            free(session->engine_note);
            session->engine_note = err ? strdup(err->message) : NULL;
            return NULL;
        }
        log_info("engine %s: %s", ladder[i]->name, refusal->message);
        if (err && ladder[i] == &sampler_ptrace) { /* what perf lacks is easier to give */
            error_destroy(refusal);
            return take_ptr(err);
        }
        error_destroy(take_ptr(err));
        if (refusal->kind != ERROR_PERMISSION && refusal->kind != ERROR_UNSUPPORTED)
            return refusal;
        err = refusal;
    }
    return take_ptr(err);
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
        return open_sampler(session);
    RETURN_IF_ERROR(target_add_launched(session->target, pid));
    RETURN_IF_ERROR(open_sampler(session));
    return session->sampler_ops->attach(session->sampler, pid, pid);
}

static struct error *attach_thread(void *context, pid_t pid, pid_t tid)
{
    struct session *session = context;

    return session->sampler_ops->attach(session->sampler, pid, tid);
}

/* Attaches one of the tasks of the scope. */
static struct error *attach_task(struct session *session, const struct scope_task *task)
{
    if (session->options.scope->kind == SCOPE_THREADS)
        return session->sampler_ops->attach(session->sampler, task->pid, task->tid);
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
    RETURN_IF_ERROR(open_sampler(session));
    return visit_tasks(session, attach_task);
}

struct error *session_open(struct session *session, const struct session_options *options)
{
    struct unwind_options unwind_options = {.live_tail = true, .remember_frames = true};

    memset(session, 0, sizeof(*session));
    session->options = *options;
    session->clock = events_find_clock(options->events);
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

static struct error *add_sample(struct session *session, const struct sample *sample)
{
    struct process *process = NULL;
    struct label labels[] = {
        {.key = session->key_pid, .num = sample->pid},
        {.key = session->key_thread_id, .num = sample->tid},
        {.key = session->key_thread_name},
        {.key = session->key_comm},
    };
    struct event_tally *tally = &session->tallies[sample->event];
    int64_t values[PROFILE_MAX_VALUES];
    enum loss_kind loss;
    uint32_t stack, label_set;

    RETURN_IF_ERROR(target_see(session->target, sample->pid, &process));
    if (process) {
        labels[2].str = process_thread_name(process, sample->tid);
        labels[3].str = process->comm;
    }
    events_set_values(session->options.events, sample, values);
    RETURN_IF_ERROR(make_chain(session, process, sample));
    RETURN_IF_ERROR(stack_table_intern(&session->table, session->chain, &stack));
    RETURN_IF_ERROR(
        stack_table_add_label_set(&session->table, labels, ARRAY_LENGTH(labels), &label_set));
    RETURN_IF_ERROR(profile_add(&session->cpu, stack, label_set, values));

    session->num_samples++;
    tally->num_samples++;
    tally->num_kernel_samples += sample->in_kernel;
    if (__builtin_add_overflow(tally->weight, sample->weight, &tally->weight))
        tally->weight = UINT64_MAX;
    session->num_complete += session->chain->stop == REASON_NONE;
    loss = frame_reason_loss((enum frame_reason)session->chain->stop);
    if (loss < LOSS_NUM_KINDS)
        session->cpu.loss.counts[loss]++;
    return NULL;
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
    if (event->type == EVENT_LOSS && event->loss.kind < LOSS_NUM_KINDS)
        session->cpu.loss.counts[event->loss.kind] += event->loss.count;
    session->failure = target_handle_event(session->target, event);
}

/* --- recording ------------------------------------------------------------------------------ */

static struct error *drain(struct session *session, bool final)
{
    size_t num_samples;

    RETURN_IF_ERROR(
        session->sampler_ops->drain(session->sampler, final, handle_event, session, &num_samples));
    if (session->failure)
        return take_ptr(session->failure);
    return profile_limit_memory(&session->cpu, session->options.max_memory_bytes);
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
    session->cpu.time_ns = (int64_t)clock_realtime_ns();
    RETURN_IF_ERROR(session->sampler_ops->start(session->sampler));
    scope_begin(session->options.scope);
    session->sampler_ops->info(session->sampler, &session->sampler_info);
    if (session->sampler_info.period_ns)
        session->cpu.period = (int64_t)session->sampler_info.period_ns;
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
    const int fds[] = {
        signals_fd(),
        session->launch ? launch_pidfd(session->launch) : scope_wait_fd(session->options.scope),
    };

    session->epoll_fd = session->sampler_ops->wait_fd(session->sampler);
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
        now_ns - session->start_ns < STARTUP_NS && session->num_samples < STARTUP_SAMPLES;
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

    session->sampler_ops->info(session->sampler, &session->sampler_info);
    if (session->clock == options->events->num_events)
        return;
    if ((!session->sampler_info.has_kernel && !session->sampler_info.counts_kernel) ||
        options->events->events[session->clock].spec.exclude_user)
        return; /* accounting includes user and kernel time, our samples do not */
    if (options->scope->kind == SCOPE_COMMAND)
        session->has_due = session->command_has_ended && options->follow_children &&
                           options->scope->cpus.num_cpus == 0;
    else
        session->has_due = scope_due_ns(options->scope, &session->due_ns);
    if (!session->has_due && session->sampler_info.has_exact) {
        session->due_ns = session->sampler_info.exact[session->clock];
        session->has_due = true;
    }
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
    session->sampler_ops->stop(session->sampler);
    compute_due(session);
    session->duration_ns = clock_monotonic_ns() - session->start_ns;
    session->cpu.duration_ns = (int64_t)session->duration_ns;
    if (!err)
        err = drain(session, true);
    restore_priority(session);
    return take_ptr(err);
}

/* --- finishing ------------------------------------------------------------------------------ */

/* How many nanoseconds each location stands for: decides the order of symbolization. */
static struct error *weigh_locations(const struct session *session, uint64_t **weights_ret)
{
    const struct stack_table *table = &session->table;
    CLEANUP(free) uint64_t *weights = calloc(table->num_locations + 1, sizeof(*weights));

    if (!weights)
        return &error_no_memory;
    for (size_t i = 0; i < session->cpu.num_samples; i++) {
        const struct profile_sample *sample = &session->cpu.samples[i];
        const struct stack *stack = &table->stacks[sample->stack];

        for (uint32_t j = 0; j < stack->num_locations; j++)
            weights[table->stack_locations[stack->first + j]] += (uint64_t)sample->values[0];
    }
    *weights_ret = take_ptr(weights);
    return NULL;
}

static struct error *add_comments(struct session *session)
{
    struct unwind_stats stats = {0};
    struct profile *cpu = &session->cpu;
    char events_text[EVENTS_TEXT_BYTES];

    events_describe(session->options.events, session_hz(session), events_text);
    RETURN_IF_ERROR(profile_add_comment(cpu, "cprofiler " CPROFILER_VERSION ", %s, %s",
                                        session->sampler_info.engine, events_text));
    if (session->options.argv) {
        char line[1024];
        size_t used = 0;

        for (char *const *word = session->options.argv; *word && used < sizeof(line); word++)
            used += (size_t)snprintf(line + used, sizeof(line) - used, " %s", *word);
        RETURN_IF_ERROR(profile_add_comment(cpu, "command:%s", line));
    }
    session->unwind_ops->stats(session->unwinder, &stats);
    session->num_recalled = stats.num_tails_recalled;
    if (session->num_recalled)
        RETURN_IF_ERROR(profile_add_comment(cpu,
                                            "stacks completed by frames of earlier samples: %llu",
                                            (unsigned long long)session->num_recalled));
    RETURN_IF_ERROR(profile_add_comment(cpu, "stacks complete: %llu of %llu samples",
                                        (unsigned long long)session->num_complete,
                                        (unsigned long long)session->num_samples));
    for (int kind = 0; kind < LOSS_NUM_KINDS; kind++)
        if (cpu->loss.counts[kind] || kind == LOSS_LOST || kind == LOSS_THROTTLED)
            RETURN_IF_ERROR(profile_add_comment(cpu, "loss: %s %llu",
                                                loss_name((enum loss_kind)kind),
                                                (unsigned long long)cpu->loss.counts[kind]));
    return NULL;
}

struct error *session_finish(struct session *session)
{
    CLEANUP(free) uint64_t *weights = NULL;
    struct symbolize_options options = {
        .scope = session->options.symbolize ? SYMBOLIZE_ALL : SYMBOLIZE_HERE,
        .inlines = session->options.inlines,
        .debug_dir = session->options.debug_dir,
        .debuginfod = session->options.debuginfod,
        .fetch = session->options.fetch,
        .fetch_context = session->options.fetch_context,
        .timeout_ns = session->options.symbol_timeout_ns,
    };

    events_settle(session->options.events, &session->sampler_info, session->tallies, &session->cpu);
    RETURN_IF_ERROR(weigh_locations(session, &weights));
    options.location_weights = weights;
    if (options.debuginfod)
        signals_rearm(); /* what ended the recording does not end fetching, the next one does */
    RETURN_IF_ERROR(symbolize_table(&session->table, session->target, &options, &session->symbols));
    loss_add(&session->cpu.loss, &session->symbols.loss);
    loss_add(&session->cpu.loss, target_loss(session->target));
    RETURN_IF_ERROR(add_comments(session));
    return profile_check(&session->cpu, session->options.symbolize);
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
    uint64_t period_ns = session->sampler_info.period_ns;

    return period_ns ? (uint32_t)((1000000000ULL + period_ns / 2) / period_ns)
                     : session->options.events->events[0].hz;
}

void session_target_name(const struct session *session, char *text)
{
    if (session->options.scope->kind == SCOPE_COMMAND) {
        const char *slash = strrchr(session->options.argv[0], '/');
        const char *name = slash ? slash + 1 : session->options.argv[0];

        snprintf(text, 128, "%.64s-%d", *name ? name : "process", (int)launch_pid(session->launch));
    } else {
        scope_name(session->options.scope, text, 128);
    }
    for (char *c = text; *c; c++)
        if (*c == '/' || (unsigned char)*c <= ' ' || *c == 127)
            *c = '_';
}

void session_detach(struct session *session)
{
    if (session->sampler)
        session->sampler_ops->destroy(session->sampler);
    session->sampler = NULL;
}

void session_deinit(struct session *session)
{
    session_detach(session);
    if (session->unwinder)
        session->unwind_ops->destroy(session->unwinder);
    signals_forward_to(0);
    launch_destroy(session->launch);
    target_destroy(session->target);
    profile_deinit(&session->cpu);
    stack_table_deinit(&session->table);
    error_destroy(session->failure);
    free(session->engine_note);
    free(session->chain);
    memset(session, 0, sizeof(*session));
}
