/* One pass over the fields of the file: each is copied as it is, or put together anew when the
 * table says something else of it. New functions follow the last one of the file, new strings the
 * last string, so that the fields of a file in the order of their numbers stay so. */
#include "output/pprof_patch.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "output/gzip.h"
#include "output/pprof_reader.h"
#include "output/wire.h"

/* Field numbers (profile.proto). */
enum {
    PROFILE_MAPPING = 3,
    PROFILE_LOCATION = 4,
    PROFILE_FUNCTION = 5,
    PROFILE_STRING_TABLE = 6,
    MAPPING_HAS_FUNCTIONS = 7,
    MAPPING_HAS_INLINE_FRAMES = 10,
    LOCATION_LINE = 4,
    LINE_FUNCTION_ID = 1,
    LINE_LINE = 2,
    FUNCTION_ID = 1,
    FUNCTION_NAME = 2,
    FUNCTION_SYSTEM_NAME = 3,
    FUNCTION_FILENAME = 4,
    FUNCTION_START_LINE = 5,
};

#define MAX_FIELD_BYTES (1 + WIRE_MAX_VARINT_BYTES)

/* The lines of a location as they were read. */
struct old_location {
    uint32_t first_line; /* index into old_lines */
    uint32_t num_lines;
};

struct pprof_patch {
    char *name;
    struct pprof_places places;
    uint8_t *inflated;
    const uint8_t *message;
    size_t num_bytes;
    struct old_location *old_locations;
    struct line *old_lines;
    uint8_t *old_flags; /* [mappings] */
};

/* A function that the file does not have yet. Strings are ids of the table, valid UTF-8. */
struct new_function {
    uint64_t id;
    uint32_t name;
    uint32_t system_name;
    uint32_t filename;
    int64_t start_line;
};

struct patch_writer {
    const struct pprof_patch *patch;
    struct stack_table *table;
    struct gzip_writer *gzip;
    uint64_t *function_ids; /* [table functions] id in the file, 0 none yet */
    struct new_function *new_functions;
    size_t num_new_functions, new_functions_capacity;
    uint32_t *string_indexes; /* [table strings] index in the file + 1, 0 none yet */
    uint32_t *new_strings;
    size_t num_new_strings, new_strings_capacity;
    uint8_t *bytes; /* of the message being put together */
    size_t num_bytes, bytes_capacity;
    size_t num_mappings, num_locations; /* passed so far */
    size_t functions_left, strings_left;
    bool has_new_functions_written;
};

static inline void cleanup_patch_writer_deinit(struct patch_writer *writer)
{
    gzip_writer_destroy(writer->gzip);
    free(writer->function_ids);
    free(writer->new_functions);
    free(writer->string_indexes);
    free(writer->new_strings);
    free(writer->bytes);
}

static uint8_t mapping_flags(const struct mapping *mapping)
{
    return (uint8_t)(mapping->has_functions | mapping->has_filenames << 1 |
                     mapping->has_line_numbers << 2 | mapping->has_inline_frames << 3);
}

/* Keeps what the file says, to know later what has changed. */
static struct error *patch_remember(struct pprof_patch *patch)
{
    const struct stack_table *table = &patch->places.table;

    patch->old_locations = calloc(table->num_locations + 1, sizeof(*patch->old_locations));
    patch->old_lines = calloc(table->num_lines + 1, sizeof(*patch->old_lines));
    patch->old_flags = calloc(table->num_mappings + 1, 1);
    if (!patch->old_locations || !patch->old_lines || !patch->old_flags)
        return &error_no_memory;
    if (table->num_lines > 0)
        memcpy(patch->old_lines, table->lines, table->num_lines * sizeof(*table->lines));
    for (size_t i = 0; i < table->num_locations; i++)
        patch->old_locations[i] =
            (struct old_location){table->locations[i].first_line, table->locations[i].num_lines};
    for (size_t i = 0; i < table->num_mappings; i++)
        patch->old_flags[i] = mapping_flags(&table->mappings[i]);
    return NULL;
}

struct error *pprof_patch_open(const void *bytes, size_t num_bytes, const char *name,
                               struct pprof_patch **patch_ret)
{
    CLEANUP(pprof_patch_destroy) struct pprof_patch *patch = calloc(1, sizeof(*patch));

