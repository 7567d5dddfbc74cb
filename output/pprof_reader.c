/* Reads profile.proto in four passes over the bytes, since a message may come before what it refers
 * to: strings and scalars, mappings and functions, locations, samples. One message at a time is
 * decoded, so hostile files cannot blow up memory by many small messages. */
#include "output/pprof_reader.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/hash.h"
#include "output/gzip.h"
#include "output/profile.pb-c.h"
#include "output/wire.h"

/* Field numbers of message Profile (profile.proto). */
enum {
    FIELD_SAMPLE_TYPE = 1,
    FIELD_SAMPLE = 2,
    FIELD_MAPPING = 3,
    FIELD_LOCATION = 4,
    FIELD_FUNCTION = 5,
    FIELD_STRING_TABLE = 6,
    FIELD_TIME_NANOS = 9,
    FIELD_DURATION_NANOS = 10,
    FIELD_PERIOD_TYPE = 11,
    FIELD_PERIOD = 12,
    FIELD_COMMENT = 13,
    FIELD_DEFAULT_SAMPLE_TYPE = 14,
};

/* Far beyond any real profile, and small enough that what is made of it fits into memory. */
#define MAX_ROWS (1U << 22)
#define MAX_FRAMES (1U << 26)
#define MAX_LABELS (1U << 24)
#define MAX_MESSAGE_BYTES (1U << 20)

static const char reader_hint[] = "record one: cprofiler record -o cpu.pprof -- COMMAND";

/* From ids of the file to ids of the stack table. */
struct id_map {
    const char *noun; /* "location" */
    struct hash_index index;
    uint64_t hash_seed;  /* so that a file cannot choose ids that collide */
    uint32_t *table_ids; /* [item of the index] */
    uint64_t *file_ids;  /* the same */
    size_t file_ids_capacity;
    size_t num_ids, capacity;
};

struct pprof_reader {
    const char *name;
    ProtobufCAllocator allocator; /* tells want of memory from broken bytes: has_no_memory */
    bool has_no_memory;
    struct wire_cursor bytes; /* the whole file */
    struct stack_table table;
    struct profile profile;
    uint64_t *weights; /* [locations] when only places are read */
    uint32_t *strings; /* [index in the file] string id of the table */
    size_t num_strings, strings_capacity;
    uint64_t *comments; /* string indices of the file */
    size_t num_comments, comments_capacity;
    uint64_t default_sample_type; /* string index of the file */
    bool has_time;
    struct id_map mappings;
    struct id_map functions;
    struct id_map locations;
    struct hash_index stacks; /* by location ids */
    size_t num_frames;        /* locations in all samples */
    uint32_t *sample_locations;
    size_t sample_locations_capacity;
    struct line *lines;
    size_t lines_capacity;
    struct label *labels;
    size_t labels_capacity;
};

typedef struct error *field_handler_fn(struct pprof_reader *reader, const struct wire_field *field);

static void id_map_deinit(struct id_map *map)
{
    hash_index_deinit(&map->index);
    free(map->table_ids);
    free(map->file_ids);
}

static inline void cleanup_pprof_reader_deinit(struct pprof_reader *reader)
{
    profile_deinit(&reader->profile);
    stack_table_deinit(&reader->table);
    id_map_deinit(&reader->mappings);
    id_map_deinit(&reader->functions);
    id_map_deinit(&reader->locations);
    hash_index_deinit(&reader->stacks);
    free(reader->weights);
    free(reader->strings);
    free(reader->comments);
    free(reader->sample_locations);
    free(reader->lines);
    free(reader->labels);
}

/* The error for bytes that are something else than a profile. */
static struct error *error_not_pprof(const struct pprof_reader *reader, const char *why)
{
    return error_create(ERROR_FAILED, reader_hint, "%s: not a pprof profile (%s)", reader->name,
                        why);
}

static struct error *error_too_many(const struct pprof_reader *reader, const char *what)
{
    return error_create(ERROR_FAILED, NULL, "%s: broken profile: too many %s", reader->name, what);
}

/* Looks up an id of the file. Returns: false when the file has no such row. */
static bool id_map_find(const struct id_map *map, uint64_t file_id, uint32_t *table_id_ret)
{
    /* hash_combine() is a bijection of its second argument, so equal hashes are equal ids. */
    struct hash_index_cursor cursor =
        hash_index_first(&map->index, hash_combine(map->hash_seed, file_id));
    uint32_t item;

    if (!hash_index_next(&map->index, &cursor, &item))
        return false;
    *table_id_ret = map->table_ids[item];
    return true;
}

