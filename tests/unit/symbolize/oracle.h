/* Chains of functions, files and lines as we and other programs tell them, in one form.
 *
 * What is made equal before two chains are compared, and why:
 * - names are demangled by ourselves from what the others print raw: each demangler has its own
 * taste;
 * - "/./", "//" and "x/.." are taken out of paths, which each joins from directories in its own
 * way;
 * - of the names that libc gives one function (chdir, __chdir, __GI_chdir) each picks another;
 * - Go's suffix ".abi0" for assembler functions is in the symbol, not in Go's own table;
 * - Go's own table has "[...]" for type arguments, and 1.19 for the length of an array, too;
 * - a function without a linkage name has in our chains what it is a member of before its plain
 *   name, in those of the others the plain name only;
 * - of a physical function that has no linkage name in DWARF (g++'s, where it is an instance of a
 *   template over a lambda) we and llvm-symbolizer tell the ELF symbol; addr2line does so only
 *   where nothing is inlined into it, else its DW_AT_name, which spells template arguments in
 *   another way ("long int" for "long"): what is before them counts.
 */
#ifndef TESTS_SYMBOLIZE_ORACLE_H
#define TESTS_SYMBOLIZE_ORACLE_H

#include "tests/unit/symbolize/fixture.h"

#define ORACLE_MAX_DEPTH 64

struct frame {
    char *symbol; /* as it was told: mangled, "" when only a plain name is known */
    char *name;   /* readable */
    char *path;   /* absolute and plain, or "" */
    long line;
    long start_line; /* of the function, in the same file; 0 = unknown */
};

/* From the innermost inlined function to the physical one. */
struct answer {
    size_t num_frames;
    struct frame frames[ORACLE_MAX_DEPTH];
};

static inline void answer_clear(struct answer *answer)
{
    for (size_t i = 0; i < answer->num_frames; i++) {
        free(answer->frames[i].symbol);
        free(answer->frames[i].name);
        free(answer->frames[i].path);
    }
    answer->num_frames = 0;
}

static inline void answers_free(struct answer *answers, size_t num)
{
    for (size_t i = 0; answers && i < num; i++)
        answer_clear(&answers[i]);
    free(answers);
}

/* Returns: the path without "/./" and "/x/..", "" for one that is not absolute; to be freed. */
static inline char *plain_path(const char *path)
{
    char *plain = calloc(1, strlen(path) + 2);
    const char *at = path;
    size_t length = 0;

    assert_non_null(plain);
    if (path[0] != '/')
        return plain;
    while (*at) {
        size_t part = strcspn(at, "/");

        if (part == 2 && !strncmp(at, "..", 2)) {
            while (length > 0 && plain[--length] != '/')
                ;
        } else if (part > 0 && !(part == 1 && at[0] == '.')) {
            plain[length++] = '/';
            memcpy(plain + length, at, part);
            length += part;
        }
        plain[length] = '\0';
        at += part + (at[part] == '/');
    }
    return plain;
}

static inline char *readable_name(const char *symbol)
{
    struct arena arena;
    char *name;

    arena_init(&arena);
    name = strdup(symbol_demangle(&arena, symbol));
    arena_deinit(&arena);
    assert_non_null(name);
    if (strlen(name) > 5 && !strcmp(name + strlen(name) - 5, ".abi0"))
        name[strlen(name) - 5] = '\0';
    return name;
}

/* Adds a frame; beyond the deepest chain that is kept, nothing. Returns: it, or NULL. */
static inline struct frame *answer_add(struct answer *answer, const char *symbol, const char *name,
                                       const char *path, long line)
{
    struct frame *frame;

    if (answer->num_frames == ORACLE_MAX_DEPTH)
        return NULL;
    frame = &answer->frames[answer->num_frames++];
    frame->symbol = strdup(symbol);
    assert_non_null(frame->symbol);
    frame->name = readable_name(symbol[0] ? symbol : name);
    frame->path = plain_path(path);
    frame->line = frame->path[0] ? line : 0;
    frame->start_line = 0;
    return frame;
}

/* Our own chain of a location. */
static inline void answer_of_location(const struct fixture *fixture, uint32_t location,
                                      struct answer *answer)
{
    for (size_t i = 0; i < fixture_num_lines(fixture, location); i++) {
        struct frame *frame = answer_add(
            answer, fixture_system_name(fixture, location, i), fixture_name(fixture, location, i),
            fixture_path(fixture, location, i), (long)fixture_line(fixture, location, i)->line);

        if (frame)
            frame->start_line = (long)fixture_function(fixture, location, i)->start_line;
    }
}

static inline const char *plain_alias(const char *name)
{
    name += strspn(name, "_");
    return !strncmp(name, "GI_", 3) ? name + 3 + strspn(name + 3, "_") : name;
}

/* theirs, ours: readable. */
static inline bool names_equal(const char *theirs, const char *ours)
{
    size_t length = strlen(ours);
    size_t tail = strlen(theirs);
    const char *dots = strstr(ours, "[...]");

    if (dots && tail + 2 >= length && !strncmp(theirs, ours, (size_t)(dots - ours) + 1))
        return !strcmp(theirs + tail - strlen(dots + 4), dots + 4);
    if (!strcmp(plain_alias(theirs), plain_alias(ours)))
        return true;
    /* libc's memcpy is its memmove. */
    if (!strncmp(plain_alias(theirs), "memcpy", 6) && !strncmp(plain_alias(ours), "memmove", 7))
        return !strcmp(plain_alias(theirs) + 6, plain_alias(ours) + 7);
    return length > tail + 2 && !strcmp(ours + length - tail, theirs) &&
           !memcmp(ours + length - tail - 2, "::", 2);
}

