#include "output/top.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "output/top_graph.h"
#include "output/top_name.h"
#include "output/units.h"

/* Defaults of pprof: nodes and edges below these shares of the total are not shown. */
#define NODE_FRACTION 0.005
#define EDGE_FRACTION 0.001

#define NS_PER_S 1000000000

/* Above this share an error is marked: that of 10 small samples, 1/sqrt(10). */
#define UNCERTAIN_SHARE 0.3163

#define ERROR_TEXT_BYTES 16

static inline void cleanup_top_graph_deinit(struct top_graph *graph)
{
    top_graph_deinit(graph);
}

/* A table on its way to the screen. */
struct top_report {
    struct top_graph graph;
    const struct profile *profile;
    const struct top_options *options;
    const char *unit;       /* of the column */
    const char *shown_unit; /* of all values in the table */
    int64_t total;          /* of |value| over all samples, also those that show nowhere */
    size_t num_dropped;     /* nodes below NODE_FRACTION */
    size_t num_nodes;       /* nodes before max_rows was applied */
    FILE *stream;
};

static const char *profile_string(const struct profile *profile, uint32_t id)
{
    return string_table_get(&profile->table->strings, id);
}

struct error *top_compute(const struct profile *profile, size_t column, struct top_row **rows_ret,
                          size_t *num_rows_ret)
{
    CLEANUP(top_graph_deinit) struct top_graph graph;
    struct top_row *rows = NULL;

    RETURN_IF_ERROR(top_graph_init(&graph, profile, column, NULL));
    top_graph_sort(&graph, TOP_BY_FLAT);
    if (graph.num_order > 0) {
        rows = calloc(graph.num_order, sizeof(*rows));
        if (!rows)
            return &error_no_memory;
    }
    for (size_t i = 0; i < graph.num_order; i++) {
        const struct top_node *node = &graph.nodes[graph.order[i]];

        rows[i] = (struct top_row){.name = node->text, .flat = node->flat, .cum = node->cum};
    }
    *rows_ret = rows;
    *num_rows_ret = graph.num_order;
    return NULL;
}

size_t top_default_column(const struct profile *profile)
{
    for (size_t i = 0; profile->default_type != 0 && i < profile->num_value_types; i++)
        if (profile->value_types[i].type == profile->default_type)
            return i;
    return profile->num_value_types > 0 ? profile->num_value_types - 1 : 0;
}

bool top_find_column(const struct profile *profile, const char *name, size_t *column_ret)
{
    static const char in_use[] = "inuse_";
    const char *short_name =
        strncmp(name, in_use, sizeof(in_use) - 1) == 0 ? name + sizeof(in_use) - 1 : name;

    if (name[0] >= '0' && name[0] <= '9') {
        char *end;
        unsigned long number = strtoul(name, &end, 10);

        if (*end != '\0' || number >= profile->num_value_types)
            return false;
        *column_ret = number;
        return true;
    }
    for (size_t i = 0; i < profile->num_value_types; i++) {
        const char *type = profile_string(profile, profile->value_types[i].type);

        if (strcmp(type, name) == 0 || strcmp(type, short_name) == 0) {
            *column_ret = i;
            return true;
        }
    }
    return false;
}

void top_format_value(int64_t value, const char *unit, char *text, size_t text_bytes)
{
    unit_format(value, unit, "auto", text, text_bytes);
}

static int64_t fraction_of(int64_t total, double fraction)
{
    return top_abs((int64_t)((double)total * fraction));
}

/* Sums |value| of the samples from number `first` on. */
static int64_t sum_values(const struct profile *profile, size_t column, size_t first)
{
    int64_t total = 0;

    for (size_t i = first; i < profile->num_samples; i++)
        if (__builtin_add_overflow(total, top_abs(profile->samples[i].values[column]), &total))
            return INT64_MAX;
    return total;
}

/* What all percentages refer to: of a difference the base, unless it is empty. */
static int64_t compute_total(const struct profile *profile, size_t column,
                             const struct top_options *options)
{
    int64_t total = 0;

    if (options->is_difference)
        total = sum_values(profile, column, options->first_base);
    return total != 0 ? total : sum_values(profile, column, 0);
}