/* Checks a new row's id and that there are not too many. */
static struct error *id_map_check(const struct pprof_reader *reader, const struct id_map *map,
                                  uint64_t file_id)
{
    uint32_t known;

    if (map->num_ids >= MAX_ROWS)
        return error_create(ERROR_FAILED, NULL, "%s: broken profile: too many %ss", reader->name,
                            map->noun);
    if (file_id == 0)
        return error_create(ERROR_FAILED, NULL, "%s: broken profile: a %s has id 0", reader->name,
                            map->noun);
    if (id_map_find(map, file_id, &known))
        return error_create(ERROR_FAILED, NULL, "%s: broken profile: two %ss have id %llu",
                            reader->name, map->noun, (unsigned long long)file_id);
    return NULL;
}

static struct error *id_map_add(struct id_map *map, uint64_t file_id, uint32_t table_id)
{
    RETURN_IF_ERROR(
        array_reserve(&map->table_ids, &map->capacity, map->num_ids + 1, sizeof(*map->table_ids)));
    RETURN_IF_ERROR(array_reserve(&map->file_ids, &map->file_ids_capacity, map->num_ids + 1,
                                  sizeof(*map->file_ids)));
    RETURN_IF_ERROR(hash_index_insert(&map->index, hash_combine(map->hash_seed, file_id),
                                      (uint32_t)map->num_ids));
    map->file_ids[map->num_ids] = file_id;
    map->table_ids[map->num_ids++] = table_id;
    return NULL;
}

/* Tells the table's id of a string of the file. */
static struct error *reader_string(const struct pprof_reader *reader, int64_t index,
                                   uint32_t *id_ret)
{
    if (index < 0 || (uint64_t)index >= reader->num_strings)
        return error_create(ERROR_FAILED, NULL, "%s: broken profile: there is no string %lld",
                            reader->name, (long long)index);
    *id_ret = reader->strings[index];
    return NULL;
}

static void *message_alloc(void *has_no_memory, size_t num_bytes)
{
    void *memory = malloc(num_bytes);

    if (!memory)
        *(bool *)has_no_memory = true;
    return memory;
}

static void message_free(void *has_no_memory UNUSED, void *memory)
{
    free(memory);
}

/* Decodes one message of the file. message_ret: freed by the caller. */
static struct error *reader_unpack(struct pprof_reader *reader, const struct wire_field *field,
                                   const ProtobufCMessageDescriptor *descriptor,
                                   ProtobufCMessage **message_ret)
{
    ProtobufCMessage *message;

    if (field->type != WIRE_BYTES)
        return error_not_pprof(reader, "a field has the wrong type");
    if (field->num_bytes > MAX_MESSAGE_BYTES)
        return error_create(ERROR_FAILED, NULL, "%s: broken profile: a %s of %zu bytes",
                            reader->name, descriptor->short_name, field->num_bytes);
    message =
        protobuf_c_message_unpack(descriptor, &reader->allocator, field->num_bytes, field->bytes);
    if (!message && reader->has_no_memory)
        return &error_no_memory;
    if (!message)
        return error_create(ERROR_FAILED, NULL, "%s: broken profile: a %s cannot be decoded",
                            reader->name, descriptor->short_name);
    *message_ret = message;
    return NULL;
}

static inline void cleanup_message_free(ProtobufCMessage **message)
{
    protobuf_c_message_free_unpacked(*message, NULL);
}

static struct error *read_string(struct pprof_reader *reader, const struct wire_field *field)
{
    uint32_t id;

    if (field->type != WIRE_BYTES)
        return error_not_pprof(reader, "the string table has the wrong type");
    if (reader->num_strings == 0 && field->num_bytes != 0)
        return error_not_pprof(reader, "the first string is not empty");
    if (reader->num_strings >= MAX_ROWS)
        return error_too_many(reader, "strings");
    RETURN_IF_ERROR(array_reserve(&reader->strings, &reader->strings_capacity,
                                  reader->num_strings + 1, sizeof(*reader->strings)));
    RETURN_IF_ERROR(string_table_add_bytes(&reader->table.strings, (const char *)field->bytes,
                                           field->num_bytes, &id));
    reader->strings[reader->num_strings++] = id;
    return NULL;
}

