#include "symbolize/dwarf_abbrev.h"

#include <dwarf.h>
#include <stdlib.h>

#include "base/array.h"

#define TABLE_MAX_ATTRS ((size_t)256 << 10) /* 10 000 in the largest units */

bool dwarf_abbrev_next(struct dwarf_bytes *bytes, uint64_t *code_ret, uint64_t *tag_ret,
                       bool *has_children_ret)
{
    *code_ret = dwarf_bytes_read_uleb(bytes);
    if (*code_ret == 0)
        return false;
    *tag_ret = dwarf_bytes_read_uleb(bytes);
    *has_children_ret = dwarf_bytes_read(bytes, 1) == DW_CHILDREN_yes;
    return !bytes->is_bad;
}

bool dwarf_abbrev_next_attr(struct dwarf_bytes *bytes, struct dwarf_abbrev_attr *attr_ret)
{
    uint64_t name = dwarf_bytes_read_uleb(bytes);
    uint64_t form = dwarf_bytes_read_uleb(bytes);
    int64_t implicit = 0;

    if (form == DW_FORM_implicit_const)
        implicit = dwarf_bytes_read_sleb(bytes);
    if (bytes->is_bad || (name == 0 && form == 0))
        return false;
    *attr_ret = (struct dwarf_abbrev_attr){
        .name = name > UINT16_MAX ? 0 : (uint16_t)name,
        .form = form > UINT16_MAX ? 0 : (uint16_t)form,
        .implicit = implicit > INT32_MAX || implicit < INT32_MIN ? 0 : (int32_t)implicit,
    };
    return true;
}

/* Which attributes a walk wants: the ends of subtrees, and the code of what may have some. */
static uint8_t scan_slot(uint16_t tag, uint16_t name)
{
    bool may_have_code =
        tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine || tag == DW_TAG_lexical_block;

    switch (name) {
    case DW_AT_sibling:
        return DWARF_SCAN_SIBLING;
    case DW_AT_low_pc:
        return may_have_code ? DWARF_SCAN_LOW : DWARF_SCAN_SKIP;
    case DW_AT_high_pc:
        return may_have_code ? DWARF_SCAN_HIGH : DWARF_SCAN_SKIP;
    case DW_AT_ranges:
        return may_have_code ? DWARF_SCAN_RANGES : DWARF_SCAN_SKIP;
    default:
        return DWARF_SCAN_SKIP;
    }
}

static bool is_single_uleb(uint16_t form)
{
    return form == DW_FORM_udata || form == DW_FORM_sdata || form == DW_FORM_strx ||
           form == DW_FORM_addrx || form == DW_FORM_ref_udata || form == DW_FORM_loclistx ||
           form == DW_FORM_rnglistx;
}

/* Adds the step over one attribute; neighbours of fixed size become one step. */
static struct error *add_step(struct dwarf_abbrevs *table, struct dwarf_abbrev *abbrev,
                              const struct dwarf_abbrev_attr *attr)
{
    int num_bytes = dwarf_form_bytes(attr->form, table->format);
    uint8_t slot = scan_slot(abbrev->tag, attr->name);
    struct dwarf_scan_step step = {.kind = slot, .form = attr->form, .number = attr->implicit};
    struct dwarf_scan_step *last =
        abbrev->num_steps > 0 ? &table->steps[table->num_steps - 1] : NULL;

    if (slot == DWARF_SCAN_SKIP) {
        if (num_bytes == 0)
            return NULL;
        if (num_bytes > 0 && last && last->kind == DWARF_SCAN_SKIP &&
            last->number < INT32_MAX - num_bytes) {
            last->number += num_bytes;
            return NULL;
        }
        step.number = num_bytes;
        if (num_bytes < 0)
            step.kind = is_single_uleb(attr->form) ? DWARF_SCAN_SKIP_ULEB : DWARF_SCAN_SKIP_FORM;
    }
    RETURN_IF_ERROR(array_reserve(&table->steps, &table->steps_capacity, table->num_steps + 1,
                                  sizeof(*table->steps)));
    table->steps[table->num_steps++] = step;
    abbrev->num_steps++;
    return NULL;
}

static struct error *add_abbrev(struct dwarf_abbrevs *table, struct dwarf_bytes *bytes,
                                struct dwarf_abbrev abbrev, struct dwarf_budget *budget)
{
    struct dwarf_abbrev_attr attr;