/* Sums the flat values of the nodes that are shown. */
static int64_t sum_flat(const struct top_graph *graph)
{
    int64_t total = 0;

    for (size_t i = 0; i < graph->num_order; i++)
        if (__builtin_add_overflow(total, graph->nodes[graph->order[i]].flat, &total))
            return INT64_MAX;
    return total;
}

/* Drops small nodes, sorts, and keeps at most max_rows of them. */
static struct error *top_report_trim(struct top_report *report)
{
    enum top_order order = report->options->order;
    size_t max_rows = report->options->max_rows;
    struct top_graph *graph = &report->graph;
    int64_t graph_total = sum_flat(graph);
    int64_t cutoff = fraction_of(graph_total, NODE_FRACTION);

    if (cutoff > 0) {
        report->num_dropped = top_graph_cut(graph, cutoff);
        if (report->num_dropped > 0)
            RETURN_IF_ERROR(top_graph_rebuild(graph));
    }
    report->num_nodes = graph->num_order;
    top_graph_sort(graph, order);
    if (max_rows > 0 && max_rows < graph->num_order) {
        graph->num_order = max_rows;
        RETURN_IF_ERROR(top_graph_rebuild(graph));
        top_graph_sort(graph, order);
    }
    top_graph_mark_inline(graph, fraction_of(graph_total, EDGE_FRACTION));
    return NULL;
}

/* Picks one unit for the whole table: that of the smallest value, but when the largest is in
 * another one, then that in which the smallest is still 0.01. */
static void top_report_select_unit(struct top_report *report)
{
    const struct top_graph *graph = &report->graph;
    int64_t min_value = 0;
    int64_t max_value = report->total;
    double scaled;
    const char *min_unit;
    const char *unit;

    report->shown_unit = "auto";
    if (graph->num_order == 0)
        return;
    for (size_t i = 0; i < graph->num_order; i++) {
        const struct top_node *node = &graph->nodes[graph->order[i]];
        int64_t value = top_abs(node->flat != 0 ? node->flat : node->cum);

        if (value > 0 && (min_value == 0 || value < min_value))
            min_value = value;
    }
    if (min_value == 0)
        min_value = max_value;
    min_unit = unit_scale(min_value, report->unit, "auto", &scaled);
    unit = min_unit;
    if (strcmp(min_unit, unit_scale(max_value, report->unit, "auto", &scaled)) != 0 &&
        min_value < max_value / 100 + (max_value % 100 != 0))
        unit = unit_scale(100 * min_value, report->unit, "auto", &scaled);
    report->shown_unit = unit[0] != '\0' ? unit : report->unit;
}

static void top_report_format(const struct top_report *report, int64_t value,
                              char text[UNIT_VALUE_BYTES])
{
    unit_format(value, report->unit, report->shown_unit, text, UNIT_VALUE_BYTES);
}

/* Prints text of the file: names may hold anything, the terminal gets no control characters. */
static struct error *print_text(const struct top_report *report, const char *before,
                                const char *text, size_t max_bytes, const char *after)
{
    CLEANUP(free) char *copy = strndup(text, max_bytes);
    CLEANUP(free) char *clean = NULL;

    if (!copy)
        return &error_no_memory;
    RETURN_IF_ERROR(utf8_sanitize(copy, &clean));
    fprintf(report->stream, "%s%s%s\n", before, clean, after);
    return NULL;
}

/* The main executable: it is the first mapping of a pprof file. */
static struct error *print_main_mapping(const struct top_report *report)
{
    const struct stack_table *table = report->profile->table;
    const struct mapping *main_mapping = table->num_mappings > 0 ? &table->mappings[0] : NULL;

    for (size_t i = 0; i < table->num_mappings; i++) {
        if (table->mappings[i].is_main) {
            main_mapping = &table->mappings[i];
            break;
        }
    }
    if (main_mapping && main_mapping->path != 0) {
        size_t num_bytes;
        const char *base =
            top_name_base(profile_string(report->profile, main_mapping->path), &num_bytes);

        RETURN_IF_ERROR(print_text(report, "File: ", base, num_bytes, ""));
    }
    if (!main_mapping || main_mapping->build_id == 0)
        return NULL;
    return print_text(report, "Build ID: ", profile_string(report->profile, main_mapping->build_id),
                      SIZE_MAX, "");
}

