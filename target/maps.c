#include "target/maps.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/array.h"
#include "base/cleanup.h"

/* The last generation given out; never 0, so that a zeroed cache entry matches nothing. */
static uint32_t last_generation;

static uint32_t generation_next(void)
{
    if (++last_generation == 0)
        last_generation = 1;
    return last_generation;
}

struct error *maps_create(struct maps **maps_ret)
{
    struct maps *maps = calloc(1, sizeof(*maps));

    if (!maps)
        return &error_no_memory;
    maps->refcount = 1;
    maps->generation = generation_next();
    *maps_ret = maps;
    return NULL;
}

struct maps *maps_get(struct maps *maps)
{
    maps->refcount++;
    return maps;
}

void maps_put(struct maps *maps)
{
    if (!maps || --maps->refcount > 0)
        return;
    free(maps->vmas);
    free(maps);
}

struct error *maps_unshare(struct maps **maps)
{
    struct maps *copy = NULL;
    struct error *err;

    if ((*maps)->refcount == 1)
        return NULL;
    RETURN_IF_ERROR(maps_create(&copy));
    err = array_reserve(&copy->vmas, &copy->capacity, (*maps)->num_vmas, sizeof(*copy->vmas));
    if (err) {
        maps_put(copy);
        return err;
    }
    if ((*maps)->num_vmas > 0)
        memcpy(copy->vmas, (*maps)->vmas, (*maps)->num_vmas * sizeof(*copy->vmas));
    copy->num_vmas = (*maps)->num_vmas;
    maps_put(*maps);
    *maps = copy;
    return NULL;
}

/* Tells the index of the first range that ends above `pc` (num_vmas when there is none). */
static size_t maps_lower_bound(const struct maps *maps, uint64_t pc)
{
    return array_search(maps->num_vmas, at, maps->vmas[at].limit <= pc);
}

const struct vma *maps_find_next(const struct maps *maps, uint64_t pc)
{
    size_t position = maps_lower_bound(maps, pc);

    return position == maps->num_vmas ? NULL : &maps->vmas[position];
}

const struct vma *maps_find(const struct maps *maps, uint64_t pc)
{
    size_t position = maps_lower_bound(maps, pc);

    if (position == maps->num_vmas || maps->vmas[position].start > pc)
        return NULL;
    return &maps->vmas[position];
}

struct error *maps_insert(struct maps *maps, const struct vma *vma)
{
    struct vma pieces[3]; /* what is left of the first, the new one, what is left of the last */
    size_t num_pieces = 0;
    size_t first, last;

    if (vma->start >= vma->limit)
        return NULL;
    first = maps_lower_bound(maps, vma->start);
    for (last = first; last < maps->num_vmas && maps->vmas[last].start < vma->limit;)
        last++;
    if (first < last && maps->vmas[first].start < vma->start) {
        pieces[num_pieces] = maps->vmas[first];
        pieces[num_pieces++].limit = vma->start;
    }
    pieces[num_pieces++] = *vma;
    if (first < last && maps->vmas[last - 1].limit > vma->limit) {
        pieces[num_pieces] = maps->vmas[last - 1];
        pieces[num_pieces].file_off += vma->limit - pieces[num_pieces].start;
        pieces[num_pieces++].start = vma->limit;
    }
    RETURN_IF_ERROR(array_reserve(&maps->vmas, &maps->capacity,
                                  maps->num_vmas - (last - first) + num_pieces,
                                  sizeof(*maps->vmas)));
    memmove(maps->vmas + first + num_pieces, maps->vmas + last,
            (maps->num_vmas - last) * sizeof(*maps->vmas));
    memcpy(maps->vmas + first, pieces, num_pieces * sizeof(*pieces));
    maps->num_vmas = maps->num_vmas - (last - first) + num_pieces;
    if (last > first)
        maps->generation = generation_next();
    return NULL;
}

/* Reads digits of `base` (10 or 16, lowercase as the kernel prints them) from *text on, moving it
 * behind them. value_ret: the number. Returns: false without a digit or when 64 bits don't hold it.
 */
static bool digits_parse(char **text, unsigned int base, uint64_t *value_ret)
{
    uint64_t value = 0;
    char *position = *text;

    for (;; position++) {
        unsigned int digit;

        if (*position >= '0' && *position <= '9')
            digit = (unsigned int)(*position - '0');
        else if (base == 16 && *position >= 'a' && *position <= 'f')
            digit = (unsigned int)(*position - 'a') + 10;
        else
            break;
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    if (position == *text)
        return false;
    *text = position;
    *value_ret = value;
    return true;
}

/* Skips one `expected` byte. Returns: false when another byte is there. */
static bool byte_skip(char **text, char expected)
{
    if (**text != expected)
        return false;
    ++*text;
    return true;
}

/* Parses "r-xp" and the like. prot_ret: PROT_* bits. */
static bool prot_parse(char **text, uint32_t *prot_ret)
{
    static const char letters[] = "rwx";
    static const uint32_t bits[] = {PROT_READ, PROT_WRITE, PROT_EXEC};
    uint32_t prot = 0;

    for (size_t i = 0; i < ARRAY_LENGTH(bits); i++) {
        if (**text == letters[i])
            prot |= bits[i];
        else if (**text != '-')
            return false;
        ++*text;
    }
    if (**text != 'p' && **text != 's')
        return false;
    ++*text;
    *prot_ret = prot;
    return true;
}

/* Undoes what seq_path() did to newlines: the kernel escapes nothing but these in maps (proc(5):
 * "\012"), a backslash stays as it is. */
static void newlines_unescape(char *path)
{
    char *out = path;

    while (*path) {
        if (strncmp(path, "\\012", 4) == 0) {
            *out++ = '\n';
            path += 4;
        } else {
            *out++ = *path++;
        }
    }
    *out = '\0';
}

bool maps_line_parse(char *line, struct maps_line *parsed_ret)
{
    struct maps_line parsed = {0};
    uint64_t dev_major, dev_minor;
    char *text = line;

    line[strcspn(line, "\n")] = '\0';
    if (!digits_parse(&text, 16, &parsed.start) || !byte_skip(&text, '-') ||
        !digits_parse(&text, 16, &parsed.limit) || !byte_skip(&text, ' ') ||
        !prot_parse(&text, &parsed.prot) || !byte_skip(&text, ' ') ||
        !digits_parse(&text, 16, &parsed.file_off) || !byte_skip(&text, ' ') ||
        !digits_parse(&text, 16, &dev_major) || !byte_skip(&text, ':') ||
        !digits_parse(&text, 16, &dev_minor) || !byte_skip(&text, ' ') ||
        !digits_parse(&text, 10, &parsed.inode))
        return false;
    if (parsed.start >= parsed.limit || dev_major > UINT32_MAX || dev_minor > UINT32_MAX)
        return false;
    if (*text != '\0' && *text != ' ')
        return false;
    while (*text == ' ')
        text++;
    newlines_unescape(text);
    parsed.dev_major = (uint32_t)dev_major;
    parsed.dev_minor = (uint32_t)dev_minor;
    parsed.path = text;
    *parsed_ret = parsed;
    return true;
}

bool mapping_elf_addr(const struct mapping *mapping, const struct module *module,
                      uint64_t profile_pc, uint64_t *elf_addr_ret)
{
    uint64_t bias;

    if (!module || profile_pc < mapping->start || profile_pc >= mapping->limit ||
        !module_mapping_bias(module, mapping->start, mapping->limit, mapping->file_off, &bias))
        return false;
    *elf_addr_ret = profile_pc - bias;
    return true;
}