static struct error *read_comment(struct pprof_reader *reader, const struct wire_field *field)
{
    struct wire_cursor packed = {0};
    uint64_t index = field->value;
    bool is_packed = field->type == WIRE_BYTES;

    if (!is_packed && field->type != WIRE_VARINT)
        return error_not_pprof(reader, "a comment has the wrong type");
    if (is_packed)
        packed = (struct wire_cursor){field->bytes, field->bytes + field->num_bytes};
    while (!is_packed || packed.next != packed.limit) {
        if (is_packed && !wire_varint(&packed, &index))
            return error_not_pprof(reader, "the comments cannot be decoded");
        if (reader->num_comments >= MAX_ROWS)
            return error_too_many(reader, "comments");
        RETURN_IF_ERROR(array_reserve(&reader->comments, &reader->comments_capacity,
                                      reader->num_comments + 1, sizeof(*reader->comments)));
        reader->comments[reader->num_comments++] = index;
        if (!is_packed)
            break;
    }
    return NULL;
}

/* Pass 1: strings and scalars. */
static struct error *read_header_field(struct pprof_reader *reader, const struct wire_field *field)
{
    int64_t value = (int64_t)field->value;

    if (field->number == FIELD_STRING_TABLE)
        return read_string(reader, field);
    if (field->number == FIELD_COMMENT)
        return read_comment(reader, field);
    if (field->number < FIELD_TIME_NANOS || field->number > FIELD_DEFAULT_SAMPLE_TYPE ||
        field->number == FIELD_PERIOD_TYPE)
        return NULL;
    if (field->type != WIRE_VARINT)
        return error_not_pprof(reader, "a number has the wrong type");
    switch (field->number) {
    case FIELD_TIME_NANOS:
        /* The one sign that pprof knows too: writers put a time into each profile, once. */
        if (reader->has_time)
            return error_create(ERROR_FAILED, "split the file, one profile each",
                                "%s: concatenated profiles", reader->name);
        reader->has_time = true;
        reader->profile.time_ns = value;
        break;
    case FIELD_DURATION_NANOS:
        reader->profile.duration_ns = value;
        break;
    case FIELD_PERIOD:
        reader->profile.period = value;
        break;
    case FIELD_DEFAULT_SAMPLE_TYPE:
        reader->default_sample_type = field->value;
        break;
    }
    return NULL;
}

static struct error *read_value_type(struct pprof_reader *reader, const struct wire_field *field,
                                     struct value_type *value_type_ret)
{
    CLEANUP(message_free) ProtobufCMessage *message = NULL;
    const Perftools__Profiles__ValueType *read;

    RETURN_IF_ERROR(
        reader_unpack(reader, field, &perftools__profiles__value_type__descriptor, &message));
    read = (const Perftools__Profiles__ValueType *)message;
    RETURN_IF_ERROR(reader_string(reader, read->type, &value_type_ret->type));
    return reader_string(reader, read->unit, &value_type_ret->unit);
}

static struct error *read_sample_type(struct pprof_reader *reader, const struct wire_field *field)
{
    struct profile *profile = &reader->profile;
    struct value_type value_type;

    RETURN_IF_ERROR(read_value_type(reader, field, &value_type));
    if (profile->num_value_types == PROFILE_MAX_VALUES)
        return error_create(ERROR_FAILED, NULL, "%s: more than %d values in each sample",
                            reader->name, PROFILE_MAX_VALUES);
    profile->value_types[profile->num_value_types++] = value_type;
    return NULL;
}

static struct error *read_mapping(struct pprof_reader *reader, const struct wire_field *field)
{
    CLEANUP(message_free) ProtobufCMessage *message = NULL;
    const Perftools__Profiles__Mapping *read;
    struct mapping mapping = {.kind = MAPPING_FILE, .module = MAPPING_NO_MODULE};
    uint32_t id;

