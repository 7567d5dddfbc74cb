#include "symbolize/dwarf_units.h"

#include <dwarf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"

#define UNITS_MAX ((size_t)4 << 20)
#define UNITS_MAX_INTERVALS ((size_t)16 << 20)
#define SPLIT_UNIT_MAX_BYTES ((uint64_t)64 << 20)

/* The index while it is being made. */
struct building {
    struct dwarf_units *units;
    struct interval *intervals;
    size_t num, capacity;
};

/* Where units overlap (identical code folding), the one with the smaller range wins: a unit that
 * claims the whole program does not hide the others. */
static struct error *add_ranges(struct building *building, Dwarf_Die *die, uint32_t unit)
{
    Dwarf_Addr base;
    Dwarf_Addr start;
    Dwarf_Addr limit;
    ptrdiff_t offset = 0;

    while (building->num < UNITS_MAX_INTERVALS &&
           (offset = dwarf_ranges(die, offset, &base, &start, &limit)) > 0) {
        if (start >= limit)
            continue;
        RETURN_IF_ERROR(array_reserve(&building->intervals, &building->capacity, building->num + 1,
                                      sizeof(*building->intervals)));
        building->intervals[building->num++] = (struct interval){
            .start = start, .limit = limit, .priority = UINT64_MAX - (limit - start), .item = unit};
    }
    return NULL;
}

static struct error *add_unit(struct building *building, Dwarf_Die *die, uint8_t unit_type)
{
    struct dwarf_units *units = building->units;
    size_t num_before = building->num;

    RETURN_IF_ERROR(add_ranges(building, die, (uint32_t)units->num_units));
    if (building->num == num_before)
        return NULL; /* types and data only */
    RETURN_IF_ERROR(array_reserve(&units->units, &units->capacity, units->num_units + 1,
                                  sizeof(*units->units)));
    units->units[units->num_units++] = (struct dwarf_unit){
        .die = *die,
        .full_die = *die,
        .num_bytes = SPLIT_UNIT_MAX_BYTES,
        .language = -1,
        .is_skeleton = unit_type == DW_UT_skeleton,
    };
    return NULL;
}

static struct error *read_units(struct building *building, Dwarf *dwarf, uint64_t deadline_ns)
{
    Dwarf_CU *cu = NULL;
    Dwarf_Die die;
    uint8_t unit_type;

    for (size_t i = 0; i < UNITS_MAX; i++) {
        size_t num_units = building->units->num_units;
        Dwarf_Off offset;

        if (dwarf_get_units(dwarf, cu, &cu, NULL, &unit_type, &die, NULL) != 0)
            return NULL;
        if (deadline_ns && i % 256 == 0 && clock_monotonic_ns() >= deadline_ns)
            return NULL;
        offset = dwarf_dieoffset(&die);
        if (num_units > 0 && offset != (Dwarf_Off)-1) {
            struct dwarf_unit *last = &building->units->units[num_units - 1];

            if (last->num_bytes == SPLIT_UNIT_MAX_BYTES && !last->is_skeleton)
                last->num_bytes = offset - dwarf_dieoffset(&last->die);
        }
        if (unit_type == DW_UT_compile || unit_type == DW_UT_skeleton)
            RETURN_IF_ERROR(add_unit(building, &die, unit_type));
    }
    return NULL;
}

struct error *dwarf_units_create(Dwarf *dwarf, uint64_t deadline_ns, struct dwarf_units **units_ret)
{
    CLEANUP(dwarf_units_destroy) struct dwarf_units *units = calloc(1, sizeof(*units));
    CLEANUP(free) struct interval *intervals = NULL;
    struct building building = {.units = units};
    struct error *err;

    if (!units)
        return &error_no_memory;
    units->deadline_ns = deadline_ns;
    err = read_units(&building, dwarf, deadline_ns);
    intervals = building.intervals;
    if (err)
        return err;
    RETURN_IF_ERROR(interval_map_build(intervals, building.num, &units->ranges));
    *units_ret = take_ptr(units);
    return NULL;
}

void dwarf_units_destroy(struct dwarf_units *units)
{
    if (!units)
        return;
    for (size_t i = 0; i < units->num_units; i++)
        dwarf_scopes_destroy(units->units[i].scopes);
    interval_map_deinit(&units->ranges);
    free(units->units);
    free(units);
}

/* Nothing there, or a regular file: anything else (a FIFO, a device) could block libdw's open(2).
 */
static bool is_harmless_path(const char *path)
{
    struct stat status;

    return stat(path, &status) < 0 || S_ISREG(status.st_mode);
}

/* libdw opens the .dwo file by itself, beside the binary or in the compilation directory; look
 * first. */
static bool split_file_is_harmless(Dwarf_Die *die)
{
    Dwarf_Attribute attr;
    const char *name = dwarf_formstring(dwarf_attr(die, DW_AT_dwo_name, &attr));
    const char *dir = dwarf_formstring(dwarf_attr(die, DW_AT_comp_dir, &attr));
    char path[PATH_MAX];

    if (!name)
        name = dwarf_formstring(dwarf_attr(die, DW_AT_GNU_dwo_name, &attr));
    if (!name || strlen(name) >= PATH_MAX)
        return false;
    if (name[0] == '/')
        return is_harmless_path(name);
    if (!dir || dir[0] != '/' || strstr(name, ".."))
        return false;
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
        return false;
    return is_harmless_path(path);
}

static void load_unit(struct dwarf_units *units, struct dwarf_unit *unit)
{
    struct error *err;

    unit->is_loaded = true;
    if (unit->is_skeleton) {
        Dwarf_Die split = {0};

        if (!split_file_is_harmless(&unit->die) ||
            dwarf_cu_info(unit->die.cu, NULL, NULL, NULL, &split, NULL, NULL, NULL) != 0 ||
            !split.addr) {
            log_info("split debug info of %s is missing",
                     dwarf_diename(&unit->die) ? dwarf_diename(&unit->die) : "a unit");
            return;
        }
        unit->full_die = split;
    }
    unit->language = dwarf_srclang(&unit->full_die);
    err = dwarf_scopes_create(&unit->full_die, unit->num_bytes, units->deadline_ns, &unit->scopes);
    error_destroy(err); /* out of memory for one unit: lines and symbols are still told */
}

struct dwarf_unit *dwarf_units_find(struct dwarf_units *units, uint64_t elf_addr)
{
    const struct interval_segment *segment = interval_map_find(&units->ranges, elf_addr);
    struct dwarf_unit *unit = segment ? &units->units[segment->item] : NULL;

    if (unit && !unit->is_loaded)
        load_unit(units, unit);
    return unit;
}
