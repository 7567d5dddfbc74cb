#include "cmd/completion.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/procfs.h"
#include "cmd/json.h"

#define MAX_TOLD_FILES 5    /* without names, in the summary */
#define MAX_JSON_FILES 1000 /* the same, for machines */
#define MAX_TOLD_BYTES 1024 /* of a name */

/* Text without control characters and not endless, for the terminal: names come from the profile.
 */
static void print_clean(const char *text)
{
    size_t num_bytes = 0;

    for (; *text && num_bytes++ < MAX_TOLD_BYTES; text++)
        fputc((unsigned char)*text < ' ' || *text == 127 ? '?' : *text, stderr);
    if (*text)
        fputs("...", stderr);
}

/* What is wrong with the file of a mapping; NULL when it is not the file. */
static const char *status_text(enum mapping_file_status status)
{
    switch (status) {
    case MAPPING_FILE_MISSING:
        return "not found";
    case MAPPING_FILE_OTHER_BUILD:
        return "another build lies there";
    case MAPPING_FILE_NO_BUILD_ID:
        return "the profile tells no build-id to verify it by (--unverified)";
    default:
        return NULL;
    }
}

/* A mapping without names and what it stands for. */
struct told_file {
    uint32_t mapping; /* index */
    uint64_t weight;
};

static int told_compare(const void *left, const void *right)
{
    const struct told_file *a = left;
    const struct told_file *b = right;

    if (a->weight != b->weight)
        return a->weight > b->weight ? -1 : 1;
    return a->mapping < b->mapping ? -1 : a->mapping > b->mapping;
}

static void print_file(const struct completion *completion, uint32_t index)
{
    const struct string_table *strings = &completion->table->strings;
    const struct mapping *mapping = &completion->table->mappings[index];
    const char *build_id = string_table_get(strings, mapping->build_id);

    fprintf(stderr, "  ");
    print_clean(string_table_get(strings, mapping->path));
    if (build_id[0]) {
        fprintf(stderr, " (build-id ");
        print_clean(build_id);
        fputc(')', stderr);
    }
    fprintf(stderr, ": %s\n", status_text(completion->statuses[index]));
}

/* Lists the mappings whose file was not there, those that matter most first.
 * files_ret: owned by the caller. Returns: NULL or error_no_memory. */
static struct error *find_missing(const struct completion *completion, struct told_file **files_ret,
                                  size_t *num_ret)
{
    const struct stack_table *table = completion->table;
    const uint64_t *weights = pprof_patch_weights(completion->patch);
    struct told_file *files = calloc(table->num_mappings + 1, sizeof(*files));

    if (!files)
        return &error_no_memory;
    for (uint32_t i = 0; i < table->num_mappings; i++)
        files[i].mapping = i;
    for (size_t i = 0; completion->statuses && i < table->num_locations; i++) {
        uint32_t mapping = table->locations[i].key.mapping;

        if (mapping && status_text(completion->statuses[mapping - 1]))
            files[mapping - 1].weight += weights[i] < UINT64_MAX >> 32 ? weights[i] + 1 : 1;
    }
    *num_ret = 0;
    for (size_t i = 0; i < table->num_mappings; i++)
        *num_ret += files[i].weight > 0;
    qsort(files, table->num_mappings, sizeof(*files), told_compare);
    *files_ret = files;
    return NULL;
}

struct error *completion_print_missing(const struct completion *completion)
{
    CLEANUP(free) struct told_file *files = NULL;
    size_t num_files;

    RETURN_IF_ERROR(find_missing(completion, &files, &num_files));
    for (size_t i = 0; i < num_files && i < MAX_TOLD_FILES; i++)
        print_file(completion, files[i].mapping);
    if (num_files > MAX_TOLD_FILES)
        fprintf(stderr, "  and %zu files more\n", num_files - MAX_TOLD_FILES);
    return NULL;
}

