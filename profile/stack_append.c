#include "base/array.h"
#include "profile/stack_table.h"

#include <string.h>

/* Ids are 32 bits. */
#define MAX_ROWS ((size_t)UINT32_MAX - 1)

static struct error *rows_reserve(void *rows, size_t *capacity, size_t num_rows, size_t num_more,
                                  size_t row_bytes)
{
    if (num_more > MAX_ROWS - num_rows)
        return &error_no_memory;
    return array_reserve(rows, capacity, num_rows + num_more, row_bytes);
}

struct error *stack_table_append_mapping(struct stack_table *table, const struct mapping *mapping,
                                         uint32_t *mapping_ret)
{
    RETURN_IF_ERROR(rows_reserve(&table->mappings, &table->mappings_capacity, table->num_mappings,
                                 1, sizeof(*table->mappings)));
    table->mappings[table->num_mappings++] = *mapping;
    *mapping_ret = (uint32_t)table->num_mappings;
    return NULL;
}

struct error *stack_table_append_location(struct stack_table *table, const struct frame_key *key,
                                          uint32_t *location_ret)
{
    RETURN_IF_ERROR(rows_reserve(&table->locations, &table->locations_capacity,
                                 table->num_locations, 1, sizeof(*table->locations)));
    *location_ret = (uint32_t)table->num_locations;
    table->locations[table->num_locations++] = (struct location){.key = *key};
    return NULL;
}

struct error *stack_table_append_stack(struct stack_table *table, const uint32_t *locations,
                                       size_t num_locations, uint32_t *stack_ret)
{
    RETURN_IF_ERROR(rows_reserve(&table->stack_locations, &table->stack_locations_capacity,
                                 table->num_stack_locations, num_locations,
                                 sizeof(*table->stack_locations)));
    RETURN_IF_ERROR(rows_reserve(&table->stacks, &table->stacks_capacity, table->num_stacks, 1,
                                 sizeof(*table->stacks)));
    if (num_locations > 0)
        memcpy(table->stack_locations + table->num_stack_locations, locations,
               num_locations * sizeof(*locations));
    *stack_ret = (uint32_t)table->num_stacks;
    table->stacks[table->num_stacks++] = (struct stack){
        .first = (uint32_t)table->num_stack_locations,
        .num_locations = (uint32_t)num_locations,
    };
    table->num_stack_locations += num_locations;
    return NULL;
}