/* Tells whether file and line are the same. */
static inline bool places_equal(const struct frame *theirs, const struct frame *ours)
{
    return theirs->line == ours->line && !strcmp(theirs->path, ours->path);
}

static inline bool frames_equal(const struct frame *theirs, const struct frame *ours)
{
    return names_equal(theirs->name, ours->name) && places_equal(theirs, ours);
}

/* Tells whether a physical function has the same name but for template arguments. */
static inline bool physical_names_equal(const char *theirs, const char *ours)
{
    size_t length = strcspn(theirs, "<");
    size_t ours_length = strcspn(ours, "<");

    return theirs[length] && ours_length > length + 2 && ours[ours_length] &&
           !memcmp(ours + ours_length - length - 2, "::", 2) &&
           !memcmp(ours + ours_length - length, theirs, length);
}

static inline bool answers_equal(const struct answer *theirs, const struct answer *ours)
{
    if (theirs->num_frames != ours->num_frames)
        return false;
    for (size_t i = 0; i < theirs->num_frames; i++) {
        const struct frame *a = &theirs->frames[i];
        const struct frame *b = &ours->frames[i];
        bool is_physical = i > 0 && i + 1 == theirs->num_frames;

        if (!frames_equal(a, b) &&
            !(is_physical && places_equal(a, b) && physical_names_equal(a->name, b->name)))
            return false;
    }
    return true;
}

static inline void answer_print(const char *who, const struct answer *answer)
{
    for (size_t i = 0; i < answer->num_frames; i++)
        print_message("   %-10s %s %s:%ld (from line %ld, %s)\n", who, answer->frames[i].name,
                      answer->frames[i].path, answer->frames[i].line, answer->frames[i].start_line,
                      answer->frames[i].symbol);
}

/* What is being read from an oracle. */
struct oracle_reader {
    FILE *pipe;
    struct answer *answers;
    size_t num;
    size_t at; /* the answer being read; SIZE_MAX before the first */
    char *line;
    size_t capacity;
};

/* Reads a line without its newline. Returns: false at the end. */
static inline bool oracle_read(struct oracle_reader *reader)
{
    ssize_t length = getline(&reader->line, &reader->capacity, reader->pipe);

    if (length <= 0)
        return false;
    if (reader->line[length - 1] == '\n')
        reader->line[length - 1] = '\0';
    return true;
}

/* "name", then "path:line" or "path:line (discriminator 3)". */
static inline void oracle_read_pair(struct oracle_reader *reader)
{
    char *name = strdup(reader->line);
    char *colon;

    assert_non_null(name);
    if (oracle_read(reader)) {
        reader->line[strcspn(reader->line, "(")] = '\0';
        colon = strrchr(reader->line, ':');
        if (colon)
            *colon = '\0';
        answer_add(&reader->answers[reader->at], name, name, reader->line,
                   colon ? strtol(colon + 1, NULL, 10) : 0);
    }
    free(name);
}

/* llvm-symbolizer --verbose: "name", then indented "Key: value" of which some may be absent. */
static inline void oracle_read_verbose(struct oracle_reader *reader)
{
    struct answer *answer = &reader->answers[reader->at];
    struct frame *frame;

    if (strncmp(reader->line, "  ", 2) != 0) {
        answer_add(answer, reader->line, reader->line, "", 0);
        return;
    }
    assert_true(answer->num_frames > 0);
    frame = &answer->frames[answer->num_frames - 1];
    if (!strncmp(reader->line, "  Filename: ", 12)) {
        free(frame->path);
        frame->path = plain_path(reader->line + 12);
    } else if (!strncmp(reader->line, "  Function start line: ", 23)) {
        frame->start_line = strtol(reader->line + 23, NULL, 10);
    } else if (!strncmp(reader->line, "  Line: ", 8)) {
        frame->line = frame->path[0] ? strtol(reader->line + 8, NULL, 10) : 0;
    }
}

/* Asks a program, which has the options -a and -e, about all addresses of the file "addresses" of
 * the fixture. Returns: one answer for each; answers_free(). */
static inline struct answer *oracle_ask(const char *command, const char *file, size_t num)
{
    struct oracle_reader reader = {.num = num, .at = SIZE_MAX};
    bool is_verbose = strstr(command, "--verbose") != NULL;
    char text[512];

    reader.answers = calloc(num + 1, sizeof(*reader.answers));
    assert_non_null(reader.answers);
    snprintf(text, sizeof(text), "cd %s && %s -e ./%s < addresses", fixture_dir, command, file);
    reader.pipe = popen(text, "r");
    assert_non_null(reader.pipe);
    while (oracle_read(&reader)) {
        if (!strncmp(reader.line, "0x", 2))
            assert_true(++reader.at < num);
        else if (reader.line[0] && is_verbose)
            oracle_read_verbose(&reader);
        else if (reader.line[0])
            oracle_read_pair(&reader);
    }
    assert_int_equal(pclose(reader.pipe), 0);
    assert_int_equal(reader.at + 1, num);
    free(reader.line);
    return reader.answers;
}

#endif
