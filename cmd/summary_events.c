#include "cmd/summary_events.h"

const char *summary_group_digits(uint64_t number, char *text)
{
    char digits[24];
    int num_digits = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
    char *out = text;

    for (int i = 0; i < num_digits; i++) {
        if (i && (num_digits - i) % 3 == 0)
            *out++ = ' ';
        *out++ = digits[i];
    }
    *out = '\0';
    return text;
}

static double per_second(const struct session *session, double value)
{
    return session->duration_ns ? value * 1e9 / (double)session->duration_ns : 0;
}

static bool is_clock(const struct event_spec *spec)
{
    return spec->class == EVENT_CLASS_CLOCK;
}

/* Whether the kernel's own count of an event is other than what our samples stand for. */
static bool differs_from_exact(const struct session *session, size_t index)
{
    return session->primary->engine->info.has_exact &&
           session->primary->engine->info.exact[session->primary->first_event + index] !=
               session->primary->tallies[index].weight;
}

static void print_event(const struct session *session, size_t index, FILE *stream)
{
    const struct event_spec *spec = &session->primary->events->events[index].spec;
    const struct event_tally *tally = &session->primary->tallies[index];
    double weight = (double)tally->weight;
    char number[32];

    fprintf(stream, "  %s samples = ", summary_group_digits(tally->num_samples, number));
    if (is_clock(spec))
        fprintf(stream, "%.2f s CPU (%.0f %% of one core)", weight / 1e9,
                per_second(session, weight / 1e9) * 100);
    else
        fprintf(stream, "%s %s (%.0f per s)", summary_group_digits(tally->weight, number),
                spec->name, per_second(session, weight));
    if (!spec->fires_in_kernel)
        fprintf(stream, ", kernel %.0f %%",
                tally->num_samples
                    ? 100 * (double)tally->num_kernel_samples / (double)tally->num_samples
                    : 0);
    if (!is_clock(spec) && differs_from_exact(session, index))
        fprintf(stream, "; the kernel counted %s",
                summary_group_digits(
                    session->primary->engine->info.exact[session->primary->first_event + index],
                    number));
    fputc('\n', stream);
    if (tally->sampled &&
        (weight / (double)tally->sampled < 0.9 || weight / (double)tally->sampled > 1.1))
        fprintf(stream,
                "  scaled by %.2f to the kernel's own count: their rate changed faster than it "
                "follows; -c COUNT samples evenly\n",
                weight / (double)tally->sampled);
}

void summary_print_events(const struct session *session, FILE *stream)
{
    for (size_t i = 0; i < session->primary->events->num_events; i++)
        print_event(session, i, stream);
}

static void print_event_json(const struct session *session, size_t index, FILE *stream)
{
    const struct sampler_event *event = &session->primary->events->events[index];
    const struct event_tally *tally = &session->primary->tallies[index];

    fprintf(stream,
            "{\"event\":\"%s\",\"sample_type\":\"%s\",\"unit\":\"%s\",\"hz\":%u,\"period\":%llu,"
            "\"samples\":%llu,\"kernel_samples\":%llu,\"total\":%llu,\"sampled_total\":%llu",
            event->spec.name, event->spec.sample_type, event_spec_unit(&event->spec), event->hz,
            (unsigned long long)event->period, (unsigned long long)tally->num_samples,
            (unsigned long long)tally->num_kernel_samples, (unsigned long long)tally->weight,
            (unsigned long long)tally->sampled);
    if (session->primary->engine->info.has_exact)
        fprintf(stream, ",\"counted\":%llu",
                (unsigned long long)
                    session->primary->engine->info.exact[session->primary->first_event + index]);
    fputc('}', stream);
}

void summary_print_events_json(const struct session *session, FILE *stream)
{
    const struct event_list *list = session->primary->events;
    const struct event_spec *first = &list->events[0].spec;

    fprintf(stream, ",\"event\":\"%s\",\"unit\":\"%s\",\"total\":%llu,\"events\":[", first->name,
            event_spec_unit(first), (unsigned long long)session->primary->tallies[0].weight);
    for (size_t i = 0; i < list->num_events; i++) {
        if (i)
            fputc(',', stream);
        print_event_json(session, i, stream);
    }
    fputc(']', stream);
}
