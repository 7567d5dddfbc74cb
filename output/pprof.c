/* Writes a profile as gzipped profile.proto, message by message: the whole file is never in memory.
 *
 * Fields of the top level are written in the order of their numbers, as every encoder does, so that
 * decoding and encoding again gives the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "output/gzip.h"
#include "output/pprof_ids.h"
#include "output/profile.pb-c.h"
#include "output/wire.h"
#include "output/writer.h"

/* Field numbers of message Profile (profile.proto). */
enum {
    FIELD_SAMPLE = 2,
    FIELD_MAPPING = 3,
    FIELD_LOCATION = 4,
    FIELD_FUNCTION = 5,
    FIELD_STRING_TABLE = 6,
};

/* A pprof file on its way. The scratch arrays are used again for each message. */
struct pprof_file {
    struct pprof_ids ids;
    struct gzip_writer *gzip;
    uint8_t *bytes;
    size_t bytes_capacity;
    uint64_t *location_ids;
    size_t location_ids_capacity;
    Perftools__Profiles__Label *labels;
    size_t labels_capacity;
    Perftools__Profiles__Label **label_pointers;
    size_t label_pointers_capacity;
    Perftools__Profiles__Line *lines;
    size_t lines_capacity;
    Perftools__Profiles__Line **line_pointers;
    size_t line_pointers_capacity;
};

static inline void cleanup_pprof_file_deinit(struct pprof_file *file)
{
    pprof_ids_deinit(&file->ids);
    gzip_writer_destroy(file->gzip);
    free(file->bytes);
    free(file->location_ids);
    free(file->labels);
    free(file->label_pointers);
    free(file->lines);
    free(file->line_pointers);
}

/* Writes the tag and the length that come before a length-delimited field. */
static struct error *pprof_file_add_tag(struct pprof_file *file, unsigned int field,
                                        size_t num_bytes)
{
    uint8_t tag[1 + WIRE_MAX_VARINT_BYTES];

    return gzip_writer_add(file->gzip, tag, wire_put_tag(tag, field, WIRE_BYTES, num_bytes));
}

/* Writes one message. field: its number in Profile; 0 for a part of Profile itself. */
static struct error *pprof_file_add(struct pprof_file *file, unsigned int field,
                                    const ProtobufCMessage *message)
{
    size_t num_bytes = protobuf_c_message_get_packed_size(message);

    RETURN_IF_ERROR(array_reserve(&file->bytes, &file->bytes_capacity, num_bytes, 1));
    if (field != 0)
        RETURN_IF_ERROR(pprof_file_add_tag(file, field, num_bytes));
    protobuf_c_message_pack(message, file->bytes);
    return gzip_writer_add(file->gzip, file->bytes, num_bytes);
}

/* Fills in a ValueType. */
static struct error *value_type_fill(struct pprof_file *file, const struct value_type *value_type,
                                     Perftools__Profiles__ValueType *message)
{
    uint32_t type;
    uint32_t unit;

    RETURN_IF_ERROR(pprof_ids_string(&file->ids, value_type->type, &type));
    RETURN_IF_ERROR(pprof_ids_string(&file->ids, value_type->unit, &unit));
    perftools__profiles__value_type__init(message);
    message->type = type;
    message->unit = unit;
    return NULL;
}

static struct error *add_sample_types(struct pprof_file *file, const struct profile *profile)
{
    Perftools__Profiles__Profile message = PERFTOOLS__PROFILES__PROFILE__INIT;
    Perftools__Profiles__ValueType types[PROFILE_MAX_VALUES];
    Perftools__Profiles__ValueType *pointers[PROFILE_MAX_VALUES];

    for (size_t i = 0; i < profile->num_value_types; i++) {
        RETURN_IF_ERROR(value_type_fill(file, &profile->value_types[i], &types[i]));
        pointers[i] = &types[i];
    }
    message.n_sample_type = profile->num_value_types;
    message.sample_type = pointers;
    return pprof_file_add(file, 0, &message.base);
}

/* Fills in the labels of a sample. */
static struct error *sample_fill_labels(struct pprof_file *file, uint32_t label_set,
                                        Perftools__Profiles__Sample *message)
{
    const struct label_set *set = &file->ids.label_sets[label_set];

    RETURN_IF_ERROR(array_reserve(&file->labels, &file->labels_capacity, set->num_labels,
                                  sizeof(*file->labels)));
    RETURN_IF_ERROR(array_reserve(&file->label_pointers, &file->label_pointers_capacity,
                                  set->num_labels, sizeof(*file->label_pointers)));
    for (uint32_t i = 0; i < set->num_labels; i++) {
        const struct label *label = &file->ids.labels[set->first + i];

        perftools__profiles__label__init(&file->labels[i]);
        file->labels[i].key = label->key;
        file->labels[i].str = label->str;
        file->labels[i].num = label->num;
        file->labels[i].num_unit = label->unit;
        file->label_pointers[i] = &file->labels[i];
    }
    message->n_label = set->num_labels;
    message->label = file->label_pointers;
    return NULL;
}