/* Comments, but for those that begin with '#': they are for programs. */
static struct error *print_comments(const struct top_report *report)
{
    const struct profile *profile = report->profile;

    for (size_t i = 0; i < profile->num_comments; i++) {
        const char *comment = profile_string(profile, profile->comments[i]);

        if (comment[0] != '#')
            RETURN_IF_ERROR(print_text(report, "", comment, SIZE_MAX, ""));
    }
    return NULL;
}

static void print_time(const struct top_report *report)
{
    time_t seconds = (time_t)(report->profile->time_ns / NS_PER_S);
    struct tm local;
    char text[64];

    if (report->profile->time_ns == 0)
        return;
    if (report->profile->time_ns < 0 && report->profile->time_ns % NS_PER_S != 0)
        seconds--;
    tzset();
    if (localtime_r(&seconds, &local) &&
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %Z", &local) > 0)
        fprintf(report->stream, "Time: %s\n", text);
}

static void print_duration(const struct top_report *report)
{
    int64_t duration_ns = report->profile->duration_ns;
    char duration[UNIT_VALUE_BYTES];
    char total[UNIT_VALUE_BYTES];
    char percent[UNIT_PERCENT_BYTES];
    double total_ns;
    const char *total_unit;

    if (duration_ns == 0)
        return;
    unit_format(duration_ns, "nanoseconds", "auto", duration, sizeof(duration));
    top_report_format(report, report->total, total);
    fprintf(report->stream, "Duration: %s, Total samples = %s ", duration, total);
    total_unit = unit_scale(report->total, report->unit, "nanoseconds", &total_ns);
    if (strcmp(total_unit, "ns") == 0 && total_ns != 0 && total_ns < (double)INT64_MAX) {
        unit_format_percent((int64_t)total_ns, duration_ns, percent);
        fprintf(report->stream, "(%s)", percent);
    }
    fputc('\n', report->stream);
}

static void print_counts(const struct top_report *report)
{
    const struct top_graph *graph = &report->graph;
    char shown[UNIT_VALUE_BYTES];
    char total[UNIT_VALUE_BYTES];
    char cutoff[UNIT_VALUE_BYTES];
    char percent[UNIT_PERCENT_BYTES];
    int64_t shown_value = sum_flat(graph);

    top_report_format(report, shown_value, shown);
    top_report_format(report, report->total, total);
    unit_format_percent(shown_value, report->total, percent);
    fprintf(report->stream, "Showing nodes accounting for %s, %s of %s total\n", shown,
            percent + strspn(percent, " "), total);
    if (report->total == 0)
        return;
    if (report->num_dropped > 0) {
        top_report_format(report, fraction_of(report->total, NODE_FRACTION), cutoff);
        fprintf(report->stream, "Dropped %zu node%s (cum <= %s)\n", report->num_dropped,
                report->num_dropped > 1 ? "s" : "", cutoff);
    }
    if (graph->num_order > 0 && graph->num_order < report->num_nodes)
        fprintf(report->stream, "Showing top %zu nodes out of %zu\n", graph->num_order,
                report->num_nodes);
}

/* Writes an error as a share of its value. */
static void format_error(const struct heap_error *error, int64_t value, char text[ERROR_TEXT_BYTES])
{
    double share = value != 0 ? heap_error_share(error, (double)value) : 0;

    if (value == 0 || (error->num_samples <= 0 && error->variance <= 0))
        snprintf(text, ERROR_TEXT_BYTES, "-");
    else if (!(share <= 9.99)) /* a file may hold anything: not a number, too */
        snprintf(text, ERROR_TEXT_BYTES, ">999%%?");
    else
        snprintf(text, ERROR_TEXT_BYTES, share < 0.0995 ? "%.1f%%%s" : "%.0f%%%s", 100 * share,
                 share > UNCERTAIN_SHARE ? "?" : "");
}

/* Prints one row. flat_sum: flat values of this row and all above it. */
static struct error *print_row(const struct top_report *report, const struct top_node *node,
                               int64_t flat_sum)
{
    const char *called = "";
    char flat[UNIT_VALUE_BYTES];
    char cum[UNIT_VALUE_BYTES];
    char flat_percent[UNIT_PERCENT_BYTES];
    char sum_percent[UNIT_PERCENT_BYTES];
    char cum_percent[UNIT_PERCENT_BYTES];
    char flat_error[ERROR_TEXT_BYTES];
    char cum_error[ERROR_TEXT_BYTES];
    char errors[2 * ERROR_TEXT_BYTES + 8] = "";
    char before[2 * UNIT_VALUE_BYTES + 3 * UNIT_PERCENT_BYTES + sizeof(errors) + 8];

    if (node->has_inline_call)
        called = node->has_call ? " (partial-inline)" : " (inline)";
    top_report_format(report, node->flat, flat);
    top_report_format(report, node->cum, cum);
    unit_format_percent(node->flat, report->total, flat_percent);
    unit_format_percent(flat_sum, report->total, sum_percent);
    unit_format_percent(node->cum, report->total, cum_percent);
    if (report->options->errors) {
        format_error(&node->flat_error, node->flat, flat_error);
        format_error(&node->cum_error, node->cum, cum_error);
        snprintf(errors, sizeof(errors), " %6s %6s", flat_error, cum_error);
    }
    snprintf(before, sizeof(before), "%10s %s %s %10s %s%s  ", flat, flat_percent, sum_percent, cum,
             cum_percent, errors);
    return print_text(report, before, profile_string(report->profile, node->text), SIZE_MAX,
                      called);
}

static void print_head(const struct top_report *report)
{
    if (report->options->errors)
        fprintf(report->stream,
                "+-: one standard deviation of the sampling; ?: above 32%%, as of fewer than 10 "
                "samples, is hardly more than a guess\n");
    fprintf(report->stream, "%10s %5s%% %5s%% %10s %5s%%%s\n", "flat", "flat", "sum", "cum", "cum",
            report->options->errors ? " flat+-  cum+-" : "");
}

static struct error *print_rows(const struct top_report *report)
{
    const struct top_graph *graph = &report->graph;
    int64_t flat_sum = 0;

    print_head(report);
    for (size_t i = 0; i < graph->num_order; i++) {
        const struct top_node *node = &graph->nodes[graph->order[i]];

        if (__builtin_add_overflow(flat_sum, node->flat, &flat_sum))
            flat_sum = INT64_MAX;
        RETURN_IF_ERROR(print_row(report, node, flat_sum));
        if (ferror(report->stream))
            return NULL;
    }
    return NULL;
}

static inline void cleanup_top_report_deinit(struct top_report *report)
{
    top_graph_deinit(&report->graph);
}

struct error *top_print(const struct profile *profile, size_t column,
                        const struct top_options *options, FILE *stream)
{
    static const struct top_options no_options = {.order = TOP_BY_FLAT};
    CLEANUP(top_report_deinit) struct top_report report = {.profile = profile, .stream = stream};
    const char *type = profile_string(profile, profile->value_types[column].type);

    if (!options)
        options = &no_options;
    report.options = options;
    RETURN_IF_ERROR(top_graph_init(&report.graph, profile, column, options->errors));
    report.unit = profile_string(profile, profile->value_types[column].unit);
    report.total = compute_total(profile, column, options);
    RETURN_IF_ERROR(top_report_trim(&report));
    top_report_select_unit(&report);
    errno = 0;
    RETURN_IF_ERROR(print_main_mapping(&report));
    RETURN_IF_ERROR(print_comments(&report));
    if (type[0] != '\0')
        RETURN_IF_ERROR(print_text(&report, "Type: ", type, SIZE_MAX, ""));
    print_time(&report);
    print_duration(&report);
    print_counts(&report);
    RETURN_IF_ERROR(print_rows(&report));
    if (ferror(stream) || fflush(stream) != 0)
        return error_from_errno(errno != 0 ? errno : EIO, "check that the disk or pipe takes data",
                                "cannot write the table");
    return NULL;
}