    if (!patch)
        return &error_no_memory;
    patch->name = strdup(name);
    if (!patch->name)
        return &error_no_memory;
    RETURN_IF_ERROR(pprof_inflate(bytes, num_bytes, patch->name, &patch->inflated, &patch->message,
                                  &patch->num_bytes));
    RETURN_IF_ERROR(
        pprof_read_places(patch->message, patch->num_bytes, patch->name, &patch->places));
    RETURN_IF_ERROR(patch_remember(patch));
    *patch_ret = take_ptr(patch);
    return NULL;
}

void pprof_patch_destroy(struct pprof_patch *patch)
{
    if (!patch)
        return;
    pprof_places_deinit(&patch->places);
    free(patch->inflated);
    free(patch->old_locations);
    free(patch->old_lines);
    free(patch->old_flags);
    free(patch->name);
    free(patch);
}

struct stack_table *pprof_patch_table(struct pprof_patch *patch)
{
    return &patch->places.table;
}

const uint64_t *pprof_patch_weights(const struct pprof_patch *patch)
{
    return patch->places.weights;
}

static bool location_has_changed(const struct pprof_patch *patch, size_t index)
{
    const struct stack_table *table = &patch->places.table;
    const struct location *location = &table->locations[index];
    const struct old_location *old = &patch->old_locations[index];

    if (location->num_lines != old->num_lines)
        return true;
    for (uint32_t i = 0; i < old->num_lines; i++) {
        const struct line *line = &table->lines[location->first_line + i];
        const struct line *old_line = &patch->old_lines[old->first_line + i];

        if (line->function != old_line->function || line->line != old_line->line)
            return true;
    }
    return false;
}

size_t pprof_patch_num_changed(const struct pprof_patch *patch)
{
    size_t num_changed = 0;

    for (size_t i = 0; i < patch->places.table.num_locations; i++)
        num_changed += location_has_changed(patch, i);
    return num_changed;
}

/* --- what is new ---------------------------------------------------------------------------- */

static struct error *clean_string(struct patch_writer *writer, uint32_t id, uint32_t *id_ret)
{
    CLEANUP(free) char *clean = NULL;

    RETURN_IF_ERROR(utf8_sanitize(string_table_get(&writer->table->strings, id), &clean));
    return string_table_add(&writer->table->strings, clean, id_ret);
}

static struct error *writer_add_function(struct patch_writer *writer, uint32_t table_id,
                                         uint64_t file_id)
{
    const struct function *function = &writer->table->functions[table_id];
    struct new_function added = {.id = file_id, .start_line = function->start_line};

    RETURN_IF_ERROR(clean_string(writer, function->name, &added.name));
    RETURN_IF_ERROR(clean_string(writer, function->system_name, &added.system_name));
    RETURN_IF_ERROR(clean_string(writer, function->filename, &added.filename));
    RETURN_IF_ERROR(array_reserve(&writer->new_functions, &writer->new_functions_capacity,
                                  writer->num_new_functions + 1, sizeof(added)));
    writer->new_functions[writer->num_new_functions++] = added;
    writer->function_ids[table_id] = file_id;
    return NULL;
}

static int id_compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return a < b ? -1 : a > b;
}

/* Finds the functions that changed lines need and the file has not, each with an id that is free:
 * behind dense ids the next ones. */
static struct error *writer_find_functions(struct patch_writer *writer)
{
    const struct pprof_places *places = &writer->patch->places;
    CLEANUP(free) uint64_t *used_ids = calloc(places->num_functions + 1, sizeof(*used_ids));
    uint64_t next_id = 1;
    size_t used = 0;

    writer->function_ids = calloc(writer->table->num_functions + 1, sizeof(uint64_t));
    if (!used_ids || !writer->function_ids)
        return &error_no_memory;
    for (size_t i = places->num_functions; i-- > 0;) {
        used_ids[i] = places->function_ids[i];
        writer->function_ids[places->function_table_ids[i]] = places->function_ids[i];
    }
    qsort(used_ids, places->num_functions, sizeof(*used_ids), id_compare);
    for (size_t i = 0; i < writer->table->num_locations; i++) {
        const struct location *location = &writer->table->locations[i];

        if (!location_has_changed(writer->patch, i))
            continue;
        for (uint32_t j = 0; j < location->num_lines; j++) {
            uint32_t function = writer->table->lines[location->first_line + j].function;

            if (writer->function_ids[function] != 0)
                continue;
            for (; used < places->num_functions && used_ids[used] <= next_id; used++)
                next_id += used_ids[used] == next_id;
            RETURN_IF_ERROR(writer_add_function(writer, function, next_id++));
        }
    }
    return NULL;
}