static struct error *add_sample(struct pprof_file *file, const struct profile_sample *sample)
{
    const struct profile *profile = file->ids.profile;
    const struct stack *stack = &profile->table->stacks[sample->stack];
    Perftools__Profiles__Sample message = PERFTOOLS__PROFILES__SAMPLE__INIT;
    int64_t values[PROFILE_MAX_VALUES];

    RETURN_IF_ERROR(array_reserve(&file->location_ids, &file->location_ids_capacity,
                                  stack->num_locations, sizeof(*file->location_ids)));
    for (uint32_t i = 0; i < stack->num_locations; i++) {
        uint32_t location = profile->table->stack_locations[stack->first + i];

        file->location_ids[i] = file->ids.location_ids[location];
    }
    for (size_t i = 0; i < profile->num_value_types; i++)
        values[i] = sample->values[i];
    message.n_location_id = stack->num_locations;
    message.location_id = file->location_ids;
    message.n_value = profile->num_value_types;
    message.value = values;
    RETURN_IF_ERROR(sample_fill_labels(file, sample->label_set, &message));
    return pprof_file_add(file, FIELD_SAMPLE, &message.base);
}

static struct error *add_mapping(struct pprof_file *file, uint32_t pprof_id)
{
    uint32_t index = file->ids.mappings[pprof_id - 1];
    const struct mapping *mapping = &file->ids.profile->table->mappings[index];
    Perftools__Profiles__Mapping message = PERFTOOLS__PROFILES__MAPPING__INIT;
    uint32_t filename;
    uint32_t build_id;

    RETURN_IF_ERROR(pprof_ids_string(&file->ids, mapping->path, &filename));
    RETURN_IF_ERROR(pprof_ids_string(&file->ids, mapping->build_id, &build_id));
    message.id = pprof_id;
    message.memory_start = mapping->start;
    message.memory_limit = mapping->limit;
    message.file_offset = mapping->file_off;
    message.filename = filename;
    message.build_id = build_id;
    /* A mapping with lines but without this flag is symbolized again by `go tool pprof`, worse. */
    message.has_functions = mapping->has_functions || file->ids.mapping_has_lines[index];
    message.has_filenames = mapping->has_filenames;
    message.has_line_numbers = mapping->has_line_numbers;
    message.has_inline_frames = mapping->has_inline_frames;
    return pprof_file_add(file, FIELD_MAPPING, &message.base);
}

/* Fills in the lines of a location; a reason frame without any gets one with its name. */
static struct error *location_fill_lines(struct pprof_file *file, const struct location *location,
                                         Perftools__Profiles__Location *message)
{
    const struct stack_table *table = file->ids.profile->table;
    uint32_t reason =
        location->num_lines == 0 ? pprof_ids_reason(&file->ids, location->key.reason) : 0;
    uint32_t num_lines = reason != 0 ? 1 : location->num_lines;

    RETURN_IF_ERROR(
        array_reserve(&file->lines, &file->lines_capacity, num_lines, sizeof(*file->lines)));
    RETURN_IF_ERROR(array_reserve(&file->line_pointers, &file->line_pointers_capacity, num_lines,
                                  sizeof(*file->line_pointers)));
    for (uint32_t i = 0; i < num_lines; i++) {
        perftools__profiles__line__init(&file->lines[i]);
        file->lines[i].function_id = reason;
        if (reason == 0) {
            const struct line *line = &table->lines[location->first_line + i];

            file->lines[i].function_id = pprof_ids_function(&file->ids, line->function);
            file->lines[i].line = line->line;
        }
        file->line_pointers[i] = &file->lines[i];
    }
    message->n_line = num_lines;
    message->line = file->line_pointers;
    return NULL;
}

static struct error *add_location(struct pprof_file *file, uint32_t index)
{
    const struct stack_table *table = file->ids.profile->table;
    const struct location *location = &table->locations[index];
    uint32_t mapping = location->key.mapping;
    Perftools__Profiles__Location message = PERFTOOLS__PROFILES__LOCATION__INIT;