/* The mapping found that has most places without a name, unless all have one. */
static void print_worst(const struct completion *completion)
{
    const struct symbolize_result *result = &completion->result;
    const struct mapping *mapping = stack_table_mapping(completion->table, result->worst_mapping);
    const char *path;
    const char *slash;

    if (!mapping)
        return;
    path = string_table_get(&completion->table->strings, mapping->path);
    slash = strrchr(path, '/');
    fprintf(stderr, " (worst: ");
    print_clean(slash && slash[1] ? slash + 1 : path);
    fprintf(stderr, ", %llu places without a name%s)",
            (unsigned long long)result->worst_num_locations,
            completion->statuses[result->worst_mapping - 1] == MAPPING_FILE_FOUND
                ? ": give its debug file by --debug-dir"
                : "");
}

void completion_count_files(const struct completion *completion, size_t *num_wanted_ret,
                            size_t *num_found_ret)
{
    *num_wanted_ret = 0;
    *num_found_ret = 0;
    for (size_t i = 0; completion->statuses && i < completion->table->num_mappings; i++) {
        *num_wanted_ret += completion->statuses[i] >= MAPPING_FILE_FOUND;
        *num_found_ret += completion->statuses[i] == MAPPING_FILE_FOUND;
    }
}

/* What came of all asking of servers. */
static struct symbolize_fetches count_fetches(const struct completion *completion)
{
    const struct symbolize_fetches *early = &completion->fetches;
    const struct symbolize_fetches *late = &completion->result.fetches;

    return (struct symbolize_fetches){
        .num_files = early->num_files + late->num_files,
        .num_bytes = early->num_bytes + late->num_bytes,
        .num_missing = early->num_missing + late->num_missing,
        .is_stopped = early->is_stopped || late->is_stopped,
    };
}

static void print_fetches(const struct completion *completion)
{
    struct symbolize_fetches fetches = count_fetches(completion);

    fprintf(stderr, "  debuginfod: %llu file%s, %llu not there%s\n",
            (unsigned long long)fetches.num_files, fetches.num_files == 1 ? "" : "s",
            (unsigned long long)fetches.num_missing,
            fetches.is_stopped ? "; stopped, the rest was not asked for" : "");
}

/* Share of the weight that has names. */
static double named_share(const struct completion *completion)
{
    const struct symbolize_result *result = &completion->result;

    if (result->weight_total > 0)
        return (double)result->weight_named / (double)result->weight_total;
    return completion->num_open == 0;
}

struct error *completion_print(const struct completion *completion)
{
    const struct symbolize_result *result = &completion->result;
    size_t num_found, num_wanted;

    completion_count_files(completion, &num_wanted, &num_found);
    fprintf(stderr, "cprofiler: named %zu of %zu places, %zu of %zu mappings found, %.2f s\n",
            completion->num_open_before - completion->num_open, completion->num_open_before,
            num_found, num_wanted, (double)result->duration_ns / 1e9);
    fprintf(stderr, "  frames named %.1f %%", 100 * named_share(completion));
    print_worst(completion);
    fputc('\n', stderr);
    RETURN_IF_ERROR(completion_print_missing(completion));
    if (completion->options->debuginfod)
        print_fetches(completion);
    if (result->loss.counts[LOSS_SYMBOL_TIMEOUT])
        fprintf(stderr, "  %llu places left unnamed for want of time: raise --symbol-timeout\n",
                (unsigned long long)result->loss.counts[LOSS_SYMBOL_TIMEOUT]);
    if (result->loss.counts[LOSS_DEBUG_INFO_TIMEOUT])
        fprintf(stderr,
                "  %llu places without file, line and inlined functions: their debug info took too "
                "long (raise --symbol-timeout) or is too large\n",
                (unsigned long long)result->loss.counts[LOSS_DEBUG_INFO_TIMEOUT]);
    fprintf(stderr, "  wrote ");
    print_clean(completion->output_path);
    fprintf(stderr, " (%llu bytes)\n", (unsigned long long)completion->num_bytes);
    return NULL;
}

/* --- for machines --------------------------------------------------------------------------- */

