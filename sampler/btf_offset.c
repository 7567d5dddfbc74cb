#include "sampler/btf_offset.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define PAGE_BYTES 4096 /* sysfs gives at most a page for each read */
#define MAX_FILE_BYTES ((size_t)64 << 20)
#define MAX_ANONYMOUS 64 /* structs and unions without a name that are looked into */
#define MAX_DEPTH 4
#define NOT_FOUND UINT32_MAX

/* The file, read page by page when somebody looks there. */
struct image {
    const uint8_t *bytes;
    size_t num_bytes;
    int fd;         /* -1: all bytes are there */
    uint8_t *pages; /* the same as bytes when fd >= 0 */
    bool *is_read;  /* by page */
};

/* What is being looked for, and where in the image. */
struct search {
    struct image *image;
    uint64_t types, types_limit, strings, strings_limit; /* places in the image */
    const char *struct_name;
    const char *const *names;
    size_t num_names;
    uint32_t *offsets; /* NOT_FOUND until found */
    unsigned num_anonymous;
};

/* One type: the fixed part, and where its members are. */
struct type_record {
    struct btf_type fixed;
    uint64_t members;
};

static bool read_page(struct image *image, size_t page)
{
    size_t start = page * PAGE_BYTES;
    size_t limit = start + PAGE_BYTES < image->num_bytes ? start + PAGE_BYTES : image->num_bytes;

    while (start < limit) {
        ssize_t num_read = pread(image->fd, image->pages + start, limit - start, (off_t)start);

        if (num_read < 0 && errno == EINTR)
            continue;
        if (num_read <= 0)
            return false;
        start += (size_t)num_read;
    }
    image->is_read[page] = true;
    return true;
}

/* Gives `num_bytes` (> 0) bytes at `place`, all below `limit`. Returns: them or NULL. */
static const uint8_t *image_at(struct image *image, uint64_t place, uint64_t num_bytes,
                               uint64_t limit)
{
    if (limit > image->num_bytes || place > limit || num_bytes > limit - place)
        return NULL;
    if (image->fd >= 0) {
        for (size_t page = place / PAGE_BYTES; page <= (place + num_bytes - 1) / PAGE_BYTES; page++)
            if (!image->is_read[page] && !read_page(image, page))
                return NULL;
    }
    return image->bytes + place;
}

/* The sections in the header are told from its end on (btf.rst, "BTF Type and String Encoding"). */
static bool find_sections(struct search *search)
{
    uint64_t limit = search->image->num_bytes;
    const uint8_t *bytes = image_at(search->image, 0, sizeof(struct btf_header), limit);
    struct btf_header header;

    if (!bytes)
        return false;
    memcpy(&header, bytes, sizeof(header));
    if (header.magic != BTF_MAGIC || header.version != BTF_VERSION ||
        header.hdr_len < sizeof(header))
        return false;
    search->types = (uint64_t)header.hdr_len + header.type_off;
    search->types_limit = search->types + header.type_len;
    search->strings = (uint64_t)header.hdr_len + header.str_off;
    search->strings_limit = search->strings + header.str_len;
    return search->types_limit <= limit && search->strings_limit <= limit;
}

static bool string_equals(const struct search *search, uint32_t offset, const char *text)
{
    size_t num_bytes = strlen(text) + 1;
    const uint8_t *bytes =
        image_at(search->image, search->strings + offset, num_bytes, search->strings_limit);

    return bytes && memcmp(bytes, text, num_bytes) == 0;
}

/* Bytes behind the fixed part of a type (btf.rst, "Type Encoding"). */
static uint64_t extra_bytes(uint32_t kind, uint64_t num_members)
{
    switch (kind) {
    case BTF_KIND_INT:
    case BTF_KIND_VAR:
    case BTF_KIND_DECL_TAG:
        return 4;
    case BTF_KIND_ARRAY:
        return 12;
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
    case BTF_KIND_DATASEC:
    case BTF_KIND_ENUM64:
        return 12 * num_members;
    case BTF_KIND_ENUM:
    case BTF_KIND_FUNC_PROTO:
        return 8 * num_members;
    default:
        return 0;
    }
}

/* Reads the type at *place and moves on to the next. Returns: false at the end, and at what cannot
 * be passed over. */
static bool next_type(const struct search *search, uint64_t *place, struct type_record *record_ret)
{
    const uint8_t *bytes =
        image_at(search->image, *place, sizeof(struct btf_type), search->types_limit);
    uint64_t num_extra;

    if (!bytes)
        return false;
    memcpy(&record_ret->fixed, bytes, sizeof(record_ret->fixed));
    record_ret->members = *place + sizeof(struct btf_type);
    if (BTF_INFO_KIND(record_ret->fixed.info) > BTF_KIND_ENUM64)
        return false;
    num_extra =
        extra_bytes(BTF_INFO_KIND(record_ret->fixed.info), BTF_INFO_VLEN(record_ret->fixed.info));
    if (num_extra > search->types_limit - record_ret->members)
        return false;
    *place = record_ret->members + num_extra;
    return true;
}

/* Type ids count the types from 1 on; there is no table of them. */
static bool find_type(const struct search *search, uint32_t id, struct type_record *record_ret)
{
    uint64_t place = search->types;

    for (uint32_t i = 0; i < id; i++)
        if (!next_type(search, &place, record_ret))
            return false;
    return id > 0;
}

static bool is_aggregate(const struct type_record *record)
{
    uint32_t kind = BTF_INFO_KIND(record->fixed.info);

    return kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION;
}