    RETURN_IF_ERROR(
        reader_unpack(reader, field, &perftools__profiles__mapping__descriptor, &message));
    read = (const Perftools__Profiles__Mapping *)message;
    RETURN_IF_ERROR(id_map_check(reader, &reader->mappings, read->id));
    RETURN_IF_ERROR(reader_string(reader, read->filename, &mapping.path));
    RETURN_IF_ERROR(reader_string(reader, read->build_id, &mapping.build_id));
    mapping.start = read->memory_start;
    mapping.limit = read->memory_limit;
    mapping.file_off = read->file_offset;
    mapping.is_main = reader->mappings.num_ids == 0;
    mapping.has_functions = read->has_functions;
    mapping.has_filenames = read->has_filenames;
    mapping.has_line_numbers = read->has_line_numbers;
    mapping.has_inline_frames = read->has_inline_frames;
    RETURN_IF_ERROR(stack_table_append_mapping(&reader->table, &mapping, &id));
    return id_map_add(&reader->mappings, read->id, id);
}

static struct error *read_function(struct pprof_reader *reader, const struct wire_field *field)
{
    CLEANUP(message_free) ProtobufCMessage *message = NULL;
    const Perftools__Profiles__Function *read;
    struct function function = {0};
    uint32_t id;

    RETURN_IF_ERROR(
        reader_unpack(reader, field, &perftools__profiles__function__descriptor, &message));
    read = (const Perftools__Profiles__Function *)message;
    RETURN_IF_ERROR(id_map_check(reader, &reader->functions, read->id));
    RETURN_IF_ERROR(reader_string(reader, read->name, &function.name));
    RETURN_IF_ERROR(reader_string(reader, read->system_name, &function.system_name));
    RETURN_IF_ERROR(reader_string(reader, read->filename, &function.filename));
    function.start_line = read->start_line;
    RETURN_IF_ERROR(stack_table_add_function(&reader->table, &function, &id));
    return id_map_add(&reader->functions, read->id, id);
}

/* Pass 2: what needs strings only. For places it is mappings and functions. */
static struct error *read_place_row_field(struct pprof_reader *reader,
                                          const struct wire_field *field)
{
    if (field->number == FIELD_MAPPING)
        return read_mapping(reader, field);
    return field->number == FIELD_FUNCTION ? read_function(reader, field) : NULL;
}

static struct error *read_row_field(struct pprof_reader *reader, const struct wire_field *field)
{
    if (field->number == FIELD_SAMPLE_TYPE)
        return read_sample_type(reader, field);
    if (field->number == FIELD_PERIOD_TYPE)
        return read_value_type(reader, field, &reader->profile.period_type);
    return read_place_row_field(reader, field);
}

/* Pass 3: locations. */
static struct error *read_location_field(struct pprof_reader *reader,
                                         const struct wire_field *field)
{
    CLEANUP(message_free) ProtobufCMessage *message = NULL;
    const Perftools__Profiles__Location *read;
    struct frame_key key = {0};
    uint32_t id;

    if (field->number != FIELD_LOCATION)
        return NULL;
    RETURN_IF_ERROR(
        reader_unpack(reader, field, &perftools__profiles__location__descriptor, &message));
    read = (const Perftools__Profiles__Location *)message;
    RETURN_IF_ERROR(id_map_check(reader, &reader->locations, read->id));
    RETURN_IF_ERROR(array_reserve(&reader->lines, &reader->lines_capacity, read->n_line,
                                  sizeof(*reader->lines)));
    for (size_t i = 0; i < read->n_line; i++) {
        if (!id_map_find(&reader->functions, read->line[i]->function_id,
                         &reader->lines[i].function))
            return error_create(
                ERROR_FAILED, NULL,
                "%s: broken profile: location %llu names a function that is not there",
                reader->name, (unsigned long long)read->id);
        reader->lines[i].line = read->line[i]->line;
    }
    key.pc = read->address;
    /* A mapping that is not there counts as none, as in pprof. */
    if (!id_map_find(&reader->mappings, read->mapping_id, &key.mapping))
        key.mapping = 0;
    RETURN_IF_ERROR(stack_table_append_location(&reader->table, &key, &id));
    if (read->n_line > 0)
        RETURN_IF_ERROR(stack_table_set_lines(&reader->table, id, reader->lines, read->n_line));
    return id_map_add(&reader->locations, read->id, id);
}