static void print_json_figures(const struct completion *completion, FILE *stream)
{
    const struct symbolize_result *result = &completion->result;
    struct symbolize_fetches fetches = count_fetches(completion);
    size_t num_found, num_wanted;

    completion_count_files(completion, &num_wanted, &num_found);
    fprintf(stream,
            "{\"version\":\"%s\",\"named_share\":%.6f,\"named\":%zu,\"not_symbolized\":%zu,"
            "\"mappings\":{\"wanted\":%zu,\"found\":%zu},\"loss\":{",
            CPROFILER_VERSION, named_share(completion),
            completion->num_open_before - completion->num_open, completion->num_open, num_wanted,
            num_found);
    for (int kind = 0; kind < LOSS_NUM_KINDS; kind++)
        fprintf(stream, "%s\"%s\":%llu", kind ? "," : "", loss_key((enum loss_kind)kind),
                (unsigned long long)result->loss.counts[kind]);
    fprintf(stream,
            "},\"cost\":{\"cpu_seconds\":%.6f,\"peak_rss_bytes\":%llu,\"symbolize_seconds\":%.6f}",
            (double)clock_self_cpu_ns() / 1e9, (unsigned long long)procfs_self_peak_rss(),
            (double)result->duration_ns / 1e9);
    if (completion->options->debuginfod)
        fprintf(stream, ",\"debuginfod\":{\"files\":%llu,\"bytes\":%llu,\"missing\":%llu}",
                (unsigned long long)fetches.num_files, (unsigned long long)fetches.num_bytes,
                (unsigned long long)fetches.num_missing);
}

static struct error *print_json_worst(const struct completion *completion, FILE *stream)
{
    const struct symbolize_result *result = &completion->result;
    const struct mapping *mapping = stack_table_mapping(completion->table, result->worst_mapping);

    if (!mapping)
        return NULL;
    fprintf(stream, ",\"worst\":{\"mapping\":");
    RETURN_IF_ERROR(
        json_print_string(string_table_get(&completion->table->strings, mapping->path), stream));
    fprintf(stream, ",\"unnamed_locations\":%llu}",
            (unsigned long long)result->worst_num_locations);
    return NULL;
}

static struct error *print_json_missing(const struct completion *completion, FILE *stream)
{
    const struct string_table *strings = &completion->table->strings;
    CLEANUP(free) struct told_file *files = NULL;
    size_t num_files;

    RETURN_IF_ERROR(find_missing(completion, &files, &num_files));
    fprintf(stream, ",\"missing\":[");
    for (size_t i = 0; i < num_files && i < MAX_JSON_FILES; i++) {
        const struct mapping *mapping = &completion->table->mappings[files[i].mapping];

        fprintf(stream, "%s{\"mapping\":", i ? "," : "");
        RETURN_IF_ERROR(json_print_string(string_table_get(strings, mapping->path), stream));
        fprintf(stream, ",\"build_id\":");
        RETURN_IF_ERROR(json_print_string(string_table_get(strings, mapping->build_id), stream));
        fprintf(stream, ",\"reason\":");
        RETURN_IF_ERROR(
            json_print_string(status_text(completion->statuses[files[i].mapping]), stream));
        fputc('}', stream);
    }
    fputc(']', stream);
    return NULL;
}

static struct error *print_json(const void *context, FILE *stream)
{
    const struct completion *completion = context;

    print_json_figures(completion, stream);
    RETURN_IF_ERROR(print_json_worst(completion, stream));
    RETURN_IF_ERROR(print_json_missing(completion, stream));
    fprintf(stream, ",\"files\":[");
    if (completion->num_bytes > 0) {
        fprintf(stream, "{\"kind\":\"profile\",\"path\":");
        RETURN_IF_ERROR(json_print_string(completion->output_path, stream));
        fprintf(stream, ",\"bytes\":%llu}", (unsigned long long)completion->num_bytes);
    }
    fprintf(stream, "]}\n");
    return NULL;
}

struct error *completion_write_json(const struct completion *completion)
{
    return json_write(completion->options->json, print_json, completion);
}
