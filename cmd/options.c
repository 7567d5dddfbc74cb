#include "cmd/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/nearest.h"

#define MAX_NAMES 64

/* What is being parsed, passed along so that the helpers stay small. */
struct parser {
    const struct command *command;
    int argc;
    char **argv;
    int next; /* index of the next word */
    void *options;
};

static struct error *unknown_option(const struct parser *parser, const char *word)
{
    const char *names[MAX_NAMES + 1];
    size_t num_names = 0;
    char hint[160];
    const char *negation = "";
    const char *nearest = NULL;

    for (const struct option_row *row = parser->command->options;
         row->long_name && num_names < MAX_NAMES; row++)
        names[num_names++] = row->long_name;
    names[num_names] = NULL;
    if (word[0] == '-' && word[1] == '-') {
        negation = strncmp(word + 2, "no-", 3) ? "" : "no-";
        nearest = nearest_name(word + 2 + strlen(negation), names);
    }
    if (nearest)
        snprintf(hint, sizeof(hint), "did you mean --%s%s? all options: cprofiler %s --help",
                 negation, nearest, parser->command->name);
    else
        snprintf(hint, sizeof(hint), "all options: cprofiler %s --help", parser->command->name);
    return error_create(ERROR_USAGE, hint, "%s: unknown option '%s'", parser->command->name, word);
}

static struct error *bad_value(const struct parser *parser, const struct option_row *row,
                               const char *value, const char *wanted)
{
    char hint[160];

    snprintf(hint, sizeof(hint), "type for example: --%s %s", row->long_name,
             row->kind == OPTION_SECONDS ? "30"
             : row->kind == OPTION_BYTES ? "64M"
                                         : "99");
    return error_create(ERROR_USAGE, hint, "%s: --%s wants %s, not '%s'", parser->command->name,
                        row->long_name, wanted, value);
}

static struct error *store_uint(const struct parser *parser, const struct option_row *row,
                                const char *value, unsigned long *field)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(value, &end, 10);
    if (errno || end == value || *end || value[0] == '-' || value[0] == '+')
        return bad_value(parser, row, value, "a whole number");
    if (number < row->min || number > row->max)
        return error_create(ERROR_USAGE, row->range_reason, "%s: --%s %lu is not within %lu to %lu",
                            parser->command->name, row->long_name, number, row->min, row->max);
    *field = number;
    return NULL;
}

static struct error *store_seconds(const struct parser *parser, const struct option_row *row,
                                   const char *value, double *field)
{
    char *end;
    double seconds = strtod(value, &end);

    if (end != value && *end && !end[1]) {
        double factor = *end == 's' ? 1 : *end == 'm' ? 60 : *end == 'h' ? 3600 : 0;

        if (factor > 0) {
            seconds *= factor;
            end++;
        }
    }
    if (end == value || *end || !isfinite(seconds) || seconds <= 0 || seconds > 1e9)
        return bad_value(parser, row, value, "a time above 0 (30, 0.5, 2m, 1h)");
    *field = seconds;
    return NULL;
}

static struct error *store_bytes(const struct parser *parser, const struct option_row *row,
                                 const char *value, unsigned long long *field)
{
    char *end;
    unsigned long long number;
    unsigned shift = 0;

    errno = 0;
    number = strtoull(value, &end, 10);
    if (end != value && *end) {
        const char *suffixes = "kKmMgG";
        const char *found = strchr(suffixes, *end);

        if (found && (!end[1] || ((end[1] == 'B' || end[1] == 'b') && !end[2]))) {
            shift = 10 * (unsigned)((found - suffixes) / 2 + 1);
            end = (char *)"";
        }
    }
    if (errno || end == value || *end || value[0] == '-' || number == 0 ||
        number > (~0ULL >> shift))
        return bad_value(parser, row, value, "a size above 0 (64M, 1G, 4096)");
    *field = number << shift;
    return NULL;
}

/* Stores a value (NULL for flags and optional values) in the field of `row`. */
static struct error *store(const struct parser *parser, const struct option_row *row, bool on,
                           const char *value)
{
    void *field = (char *)parser->options + row->offset;
    struct option_list *list = field;

    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)field = on;
        return NULL;
    case OPTION_SWITCH:
        *(int *)field = on;
        return NULL;
    case OPTION_STRING:
        if (!*value)
            return bad_value(parser, row, value, "a value");
        *(const char **)field = value;
        return NULL;
    case OPTION_OPTIONAL:
        *(const char **)field = value ? value : "";
        return NULL;
    case OPTION_UINT:
        return store_uint(parser, row, value, field);
    case OPTION_SECONDS:
        return store_seconds(parser, row, value, field);
    case OPTION_BYTES:
        return store_bytes(parser, row, value, field);
    case OPTION_LIST:
        if (list->num_values == OPTION_LIST_MAX)
            return error_create(ERROR_USAGE, "give fewer of them, or several joined by commas",
                                "%s: more than %d --%s", parser->command->name, OPTION_LIST_MAX,
                                row->long_name);
        list->values[list->num_values++] = value;
        return NULL;
    }
    return NULL;
}

static bool takes_value(const struct option_row *row)
{
    return row->kind != OPTION_FLAG && row->kind != OPTION_SWITCH && row->kind != OPTION_OPTIONAL;
}