/* Interns the labels of a sample; those without anything to say are left out, as in pprof. */
static struct error *read_labels(struct pprof_reader *reader,
                                 const Perftools__Profiles__Sample *read, uint32_t *label_set_ret)
{
    size_t num_labels = 0;

    RETURN_IF_ERROR(array_reserve(&reader->labels, &reader->labels_capacity, read->n_label,
                                  sizeof(*reader->labels)));
    if (reader->table.num_labels + read->n_label > MAX_LABELS)
        return error_too_many(reader, "labels");
    for (size_t i = 0; i < read->n_label; i++) {
        const Perftools__Profiles__Label *read_label = read->label[i];
        struct label label = {0};

        RETURN_IF_ERROR(reader_string(reader, read_label->key, &label.key));
        RETURN_IF_ERROR(reader_string(reader, read_label->str, &label.str));
        RETURN_IF_ERROR(reader_string(reader, read_label->num_unit, &label.unit));
        if (label.str == 0)
            label.num = read_label->num;
        else
            label.unit = 0;
        if (label.key != 0 && (label.str != 0 || label.num != 0 || label.unit != 0))
            reader->labels[num_labels++] = label;
    }
    return stack_table_add_label_set(&reader->table, reader->labels, num_labels, label_set_ret);
}

/* Interns a stack by its location ids: by addresses, as the table does, many would be equal here.
 */
static struct error *intern_stack(struct pprof_reader *reader, const uint32_t *locations,
                                  size_t num_locations, uint32_t *stack_ret)
{
    const struct stack_table *table = &reader->table;
    uint64_t hash = hash_combine(table->strings.hash_seed, num_locations);
    struct hash_index_cursor cursor;
    uint32_t item;

    for (size_t i = 0; i < num_locations; i++)
        hash = hash_combine(hash, locations[i]);
    cursor = hash_index_first(&reader->stacks, hash);
    while (hash_index_next(&reader->stacks, &cursor, &item)) {
        const struct stack *stack = &table->stacks[item];

        if (stack->num_locations == num_locations &&
            (num_locations == 0 || memcmp(table->stack_locations + stack->first, locations,
                                          num_locations * sizeof(*locations)) == 0)) {
            *stack_ret = item;
            return NULL;
        }
    }
    RETURN_IF_ERROR(hash_index_insert(&reader->stacks, hash, (uint32_t)table->num_stacks));
    return stack_table_append_stack(&reader->table, locations, num_locations, stack_ret);
}

static struct error *error_no_location(const struct pprof_reader *reader, uint64_t file_id)
{
    return error_create(ERROR_FAILED, NULL,
                        "%s: broken profile: a sample names location %llu that is not there",
                        reader->name, (unsigned long long)file_id);
}

/* Interns the stack of a sample. */
static struct error *read_stack(struct pprof_reader *reader,
                                const Perftools__Profiles__Sample *read, uint32_t *stack_ret)
{
    reader->num_frames += read->n_location_id;
    if (reader->num_frames > MAX_FRAMES)
        return error_too_many(reader, "frames");
    RETURN_IF_ERROR(array_reserve(&reader->sample_locations, &reader->sample_locations_capacity,
                                  read->n_location_id, sizeof(*reader->sample_locations)));
    for (size_t i = 0; i < read->n_location_id; i++)
        if (!id_map_find(&reader->locations, read->location_id[i], &reader->sample_locations[i]))
            return error_no_location(reader, read->location_id[i]);
    return intern_stack(reader, reader->sample_locations, read->n_location_id, stack_ret);
}

/* Pass 4: samples. */
static struct error *read_sample_field(struct pprof_reader *reader, const struct wire_field *field)
{
    CLEANUP(message_free) ProtobufCMessage *message = NULL;
    const Perftools__Profiles__Sample *read;
    struct profile *profile = &reader->profile;
    bool is_zero = true;
    uint32_t stack;
    uint32_t label_set;

    if (field->number != FIELD_SAMPLE)
        return NULL;
    RETURN_IF_ERROR(
        reader_unpack(reader, field, &perftools__profiles__sample__descriptor, &message));
    read = (const Perftools__Profiles__Sample *)message;
    if (read->n_value != profile->num_value_types)
        return error_create(ERROR_FAILED, NULL,
                            "%s: broken profile: a sample has %zu values for %zu types",
                            reader->name, read->n_value, profile->num_value_types);
    if (profile->num_samples >= MAX_ROWS)
        return error_too_many(reader, "samples");
    RETURN_IF_ERROR(read_stack(reader, read, &stack));
    RETURN_IF_ERROR(read_labels(reader, read, &label_set));
    for (size_t i = 0; i < read->n_value; i++)
        is_zero = is_zero && read->value[i] == 0;
    return is_zero ? NULL : profile_add(profile, stack, label_set, read->value);
}

