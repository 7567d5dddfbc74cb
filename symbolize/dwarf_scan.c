#include "symbolize/dwarf_scan.h"

#include <dwarf.h>

#include "base/compiler.h"

bool dwarf_scan_start(struct dwarf_scan *scan, struct dwarf_abbrevs_cache *cache,
                      const struct dwarf_unit *unit)
{
    *scan = (struct dwarf_scan){.unit = unit, .bytes = dwarf_unit_bytes(unit, unit->root)};
    scan->abbrevs = dwarf_abbrevs_get(cache, unit->file, unit->abbrev_offset, unit->format);
    if (!scan->abbrevs || scan->bytes.is_bad)
        return false;
    scan->section = scan->bytes.at - unit->root;
    return true;
}

static bool skip_uleb(struct dwarf_bytes *bytes)
{
    while (bytes->at < bytes->limit) {
        if (!(*bytes->at++ & 0x80))
            return true;
    }
    return dwarf_bytes_fail(bytes);
}

/* Moves over the attributes of a DIE, keeping those that a walk wants. */
static bool scan_attrs(struct dwarf_scan *scan, const struct dwarf_abbrev *abbrev)
{
    struct dwarf_bytes *bytes = &scan->bytes;

    for (size_t i = 0; i < DWARF_SCAN_NUM_SLOTS; i++)
        scan->kept[i].form = 0;
    for (uint32_t i = 0; i < abbrev->num_steps; i++) {
        const struct dwarf_scan_step *step = &scan->abbrevs->steps[abbrev->first_step + i];

        switch (step->kind) {
        case DWARF_SCAN_SKIP:
            dwarf_bytes_skip(bytes, (uint64_t)step->number);
            break;
        case DWARF_SCAN_SKIP_ULEB:
            skip_uleb(bytes);
            break;
        case DWARF_SCAN_SKIP_FORM:
            dwarf_form_skip(bytes, step->form, scan->unit->format);
            break;
        default:
            dwarf_form_read(bytes, step->form, step->number, scan->unit->format,
                            &scan->kept[step->kind]);
        }
    }
    return !bytes->is_bad;
}

bool dwarf_scan_next(struct dwarf_scan *scan, uint64_t *die_ret,
                     const struct dwarf_abbrev **abbrev_ret)
{
    uint64_t code;

    *abbrev_ret = NULL;
    if (scan->bytes.at >= scan->bytes.limit || !dwarf_budget_take(scan->unit->file->budget, 1))
        return false;
    *die_ret = (uint64_t)(scan->bytes.at - scan->section);
    code = *scan->bytes.at;
    if (LIKELY(code < 0x80))
        scan->bytes.at++;
    else
        code = dwarf_bytes_read_uleb(&scan->bytes);
    if (code == 0)
        return !scan->bytes.is_bad;
    *abbrev_ret = dwarf_abbrevs_find(scan->abbrevs, code);
    return *abbrev_ret && scan_attrs(scan, *abbrev_ret);
}

uint64_t dwarf_scan_sibling(const struct dwarf_scan *scan)
{
    const struct dwarf_value *sibling = &scan->kept[DWARF_SCAN_SIBLING];
    uint64_t here = (uint64_t)(scan->bytes.at - scan->section);
    uint64_t target;

    /* Only forward, never round in circles. */
    if (!sibling->form || sibling->form == DW_FORM_ref_addr ||
        __builtin_add_overflow(scan->unit->offset, sibling->number, &target) || target < here ||
        target >= scan->unit->limit)
        return 0;
    return target;
}

static bool jump_to_sibling(struct dwarf_scan *scan)
{
    uint64_t target = dwarf_scan_sibling(scan);

    if (target > 0)
        scan->bytes.at = scan->section + target;
    return target > 0;
}

bool dwarf_scan_skip_children(struct dwarf_scan *scan)
{
    const struct dwarf_abbrev *abbrev;
    uint64_t depth = 1;
    uint64_t die;

    if (jump_to_sibling(scan))
        return true;
    while (depth > 0) {
        if (!dwarf_scan_next(scan, &die, &abbrev))
            return false;
        if (!abbrev)
            depth--;
        else if (abbrev->has_children && !jump_to_sibling(scan))
            depth++;
    }
    return true;
}