/* The value of an option: what is attached to it, else the next word. */
static struct error *find_value(struct parser *parser, const struct option_row *row,
                                const char *attached, const char **value_ret)
{
    if (attached) {
        *value_ret = attached;
        return NULL;
    }
    if (parser->next >= parser->argc || strcmp(parser->argv[parser->next], "--") == 0)
        return error_create(ERROR_USAGE, row->help, "%s: --%s wants a value (%s)",
                            parser->command->name, row->long_name, row->value_name);
    *value_ret = parser->argv[parser->next++];
    return NULL;
}

static const struct option_row *find_long(const struct parser *parser, const char *name,
                                          size_t name_bytes, bool *on_ret)
{
    for (const struct option_row *row = parser->command->options; row->long_name; row++) {
        if (strlen(row->long_name) == name_bytes && !memcmp(row->long_name, name, name_bytes)) {
            *on_ret = true;
            return row;
        }
        if (row->can_negate && name_bytes > 3 && !memcmp(name, "no-", 3) &&
            strlen(row->long_name) == name_bytes - 3 &&
            !memcmp(row->long_name, name + 3, name_bytes - 3)) {
            *on_ret = false;
            return row;
        }
    }
    return NULL;
}

static struct error *parse_long(struct parser *parser, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t name_bytes = equals ? (size_t)(equals - word) - 2 : strlen(word) - 2;
    const char *value = equals ? equals + 1 : NULL;
    bool on = true;
    const struct option_row *row = find_long(parser, word + 2, name_bytes, &on);

    if (!row)
        return unknown_option(parser, word);
    if ((row->kind == OPTION_FLAG || row->kind == OPTION_SWITCH) && value)
        return error_create(ERROR_USAGE, "write it without '=' and what follows",
                            "%s: --%s takes no value", parser->command->name, row->long_name);
    if (takes_value(row))
        RETURN_IF_ERROR(find_value(parser, row, value, &value));
    return store(parser, row, on, value);
}

static struct error *parse_short(struct parser *parser, const char *word)
{
    for (const char *letter = word + 1; *letter; letter++) {
        const struct option_row *row = parser->command->options;
        const char *value;

        while (row->long_name && row->short_name != *letter)
            row++;
        if (!row->long_name)
            return unknown_option(parser, word);
        if (!takes_value(row)) {
            RETURN_IF_ERROR(store(parser, row, true, NULL));
            continue;
        }
        RETURN_IF_ERROR(find_value(parser, row, letter[1] ? letter + 1 : NULL, &value));
        return store(parser, row, true, value);
    }
    return NULL;
}

struct error *options_parse(const struct command *command, int argc, char **argv, bool stop_at_word,
                            void *options, int *first_word_ret)
{
    struct parser parser = {command, argc, argv, 1, options};
    int num_words = 0; /* words between options, moved to the front */

    while (parser.next < argc) {
        char *word = argv[parser.next];

        if (strcmp(word, "--") == 0) {
            parser.next++;
            break;
        }
        if (word[0] != '-' || !word[1]) {
            if (stop_at_word)
                break;
            /* Keep it: words are gathered behind argv[0], options may follow. */
            parser.next++;
            argv[1 + num_words++] = word;
            continue;
        }
        parser.next++;
        RETURN_IF_ERROR(word[1] == '-' ? parse_long(&parser, word) : parse_short(&parser, word));
    }
    if (!stop_at_word) {
        /* Words before and after "--" end up side by side at the end of argv. */
        memmove(&argv[parser.next - num_words], &argv[1], (size_t)num_words * sizeof(*argv));
        parser.next -= num_words;
    }
    *first_word_ret = parser.next;
    return NULL;
}

static void print_option(const struct option_row *row, FILE *stream)
{
    const char *value = row->value_name ? row->value_name : "";
    bool is_optional = row->kind == OPTION_OPTIONAL;
    char short_part[8] = "    ";
    char left[80];

    if (row->short_name)
        snprintf(short_part, sizeof(short_part), "-%c, ", row->short_name);
    snprintf(left, sizeof(left), "  %s--%s%s%s%s%s", short_part, row->can_negate ? "[no-]" : "",
             row->long_name,
             !*value       ? ""
             : is_optional ? "[="
                           : " ",
             value, is_optional ? "]" : "");
    if (strlen(left) < 30)
        fprintf(stream, "%-30s%s\n", left, row->help);
    else
        fprintf(stream, "%s\n%-30s%s\n", left, "", row->help);
}

void options_print_help(const struct command *command, FILE *stream)
{
    fprintf(stream, "cprofiler %s: %s\n\n", command->name, command->summary);
    for (const char *const *line = command->synopsis; *line; line++)
        fprintf(stream, "%s cprofiler %s\n", line == command->synopsis ? "Usage:" : "      ",
                *line);
    if (command->options->long_name)
        fprintf(stream, "\nOptions:\n");
    for (const struct option_row *row = command->options; row->long_name; row++)
        print_option(row, stream);
    if (command->examples && *command->examples) {
        fprintf(stream, "\nExamples:\n");
        for (const char *const *line = command->examples; *line; line++)
            fprintf(stream, "  %s\n", *line);
    }
}
