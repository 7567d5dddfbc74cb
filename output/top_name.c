#include "output/top_name.h"

#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"

/* Tells whether a name may be C++ that somebody demangled: Java's "a.<init>" and Go's generic
 * methods "a.(*B[...]).M" are not. */
static bool looks_demangled(const char *name)
{
    if (strstr(name, ".<") || strstr(name, "])."))
        return false;
    return strpbrk(name, "<>[]") || strstr(name, "::");
}

/* Cuts every outermost pair of brackets with what is inside; stops at the first that has no
 * partner. */
static void cut_brackets(char *name, char open, char close)
{
    size_t first = 0;
    unsigned int depth = 0;

    for (size_t i = 0; name[i] != '\0'; i++) {
        if (name[i] == open) {
            if (depth++ == 0)
                first = i;
        } else if (name[i] == close) {
            if (depth == 0)
                return;
            if (--depth == 0) {
                memmove(name + first, name + i + 1, strlen(name + i + 1) + 1);
                i = first - 1; /* goes on at `first`; wraps around at 0 as intended */
            }
        }
    }
}

struct error *top_name_of_function(struct string_table *strings, const struct function *function,
                                   uint32_t *name_ret)
{
    CLEANUP(free) char *name = NULL;

    if (function->name != 0 && function->name != function->system_name) {
        *name_ret = function->name;
        return NULL;
    }
    if (!looks_demangled(string_table_get(strings, function->system_name))) {
        *name_ret = function->system_name;
        return NULL;
    }
    name = strdup(string_table_get(strings, function->system_name));
    if (!name)
        return &error_no_memory;
    cut_brackets(name, '(', ')');
    cut_brackets(name, '<', '>');
    return string_table_add(strings, name, name_ret);
}

const char *top_name_base(const char *path, size_t *num_bytes_ret)
{
    size_t num_bytes = strlen(path);
    size_t first;

    *num_bytes_ret = 1;
    if (num_bytes == 0)
        return ".";
    while (num_bytes > 0 && path[num_bytes - 1] == '/')
        num_bytes--;
    if (num_bytes == 0)
        return "/";
    first = num_bytes;
    while (first > 0 && path[first - 1] != '/')
        first--;
    *num_bytes_ret = num_bytes - first;
    return path + first;
}

struct error *top_name_of_file(struct string_table *strings, uint32_t path, uint32_t *text_ret)
{
    size_t num_bytes;
    const char *base;

    if (path == 0)
        return string_table_add(strings, "<unknown>", text_ret);
    base = top_name_base(string_table_get(strings, path), &num_bytes);
    return string_table_addf(strings, text_ret, "[%.*s]", (int)num_bytes, base);
}
