#include "output/units.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"

#define UNIT_MAX_ALIASES 3
#define UNIT_MAX_NAME_BYTES 32 /* longer than any alias */

struct unit {
    const char *name;
    double factor;
    const char *aliases[UNIT_MAX_ALIASES]; /* lower case, without a plural s */
};

struct unit_family {
    const struct unit *units; /* smallest first */
    size_t num_units;
    const char *default_name;
    double default_factor;
};

static const struct unit memory_units[] = {
    {"B", 1, {"b", "byte"}},
    {"kB", 1024.0, {"kb", "kbyte", "kilobyte"}},
    {"MB", 1024.0 * 1024, {"mb", "mbyte", "megabyte"}},
    {"GB", 1024.0 * 1024 * 1024, {"gb", "gbyte", "gigabyte"}},
    {"TB", 1024.0 * 1024 * 1024 * 1024, {"tb", "tbyte", "terabyte"}},
    {"PB", 1024.0 * 1024 * 1024 * 1024 * 1024, {"pb", "pbyte", "petabyte"}},
};

static const struct unit time_units[] = {
    {"ns", 1, {"ns", "nanosecond"}},    {"us", 1e3, {"us", "microsecond"}},
    {"ms", 1e6, {"ms", "millisecond"}}, {"s", 1e9, {"s", "sec", "second"}},
    {"hrs", 3600e9, {"hour", "hr"}},
};

static const struct unit gcu_units[] = {
    {"n*GCU", 1e-9, {"nanogcu"}}, {"u*GCU", 1e-6, {"microgcu"}}, {"m*GCU", 1e-3, {"milligcu"}},
    {"GCU", 1, {"gcu"}},          {"k*GCU", 1e3, {"kilogcu"}},   {"M*GCU", 1e6, {"megagcu"}},
    {"G*GCU", 1e9, {"gigagcu"}},  {"T*GCU", 1e12, {"teragcu"}},  {"P*GCU", 1e15, {"petagcu"}},
};

static const struct unit_family unit_families[] = {
    {memory_units, ARRAY_LENGTH(memory_units), "B", 1},
    {time_units, ARRAY_LENGTH(time_units), "s", 1e9},
    {gcu_units, ARRAY_LENGTH(gcu_units), "GCU", 1},
};

/* Finds the unit that `name` means in any case, singular or plural; NULL when it is none of them.
 */
static const struct unit *unit_find(const struct unit_family *family, const char *name)
{
    char lower[UNIT_MAX_NAME_BYTES];
    size_t num_bytes = strlen(name);

    if (num_bytes == 0 || num_bytes >= sizeof(lower))
        return NULL;
    for (size_t i = 0; i <= num_bytes; i++)
        lower[i] = (char)tolower((unsigned char)name[i]);
    /* "ms" and "us" are no plurals. */
    if (num_bytes > 2 && lower[num_bytes - 1] == 's')
        lower[num_bytes - 1] = '\0';
    for (size_t i = 0; i < family->num_units; i++)
        for (size_t j = 0; j < UNIT_MAX_ALIASES && family->units[i].aliases[j]; j++)
            if (strcmp(lower, family->units[i].aliases[j]) == 0)
                return &family->units[i];
    return NULL;
}

/* The largest unit in which the value is at least 1; NULL when it is below all of them. */
static const struct unit *unit_largest(const struct unit_family *family, double value)
{
    const struct unit *largest = NULL;

    for (size_t i = 0; i < family->num_units; i++)
        if (value / family->units[i].factor >= 1.0)
            largest = &family->units[i];
    return largest;
}

static bool is_auto(const char *unit)
{
    return strcmp(unit, "auto") == 0 || strcmp(unit, "minimum") == 0;
}

/* Does the conversion when from_unit belongs to the family. Returns: the unit, or NULL. */
static const char *unit_scale_in(const struct unit_family *family, int64_t value,
                                 const char *from_unit, const char *to_unit, double *scaled_ret)
{
    const struct unit *from = unit_find(family, from_unit);
    const struct unit *to;
    double base_value;

    if (!from)
        return NULL;
    base_value = (double)value * from->factor;
    to = is_auto(to_unit) ? unit_largest(family, base_value) : unit_find(family, to_unit);
    *scaled_ret = base_value / (to ? to->factor : family->default_factor);
    return to ? to->name : family->default_name;
}

const char *unit_scale(int64_t value, const char *from_unit, const char *to_unit,
                       double *scaled_ret)
{
    static const char *const dull_units[] = {"count", "sample", "unit", "minimum", "auto"};

    if (value < 0 && value != INT64_MIN) {
        const char *unit = unit_scale(-value, from_unit, to_unit, scaled_ret);

        *scaled_ret = -*scaled_ret;
        return unit;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(unit_families); i++) {
        const char *unit = unit_scale_in(&unit_families[i], value, from_unit, to_unit, scaled_ret);

        if (unit)
            return unit;
    }
    *scaled_ret = (double)value;
    for (size_t i = 0; i < ARRAY_LENGTH(dull_units); i++)
        if (strcmp(to_unit, dull_units[i]) == 0)
            return "";
    return to_unit;
}

void unit_format(int64_t value, const char *from_unit, const char *to_unit, char *text,
                 size_t text_bytes)
{
    char number[UNIT_VALUE_BYTES];
    double scaled;
    const char *unit = unit_scale(value, from_unit, to_unit, &scaled);
    int num_bytes = snprintf(number, sizeof(number), "%.2f", scaled);

    if (num_bytes >= 3 && strcmp(number + num_bytes - 3, ".00") == 0)
        number[num_bytes - 3] = '\0';
    if (strcmp(number, "0") == 0 || strcmp(number, "-0") == 0)
        snprintf(text, text_bytes, "0");
    else
        snprintf(text, text_bytes, "%s%s", number, unit);
}

void unit_format_percent(int64_t value, int64_t total, char text[UNIT_PERCENT_BYTES])
{
    double percent = total != 0 ? fabs((double)value / (double)total) * 100 : 0;

    if (percent >= 99.95 && percent <= 100.05)
        snprintf(text, UNIT_PERCENT_BYTES, "  100%%");
    else if (percent >= 1.0)
        snprintf(text, UNIT_PERCENT_BYTES, "%5.2f%%", percent);
    else
        snprintf(text, UNIT_PERCENT_BYTES, "%5.2g%%", percent);
}
