/* JSON for machines: the summaries that --json asks for.
 *
 * One object on one line. Not a parser, and no tree: who prints knows the order.
 * Threads: none. Source: RFC 8259.
 */
#ifndef CMD_JSON_H
#define CMD_JSON_H

#include <stdio.h>

#include "base/error.h"

/* Prints the object of one command. Returns: NULL or an error; write errors are seen later. */
typedef struct error *json_print_fn(const void *context, FILE *stream);

/* Prints `text` as a JSON string: valid UTF-8 without control characters, whatever comes in.
 * Returns: NULL or error_no_memory. */
struct error *json_print_string(const char *text, FILE *stream) MUST_CHECK;

/* Has an object printed to where --json[=FILE] says.
 * path: "" means stderr; a file is replaced as a whole, or not at all. context: passed on.
 * Returns: NULL, what `print` returned, or an error naming the file. */
struct error *json_write(const char *path, json_print_fn *print, const void *context) MUST_CHECK;

#endif