/* Pass 4, for places: what stands on each location. Values may be negative (a difference). */
static struct error *read_weight_field(struct pprof_reader *reader, const struct wire_field *field)
{
    CLEANUP(message_free) ProtobufCMessage *message = NULL;
    const Perftools__Profiles__Sample *read;
    uint64_t weight = 1;

    if (field->number != FIELD_SAMPLE)
        return NULL;
    RETURN_IF_ERROR(
        reader_unpack(reader, field, &perftools__profiles__sample__descriptor, &message));
    read = (const Perftools__Profiles__Sample *)message;
    if (read->n_value > 0) {
        int64_t value = read->value[read->n_value - 1];

        weight = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    }
    reader->num_frames += read->n_location_id;
    if (reader->num_frames > MAX_FRAMES)
        return error_too_many(reader, "frames");
    for (size_t i = 0; i < read->n_location_id; i++) {
        uint32_t location;

        if (!id_map_find(&reader->locations, read->location_id[i], &location))
            return error_no_location(reader, read->location_id[i]);
        if (__builtin_add_overflow(reader->weights[location], weight, &reader->weights[location]))
            reader->weights[location] = UINT64_MAX;
    }
    return NULL;
}

/* Calls `handle` for each field of the file. */
static struct error *reader_pass(struct pprof_reader *reader, field_handler_fn *handle)
{
    struct wire_cursor cursor = reader->bytes;
    struct wire_field field;
    enum wire_status status;

    while ((status = wire_next(&cursor, &field)) == WIRE_FIELD)
        RETURN_IF_ERROR(handle(reader, &field));
    return status == WIRE_END ? NULL : error_not_pprof(reader, "the bytes cannot be decoded");
}

/* Turns the string indices of the first pass into strings. */
static struct error *reader_resolve_header(struct pprof_reader *reader)
{
    struct profile *profile = &reader->profile;
    uint32_t id = 0;

    for (size_t i = 0; i < reader->num_comments; i++) {
        RETURN_IF_ERROR(reader_string(reader, (int64_t)reader->comments[i], &id));
        RETURN_IF_ERROR(
            profile_add_comment(profile, "%s", string_table_get(&reader->table.strings, id)));
    }
    return reader_string(reader, (int64_t)reader->default_sample_type, &profile->default_type);
}

/* Pass 1, and what the others need. */
static struct error *reader_begin(struct pprof_reader *reader)
{
    RETURN_IF_ERROR(stack_table_init(&reader->table));
    reader->mappings.hash_seed = reader->table.strings.hash_seed;
    reader->functions.hash_seed = reader->table.strings.hash_seed;
    reader->locations.hash_seed = reader->table.strings.hash_seed;
    RETURN_IF_ERROR(profile_init(&reader->profile, &reader->table));
    RETURN_IF_ERROR(reader_pass(reader, read_header_field));
    if (reader->num_strings == 0)
        return error_not_pprof(reader, "it has no string table");
    return NULL;
}

static struct error *reader_run(struct pprof_reader *reader)
{
    RETURN_IF_ERROR(reader_begin(reader));
    RETURN_IF_ERROR(reader_resolve_header(reader));
    RETURN_IF_ERROR(reader_pass(reader, read_row_field));
    if (reader->profile.num_value_types == 0)
        return error_not_pprof(reader, "it has no sample types");
    RETURN_IF_ERROR(reader_pass(reader, read_location_field));
    return reader_pass(reader, read_sample_field);
}

static struct error *reader_run_places(struct pprof_reader *reader)
{
    RETURN_IF_ERROR(reader_begin(reader));
    RETURN_IF_ERROR(reader_pass(reader, read_place_row_field));
    RETURN_IF_ERROR(reader_pass(reader, read_location_field));
    reader->weights = calloc(reader->table.num_locations + 1, sizeof(*reader->weights));
    return reader->weights ? reader_pass(reader, read_weight_field) : &error_no_memory;
}

static void reader_prepare(struct pprof_reader *reader, const uint8_t *message, size_t num_bytes,
                           const char *name)
{
    reader->name = name;
    reader->mappings.noun = "mapping";
    reader->functions.noun = "function";
    reader->locations.noun = "location";
    reader->allocator = (ProtobufCAllocator){message_alloc, message_free, &reader->has_no_memory};
    reader->bytes = (struct wire_cursor){message, message + num_bytes};
}