/* Gives a string of the table its index in the file, at the end when it is new. */
static struct error *writer_index_string(struct patch_writer *writer, uint32_t id)
{
    if (writer->string_indexes[id] != 0)
        return NULL;
    RETURN_IF_ERROR(array_reserve(&writer->new_strings, &writer->new_strings_capacity,
                                  writer->num_new_strings + 1, sizeof(*writer->new_strings)));
    writer->new_strings[writer->num_new_strings++] = id;
    writer->string_indexes[id] =
        (uint32_t)(writer->patch->places.num_strings + writer->num_new_strings);
    return NULL;
}

static struct error *writer_find_strings(struct patch_writer *writer)
{
    const struct pprof_places *places = &writer->patch->places;

    writer->string_indexes = calloc(writer->table->strings.num_strings + 1, sizeof(uint32_t));
    if (!writer->string_indexes)
        return &error_no_memory;
    for (size_t i = places->num_strings; i-- > 0;)
        writer->string_indexes[places->strings[i]] = (uint32_t)i + 1;
    for (size_t i = 0; i < writer->num_new_functions; i++) {
        const struct new_function *function = &writer->new_functions[i];

        RETURN_IF_ERROR(writer_index_string(writer, function->name));
        RETURN_IF_ERROR(writer_index_string(writer, function->system_name));
        RETURN_IF_ERROR(writer_index_string(writer, function->filename));
    }
    return NULL;
}

/* --- putting messages together -------------------------------------------------------------- */

static struct error *put_raw(struct patch_writer *writer, const void *bytes, size_t num_bytes)
{
    if (num_bytes == 0)
        return NULL;
    RETURN_IF_ERROR(
        array_reserve(&writer->bytes, &writer->bytes_capacity, writer->num_bytes + num_bytes, 1));
    memcpy(writer->bytes + writer->num_bytes, bytes, num_bytes);
    writer->num_bytes += num_bytes;
    return NULL;
}

/* Puts a number; 0 is what is not there. */
static struct error *put_number(struct patch_writer *writer, uint32_t field, uint64_t value)
{
    uint8_t bytes[MAX_FIELD_BYTES];

    return value == 0 ? NULL
                      : put_raw(writer, bytes, wire_put_tag(bytes, field, WIRE_VARINT, value));
}

static struct error *put_line(struct patch_writer *writer, const struct line *line)
{
    uint8_t contents[2 * MAX_FIELD_BYTES];
    uint8_t tag[MAX_FIELD_BYTES];
    size_t num_bytes =
        wire_put_tag(contents, LINE_FUNCTION_ID, WIRE_VARINT, writer->function_ids[line->function]);

    if (line->line != 0)
        num_bytes +=
            wire_put_tag(contents + num_bytes, LINE_LINE, WIRE_VARINT, (uint64_t)line->line);
    RETURN_IF_ERROR(put_raw(writer, tag, wire_put_tag(tag, LOCATION_LINE, WIRE_BYTES, num_bytes)));
    return put_raw(writer, contents, num_bytes);
}

static struct error *put_lines(struct patch_writer *writer, size_t index)
{
    const struct location *location = &writer->table->locations[index];

    for (uint32_t i = 0; i < location->num_lines; i++)
        RETURN_IF_ERROR(put_line(writer, &writer->table->lines[location->first_line + i]));
    return NULL;
}

static struct error *put_flags(struct patch_writer *writer, size_t index)
{
    uint8_t flags = mapping_flags(&writer->table->mappings[index]);

    for (uint32_t i = 0; i < 4; i++)
        RETURN_IF_ERROR(put_number(writer, MAPPING_HAS_FUNCTIONS + i, flags >> i & 1));
    return NULL;
}

/* Writes the message that was put together as a field of the profile. */
static struct error *writer_flush(struct patch_writer *writer, uint32_t field)
{
    uint8_t tag[MAX_FIELD_BYTES];
    size_t num_bytes = writer->num_bytes;

    writer->num_bytes = 0;
    RETURN_IF_ERROR(
        gzip_writer_add(writer->gzip, tag, wire_put_tag(tag, field, WIRE_BYTES, num_bytes)));
    return num_bytes == 0 ? NULL : gzip_writer_add(writer->gzip, writer->bytes, num_bytes);
}

/* Puts `field` together anew: its own fields [first, last] are replaced by what `put` makes of row
 * `index`, the others stay. */