    abbrev.first_attr = (uint32_t)table->num_attrs;
    abbrev.first_step = (uint32_t)table->num_steps;
    while (dwarf_abbrev_next_attr(bytes, &attr) && table->num_attrs < TABLE_MAX_ATTRS &&
           dwarf_budget_take(budget, 1)) {
        RETURN_IF_ERROR(array_reserve(&table->attrs, &table->attrs_capacity, table->num_attrs + 1,
                                      sizeof(attr)));
        table->attrs[table->num_attrs++] = attr;
        abbrev.num_attrs++;
        RETURN_IF_ERROR(add_step(table, &abbrev, &attr));
    }
    RETURN_IF_ERROR(
        array_reserve(&table->abbrevs, &table->capacity, table->num + 1, sizeof(*table->abbrevs)));
    table->is_dense &= abbrev.code == table->num + 1;
    table->abbrevs[table->num++] = abbrev;
    return NULL;
}

static int abbrev_compare(const void *left, const void *right)
{
    const struct dwarf_abbrev *a = left;
    const struct dwarf_abbrev *b = right;

    if (a->code != b->code)
        return a->code < b->code ? -1 : 1;
    return a->first_attr < b->first_attr ? -1 : a->first_attr > b->first_attr;
}

struct error *dwarf_abbrevs_create(struct dwarf_file *file, uint64_t offset,
                                   struct dwarf_format format, struct dwarf_abbrevs **abbrevs_ret)
{
    CLEANUP(dwarf_abbrevs_destroy) struct dwarf_abbrevs *table = calloc(1, sizeof(*table));
    struct dwarf_bytes bytes = dwarf_file_bytes(file, DWARF_SECTION_ABBREV, offset);
    struct dwarf_abbrev abbrev = {0};
    uint64_t tag;

    if (!table)
        return &error_no_memory;
    table->file = file;
    table->offset = offset;
    table->format = format;
    table->is_dense = true;
    while (!bytes.is_bad && dwarf_abbrev_next(&bytes, &abbrev.code, &tag, &abbrev.has_children) &&
           table->num < TABLE_MAX_ATTRS && dwarf_budget_take(file->budget, 1)) {
        abbrev.tag = tag > UINT16_MAX ? 0 : (uint16_t)tag;
        RETURN_IF_ERROR(add_abbrev(table, &bytes, abbrev, file->budget));
    }
    if (!table->is_dense)
        qsort(table->abbrevs, table->num, sizeof(*table->abbrevs), abbrev_compare);
    *abbrevs_ret = take_ptr(table);
    return NULL;
}

void dwarf_abbrevs_destroy(struct dwarf_abbrevs *abbrevs)
{
    if (!abbrevs)
        return;
    free(abbrevs->abbrevs);
    free(abbrevs->attrs);
    free(abbrevs->steps);
    free(abbrevs);
}

const struct dwarf_abbrev *dwarf_abbrevs_search(const struct dwarf_abbrevs *abbrevs, uint64_t code)
{
    size_t found = array_search(abbrevs->num, at, abbrevs->abbrevs[at].code < code);

    return found < abbrevs->num && abbrevs->abbrevs[found].code == code ? &abbrevs->abbrevs[found]
                                                                        : NULL;
}

const struct dwarf_abbrevs *dwarf_abbrevs_get(struct dwarf_abbrevs_cache *cache,
                                              struct dwarf_file *file, uint64_t offset,
                                              struct dwarf_format format)
{
    struct dwarf_abbrevs *table = NULL;
    struct error *err;

    for (size_t i = 0; i < DWARF_ABBREVS_CACHED; i++) {
        table = cache->tables[i];
        if (table && table->file == file && table->offset == offset &&
            table->format.offset_bytes == format.offset_bytes &&
            table->format.version == format.version)
            return table;
    }
    err = dwarf_abbrevs_create(file, offset, format, &table);
    if (err) {
        error_destroy(err);
        return NULL;
    }
    dwarf_abbrevs_destroy(cache->tables[cache->next]);
    cache->tables[cache->next] = table;
    cache->next = (cache->next + 1) % DWARF_ABBREVS_CACHED;
    return table;
}

void dwarf_abbrevs_cache_deinit(struct dwarf_abbrevs_cache *cache)
{
    for (size_t i = 0; i < DWARF_ABBREVS_CACHED; i++)
        dwarf_abbrevs_destroy(cache->tables[i]);
    *cache = (struct dwarf_abbrevs_cache){0};
}
