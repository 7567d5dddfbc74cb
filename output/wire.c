#include "output/wire.h"

bool wire_varint(struct wire_cursor *cursor, uint64_t *value_ret)
{
    uint64_t value = 0;

    for (unsigned int shift = 0; shift < 64; shift += 7) {
        uint8_t byte;

        if (cursor->next == cursor->limit)
            return false;
        byte = *cursor->next++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value_ret = value;
            return true;
        }
    }
    return false;
}

/* Steps over `num_bytes` bytes. Returns: false when there are not that many. */
static bool wire_skip(struct wire_cursor *cursor, uint64_t num_bytes)
{
    if (num_bytes > (uint64_t)(cursor->limit - cursor->next))
        return false;
    cursor->next += num_bytes;
    return true;
}

enum wire_status wire_next(struct wire_cursor *cursor, struct wire_field *field_ret)
{
    struct wire_field field = {0};
    uint64_t tag;
    uint64_t num_bytes;

    if (cursor->next == cursor->limit)
        return WIRE_END;
    if (!wire_varint(cursor, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX >> 3)
        return WIRE_BROKEN;
    field.number = (uint32_t)(tag >> 3);
    switch (tag & 7) {
    case WIRE_VARINT:
        if (!wire_varint(cursor, &field.value))
            return WIRE_BROKEN;
        break;
    case WIRE_FIXED64:
        if (!wire_skip(cursor, 8))
            return WIRE_BROKEN;
        break;
    case WIRE_FIXED32:
        if (!wire_skip(cursor, 4))
            return WIRE_BROKEN;
        break;
    case WIRE_BYTES:
        if (!wire_varint(cursor, &num_bytes))
            return WIRE_BROKEN;
        field.bytes = cursor->next;
        if (!wire_skip(cursor, num_bytes))
            return WIRE_BROKEN;
        field.num_bytes = (size_t)num_bytes;
        break;
    default: /* groups are not used by any known profile, and proto3 has none */
        return WIRE_BROKEN;
    }
    field.type = (enum wire_type)(tag & 7);
    *field_ret = field;
    return WIRE_FIELD;
}

size_t wire_put_varint(uint8_t *bytes, uint64_t value)
{
    size_t num_bytes = 0;

    while (value >= 0x80) {
        bytes[num_bytes++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[num_bytes++] = (uint8_t)value;
    return num_bytes;
}

size_t wire_put_tag(uint8_t *bytes, uint32_t number, enum wire_type type, uint64_t value)
{
    bytes[0] = (uint8_t)(number << 3 | type);
    return 1 + wire_put_varint(bytes + 1, value);
}
