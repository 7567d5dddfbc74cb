/* What the tests of symbolize/ share: programs built in a temporary directory, and a stack table
 * over one ELF file to be named. */
#ifndef TESTS_SYMBOLIZE_FIXTURE_H
#define TESTS_SYMBOLIZE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/string_table.h"
#include "symbolize/symbolize.h"

#define FIXTURE_MAX_MAPPINGS 8

/* The temporary directory; commands run in it. */
static char fixture_dir[64];

/* Makes the directory. For cmocka's group setup. */
static inline int fixture_setup(void **state)
{
    (void)state;
    snprintf(fixture_dir, sizeof(fixture_dir), "/tmp/cprofiler-symbolize-XXXXXX");
    return mkdtemp(fixture_dir) ? 0 : -1;
}

/* Runs a shell command in the directory. Returns: its exit status, -1 when it could not be run. */
static inline int fixture_run(const char *command)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        if (chdir(fixture_dir) == 0)
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

/* Removes the directory. For cmocka's group teardown. */
static inline int fixture_teardown(void **state)
{
    (void)state;
    return fixture_run("rm -rf \"$PWD\"");
}

/* Writes a file into the directory. */
static inline void fixture_write(const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", fixture_dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Runs a command that must succeed. */
static inline void fixture_build(const char *command)
{
    if (fixture_run(command) != 0)
        fail_msg("failed: %s", command);
}

/* Tells whether a program is installed. */
static inline bool fixture_has(const char *program)
{
    char command[128];

    snprintf(command, sizeof(command), "command -v %.90s >/dev/null 2>&1", program);
    return fixture_run(command) == 0;
}

/* A stack table over one file. */
struct fixture {
    struct stack_table table;
    struct target *target;
    struct module *module;
    uint32_t mappings[FIXTURE_MAX_MAPPINGS];
    size_t num_mappings;
    struct symbolize_result result;
};

static inline void fixture_add_mappings(struct fixture *fixture)
{
    for (size_t i = 0; i < fixture->module->num_segments; i++) {
        const struct module_segment *segment = &fixture->module->segments[i];
        struct mapping mapping = {
            .start = segment->elf_addr & ~(uint64_t)4095,
            .limit = (segment->elf_addr + segment->mem_bytes + 4095) & ~(uint64_t)4095,
            .file_off = segment->file_off & ~(uint64_t)4095,
            .kind = MAPPING_FILE,
            .module = fixture->module->id,
        };

        if (!segment->is_executable || fixture->num_mappings == FIXTURE_MAX_MAPPINGS)
            continue;
        assert_null(
            string_table_add(&fixture->table.strings, fixture->module->path, &mapping.path));
        assert_null(stack_table_add_mapping(&fixture->table, &mapping,
                                            &fixture->mappings[fixture->num_mappings++]));
    }
}

/* Opens `name` of the directory (or an absolute path). */
static inline void fixture_open(struct fixture *fixture, const char *name)
{
    char path[256];

    memset(fixture, 0, sizeof(*fixture));
    snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ? "" : fixture_dir,
             name[0] == '/' ? "" : "/", name);
    assert_null(stack_table_init(&fixture->table));
    assert_null(target_create(&fixture->table, &fixture->target));
    assert_null(module_table_open_path(target_modules(fixture->target), path, &fixture->module));
    assert_non_null(fixture->module->elf);
    fixture_add_mappings(fixture);
    assert_true(fixture->num_mappings > 0);
}

static inline void fixture_close(struct fixture *fixture)
{
    stack_table_deinit(&fixture->table);
    target_destroy(fixture->target);
}

/* Adds a place by its linked address. Returns: the location, UINT32_MAX outside of all mappings. */
static inline uint32_t fixture_add(struct fixture *fixture, uint64_t elf_addr)
{
    for (size_t i = 0; i < fixture->num_mappings; i++) {
        const struct mapping *mapping = stack_table_mapping(&fixture->table, fixture->mappings[i]);
        struct frame_key key = {.pc = elf_addr, .mapping = fixture->mappings[i]};
        uint32_t location;

        if (elf_addr < mapping->start || elf_addr >= mapping->limit)
            continue;
        assert_null(stack_table_add_location(&fixture->table, &key, &location));
        return location;
    }
    return UINT32_MAX;
}

static inline void fixture_symbolize(struct fixture *fixture,
                                     const struct symbolize_options *options)
{
    assert_null(symbolize_table(&fixture->table, fixture->target, options, &fixture->result));
}

static inline size_t fixture_num_lines(const struct fixture *fixture, uint32_t location)
{
    return fixture->table.locations[location].num_lines;
}

static inline const struct line *fixture_line(const struct fixture *fixture, uint32_t location,
                                              size_t at)
{
    return &fixture->table.lines[fixture->table.locations[location].first_line + at];
}

static inline const struct function *fixture_function(const struct fixture *fixture,
                                                      uint32_t location, size_t at)
{
    return &fixture->table.functions[fixture_line(fixture, location, at)->function];
}

static inline const char *fixture_name(const struct fixture *fixture, uint32_t location, size_t at)
{
    return string_table_get(&fixture->table.strings, fixture_function(fixture, location, at)->name);
}

static inline const char *fixture_system_name(const struct fixture *fixture, uint32_t location,
                                              size_t at)
{
    return string_table_get(&fixture->table.strings,
                            fixture_function(fixture, location, at)->system_name);
}

static inline const char *fixture_path(const struct fixture *fixture, uint32_t location, size_t at)
{
    return string_table_get(&fixture->table.strings,
                            fixture_function(fixture, location, at)->filename);
}

/* Address of a symbol as nm tells it. file: unstripped. */
static inline uint64_t fixture_symbol(const char *file, const char *symbol)
{
    char command[512];
    char text[64] = "";
    FILE *pipe;

    snprintf(command, sizeof(command), "nm %s/%s | awk '$3 == \"%s\" { print $1 }'", fixture_dir,
             file, symbol);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    if (!fgets(text, sizeof(text), pipe))
        text[0] = '\0';
    pclose(pipe);
    if (!text[0])
        fail_msg("%s has no symbol %s", file, symbol);
    return strtoull(text, NULL, 16);
}

#endif