/* Reads member `index`. bit_ret: its first bit. Returns: false for a bit field. */
static bool read_member(const struct search *search, const struct type_record *record,
                        uint32_t index, struct btf_member *member_ret, uint32_t *bit_ret)
{
    const uint8_t *bytes =
        image_at(search->image, record->members + (uint64_t)index * sizeof(*member_ret),
                 sizeof(*member_ret), search->types_limit);

    if (!bytes)
        return false;
    memcpy(member_ret, bytes, sizeof(*member_ret));
    *bit_ret = member_ret->offset;
    if (!BTF_INFO_KFLAG(record->fixed.info))
        return *bit_ret % 8 == 0;
    *bit_ret = BTF_MEMBER_BIT_OFFSET(member_ret->offset);
    return BTF_MEMBER_BITFIELD_SIZE(member_ret->offset) == 0 && *bit_ret % 8 == 0;
}

static void note_field(const struct search *search, const struct btf_member *member,
                       uint64_t offset)
{
    for (size_t i = 0; i < search->num_names; i++) {
        if (search->offsets[i] == NOT_FOUND && offset < NOT_FOUND &&
            string_equals(search, member->name_off, search->names[i]))
            search->offsets[i] = (uint32_t)offset;
    }
}

static bool all_found(const struct search *search)
{
    for (size_t i = 0; i < search->num_names; i++)
        if (search->offsets[i] == NOT_FOUND)
            return false;
    return true;
}

/* Looks for the fields in one struct, `base` bytes into the one that was asked for: first among its
 * own, then in what it has without a name (CONFIG_RANDSTRUCT puts most of task_struct there).
 * NOLINTNEXTLINE(misc-no-recursion): no deeper than MAX_DEPTH. */
static void search_fields(struct search *search, const struct type_record *record, uint64_t base,
                          int depth)
{
    uint32_t num_members = BTF_INFO_VLEN(record->fixed.info);
    struct btf_member member;
    uint32_t bit;

    for (uint32_t i = 0; i < num_members; i++)
        if (read_member(search, record, i, &member, &bit) && member.name_off)
            note_field(search, &member, base + bit / 8);
    for (uint32_t i = 0; i < num_members && depth < MAX_DEPTH && !all_found(search); i++) {
        struct type_record inner;

        if (!read_member(search, record, i, &member, &bit) || member.name_off)
            continue;
        if (search->num_anonymous++ >= MAX_ANONYMOUS)
            return;
        if (find_type(search, member.type, &inner) && is_aggregate(&inner))
            search_fields(search, &inner, base + bit / 8, depth + 1);
    }
}

/* Returns: whether one struct of that name has all the fields. */
static bool run(struct search *search)
{
    struct type_record record;
    uint64_t place;

    if (!find_sections(search))
        return false;
    place = search->types;
    while (next_type(search, &place, &record)) {
        if (BTF_INFO_KIND(record.fixed.info) != BTF_KIND_STRUCT ||
            !string_equals(search, record.fixed.name_off, search->struct_name))
            continue;
        for (size_t i = 0; i < search->num_names; i++)
            search->offsets[i] = NOT_FOUND;
        search_fields(search, &record, 0, 0);
        if (all_found(search))
            return true;
    }
    return false;
}

/* Searches an image. offsets_ret: written on success only. */
static struct error *search_image(struct image *image, const char *struct_name,
                                  const char *const *names, size_t num_names, uint32_t *offsets_ret)
{
    CLEANUP(free) uint32_t *offsets = calloc(num_names, sizeof(*offsets));
    struct search search = {
        .image = image,
        .struct_name = struct_name,
        .names = names,
        .num_names = num_names,
        .offsets = offsets,
    };

    if (!offsets)
        return &error_no_memory;
    if (!run(&search))
        return error_create(ERROR_UNSUPPORTED, "use --engine per-task",
                            "the kernel's BTF does not tell the fields of struct %s", struct_name);
    memcpy(offsets_ret, offsets, num_names * sizeof(*offsets));
    return NULL;
}

struct error *btf_offset_parse(const void *content, size_t num_bytes, const char *struct_name,
                               const char *const *names, size_t num_names, uint32_t *offsets_ret)
{
    struct image image = {.bytes = content, .num_bytes = num_bytes, .fd = -1};

    return search_image(&image, struct_name, names, num_names, offsets_ret);
}

struct error *btf_offset_find(const char *path, const char *struct_name, const char *const *names,
                              size_t num_names, uint32_t *offsets_ret)
{
    CLEANUP(close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    CLEANUP(free) uint8_t *pages = NULL;
    CLEANUP(free) bool *is_read = NULL;
    struct image image = {.fd = fd};
    struct stat status;

    if (fd < 0 || fstat(fd, &status))
        return error_create(ERROR_UNSUPPORTED, "use --engine per-task",
                            "the kernel does not tell its types (CONFIG_DEBUG_INFO_BTF): %s: %s",
                            path, strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_size <= 0 ||
        (uint64_t)status.st_size > MAX_FILE_BYTES)
        return error_create(ERROR_UNSUPPORTED, "use --engine per-task", "%s is no file of BTF",
                            path);
    image.num_bytes = (size_t)status.st_size;
    pages = calloc(1, image.num_bytes); /* pages that nobody looks at cost nothing */
    is_read = calloc(image.num_bytes / PAGE_BYTES + 1, sizeof(*is_read));
    if (!pages || !is_read)
        return &error_no_memory;
    image.bytes = image.pages = pages;
    image.is_read = is_read;
    return search_image(&image, struct_name, names, num_names, offsets_ret);
}