    message.id = file->ids.location_ids[index];
    if (mapping >= 1 && mapping <= table->num_mappings)
        message.mapping_id = file->ids.mapping_ids[mapping - 1];
    message.address = location->key.pc;
    RETURN_IF_ERROR(location_fill_lines(file, location, &message));
    return pprof_file_add(file, FIELD_LOCATION, &message.base);
}

static struct error *add_function(struct pprof_file *file, uint32_t pprof_id)
{
    const struct pprof_function *function = &file->ids.functions[pprof_id - 1];
    Perftools__Profiles__Function message = PERFTOOLS__PROFILES__FUNCTION__INIT;

    message.id = pprof_id;
    message.name = function->name;
    message.system_name = function->system_name;
    message.filename = function->filename;
    message.start_line = function->start_line;
    return pprof_file_add(file, FIELD_FUNCTION, &message.base);
}

/* Collects what stands behind the string table, since its strings belong into that table.
 * comments: room for num_comments + 1 items; lives as long as the message. */
static struct error *fill_trailer(struct pprof_file *file, Perftools__Profiles__Profile *message,
                                  Perftools__Profiles__ValueType *period_type, int64_t *comments)
{
    const struct profile *profile = file->ids.profile;
    uint32_t id;

    perftools__profiles__profile__init(message);
    message->time_nanos = profile->time_ns;
    message->duration_nanos = profile->duration_ns;
    if (profile->period_type.type != 0 || profile->period_type.unit != 0) {
        RETURN_IF_ERROR(value_type_fill(file, &profile->period_type, period_type));
        message->period_type = period_type;
    }
    message->period = profile->period;
    for (size_t i = 0; i < profile->num_comments; i++) {
        RETURN_IF_ERROR(pprof_ids_string(&file->ids, profile->comments[i], &id));
        comments[i] = id;
    }
    message->n_comment = profile->num_comments;
    message->comment = comments;
    RETURN_IF_ERROR(pprof_ids_string(&file->ids, profile->default_type, &id));
    message->default_sample_type = id;
    return NULL;
}

static struct error *add_strings(struct pprof_file *file)
{
    const struct string_table *strings = &file->ids.strings;

    for (uint32_t i = 0; i < strings->num_strings; i++) {
        const char *string = string_table_get(strings, i);
        size_t num_bytes = strlen(string);

        RETURN_IF_ERROR(pprof_file_add_tag(file, FIELD_STRING_TABLE, num_bytes));
        RETURN_IF_ERROR(gzip_writer_add(file->gzip, string, num_bytes));
    }
    return NULL;
}

/* Samples, mappings, locations and functions. */
static struct error *add_rows(struct pprof_file *file)
{
    const struct stack_table *table = file->ids.profile->table;

    for (size_t i = 0; i < file->ids.num_samples; i++)
        RETURN_IF_ERROR(add_sample(file, &file->ids.samples[i]));
    for (uint32_t i = 1; i <= file->ids.num_mappings; i++)
        RETURN_IF_ERROR(add_mapping(file, i));
    for (uint32_t i = 0; i < table->num_locations; i++)
        if (file->ids.location_ids[i] != 0)
            RETURN_IF_ERROR(add_location(file, i));
    for (uint32_t i = 1; i <= file->ids.num_functions; i++)
        RETURN_IF_ERROR(add_function(file, i));
    return NULL;
}

static struct error *pprof_write(const struct profile *profile, int fd, const char *name)
{
    CLEANUP(pprof_file_deinit) struct pprof_file file = {0};
    CLEANUP(free) int64_t *comments = calloc(profile->num_comments + 1, sizeof(*comments));
    Perftools__Profiles__Profile trailer;
    Perftools__Profiles__ValueType period_type;

    if (!comments)
        return &error_no_memory;
    RETURN_IF_ERROR(pprof_ids_init(&file.ids, profile));
    RETURN_IF_ERROR(gzip_writer_create(fd, name, &file.gzip));
    RETURN_IF_ERROR(add_sample_types(&file, profile));
    RETURN_IF_ERROR(add_rows(&file));
    RETURN_IF_ERROR(fill_trailer(&file, &trailer, &period_type, comments));
    RETURN_IF_ERROR(add_strings(&file));
    RETURN_IF_ERROR(pprof_file_add(&file, 0, &trailer.base));
    return gzip_writer_finish(file.gzip);
}

const struct writer_ops writer_pprof = {
    .name = "pprof",
    .suffix = ".pprof",
    .write = pprof_write,
};