static const char broken_hint[] =
    "the file is damaged, or no pprof tool wrote it: record or copy it again";

static struct error *read_places(const uint8_t *message, size_t num_bytes, const char *name,
                                 struct pprof_places *places)
{
    CLEANUP(pprof_reader_deinit) struct pprof_reader reader = {0};

    reader_prepare(&reader, message, num_bytes, name);
    RETURN_IF_ERROR(reader_run_places(&reader));
    *places = (struct pprof_places){
        .table = reader.table,
        .weights = reader.weights,
        .function_ids = reader.functions.file_ids,
        .function_table_ids = reader.functions.table_ids,
        .num_functions = reader.functions.num_ids,
        .strings = reader.strings,
        .num_strings = reader.num_strings,
    };
    reader.weights = NULL;
    reader.functions.file_ids = NULL;
    reader.functions.table_ids = NULL;
    reader.strings = NULL;
    memset(&reader.table, 0, sizeof(reader.table));
    return NULL;
}

struct error *pprof_read_places(const uint8_t *message, size_t num_bytes, const char *name,
                                struct pprof_places *places_ret)
{
    return error_with_hint(read_places(message, num_bytes, name, places_ret), broken_hint);
}

void pprof_places_deinit(struct pprof_places *places)
{
    stack_table_deinit(&places->table);
    free(places->weights);
    free(places->function_ids);
    free(places->function_table_ids);
    free(places->strings);
}

static struct error *inflate(const void *bytes, size_t num_bytes, const char *name,
                             uint8_t **inflated, const uint8_t **message, size_t *num_message_bytes)
{
    *message = bytes;
    *num_message_bytes = num_bytes;
    if (gzip_is_magic(bytes, num_bytes)) {
        RETURN_IF_ERROR(gzip_inflate(bytes, num_bytes, PPROF_READER_MAX_BYTES, name, inflated,
                                     num_message_bytes));
        *message = *inflated;
    }
    if (*num_message_bytes == 0)
        return error_create(ERROR_FAILED, reader_hint, "%s: empty file", name);
    if (*num_message_bytes > PPROF_READER_MAX_BYTES)
        return error_create(ERROR_FAILED, NULL, "%s: too large: more than %llu MB", name,
                            PPROF_READER_MAX_BYTES >> 20);
    return NULL;
}

struct error *pprof_inflate(const void *bytes, size_t num_bytes, const char *name,
                            uint8_t **inflated_ret, const uint8_t **message_ret,
                            size_t *num_message_bytes_ret)
{
    CLEANUP(free) uint8_t *inflated = NULL;
    const uint8_t *message;
    size_t num_message_bytes;

    RETURN_IF_ERROR(error_with_hint(
        inflate(bytes, num_bytes, name, &inflated, &message, &num_message_bytes), broken_hint));
    *inflated_ret = take_ptr(inflated);
    *message_ret = message;
    *num_message_bytes_ret = num_message_bytes;
    return NULL;
}

static struct error *read_bytes(const void *bytes, size_t num_bytes, const char *name,
                                struct stack_table *table, struct profile *profile)
{
    CLEANUP(free) uint8_t *inflated = NULL;
    CLEANUP(pprof_reader_deinit) struct pprof_reader reader = {0};
    const uint8_t *message;

    RETURN_IF_ERROR(inflate(bytes, num_bytes, name, &inflated, &message, &num_bytes));
    reader_prepare(&reader, message, num_bytes, name);
    RETURN_IF_ERROR(reader_run(&reader));
    *table = reader.table;
    *profile = reader.profile;
    profile->table = table;
    memset(&reader.table, 0, sizeof(reader.table));
    memset(&reader.profile, 0, sizeof(reader.profile));
    return NULL;
}

struct error *pprof_read_bytes(const void *bytes, size_t num_bytes, const char *name,
                               struct stack_table *table, struct profile *profile)
{
    return error_with_hint(read_bytes(bytes, num_bytes, name, table, profile), broken_hint);
}

struct error *pprof_read_file(const char *path, struct stack_table *table, struct profile *profile)
{
    CLEANUP(free) char *content = NULL;
    size_t num_bytes;

    RETURN_IF_ERROR(error_with_hint(
        file_read_all(AT_FDCWD, path, PPROF_READER_MAX_BYTES, &content, &num_bytes), reader_hint));
    return pprof_read_bytes(content, num_bytes, path, table, profile);
}