static struct error *writer_replace(struct patch_writer *writer, const struct wire_field *field,
                                    uint32_t first, uint32_t last,
                                    struct error *(*put)(struct patch_writer *, size_t),
                                    size_t index)
{
    struct wire_cursor cursor = {field->bytes, field->bytes + field->num_bytes};
    struct wire_field inner;
    const uint8_t *start = cursor.next;
    bool is_put = false;

    while (wire_next(&cursor, &inner) == WIRE_FIELD) {
        if (inner.number > last && !is_put) {
            RETURN_IF_ERROR(put(writer, index));
            is_put = true;
        }
        if (inner.number < first || inner.number > last)
            RETURN_IF_ERROR(put_raw(writer, start, (size_t)(cursor.next - start)));
        start = cursor.next;
    }
    if (!is_put)
        RETURN_IF_ERROR(put(writer, index));
    return writer_flush(writer, field->number);
}

static struct error *write_new_functions(struct patch_writer *writer)
{
    writer->has_new_functions_written = true;
    for (size_t i = 0; i < writer->num_new_functions; i++) {
        const struct new_function *function = &writer->new_functions[i];
        const uint32_t *indexes = writer->string_indexes;

        RETURN_IF_ERROR(put_number(writer, FUNCTION_ID, function->id));
        RETURN_IF_ERROR(put_number(writer, FUNCTION_NAME, indexes[function->name] - 1));
        RETURN_IF_ERROR(
            put_number(writer, FUNCTION_SYSTEM_NAME, indexes[function->system_name] - 1));
        RETURN_IF_ERROR(put_number(writer, FUNCTION_FILENAME, indexes[function->filename] - 1));
        RETURN_IF_ERROR(put_number(writer, FUNCTION_START_LINE, (uint64_t)function->start_line));
        RETURN_IF_ERROR(writer_flush(writer, PROFILE_FUNCTION));
    }
    return NULL;
}

static struct error *write_new_strings(struct patch_writer *writer)
{
    for (size_t i = 0; i < writer->num_new_strings; i++) {
        const char *text = string_table_get(&writer->table->strings, writer->new_strings[i]);

        RETURN_IF_ERROR(put_raw(writer, text, strlen(text)));
        RETURN_IF_ERROR(writer_flush(writer, PROFILE_STRING_TABLE));
    }
    return NULL;
}

/* --- the file ------------------------------------------------------------------------------- */

/* Writes one field of the profile. raw: the whole of it, tag included. */
static struct error *write_field(struct patch_writer *writer, const struct wire_field *field,
                                 const uint8_t *raw, size_t num_raw_bytes)
{
    const struct pprof_patch *patch = writer->patch;
    size_t index;

    if (field->number == PROFILE_STRING_TABLE && writer->functions_left == 0 &&
        !writer->has_new_functions_written)
        RETURN_IF_ERROR(write_new_functions(writer));
    if (field->number == PROFILE_MAPPING) {
        index = writer->num_mappings++;
        if (mapping_flags(&writer->table->mappings[index]) != patch->old_flags[index])
            return writer_replace(writer, field, MAPPING_HAS_FUNCTIONS, MAPPING_HAS_INLINE_FRAMES,
                                  put_flags, index);
    } else if (field->number == PROFILE_LOCATION) {
        index = writer->num_locations++;
        if (location_has_changed(patch, index))
            return writer_replace(writer, field, LOCATION_LINE, LOCATION_LINE, put_lines, index);
    }
    RETURN_IF_ERROR(gzip_writer_add(writer->gzip, raw, num_raw_bytes));
    if (field->number == PROFILE_FUNCTION && --writer->functions_left == 0)
        return write_new_functions(writer);
    if (field->number == PROFILE_STRING_TABLE && --writer->strings_left == 0)
        return write_new_strings(writer);
    return NULL;
}

struct error *pprof_patch_write(struct pprof_patch *patch, int fd, const char *name)
{
    CLEANUP(patch_writer_deinit)
    struct patch_writer writer = {
        .patch = patch,
        .table = &patch->places.table,
        .functions_left = patch->places.num_functions,
        .strings_left = patch->places.num_strings,
    };
    struct wire_cursor cursor = {patch->message, patch->message + patch->num_bytes};
    const uint8_t *start = cursor.next;
    struct wire_field field;

    RETURN_IF_ERROR(writer_find_functions(&writer));
    RETURN_IF_ERROR(writer_find_strings(&writer));
    RETURN_IF_ERROR(gzip_writer_create(fd, name, &writer.gzip));
    while (wire_next(&cursor, &field) == WIRE_FIELD) {
        RETURN_IF_ERROR(write_field(&writer, &field, start, (size_t)(cursor.next - start)));
        start = cursor.next;
    }
    return gzip_writer_finish(writer.gzip);
}
