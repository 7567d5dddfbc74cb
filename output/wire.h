/* Walking over the fields of one encoded protobuf message, without decoding what is inside them;
 * and the few pieces that putting one together takes.
 *
 * Bytes are hostile: lengths are checked before anything is looked at.
 * Not a decoder of messages (generated code does that). Ownership: everything is borrowed.
 * Threads: none. Source: protobuf documentation, "Encoding".
 */
#ifndef OUTPUT_WIRE_H
#define OUTPUT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;       /* WIRE_VARINT */
    const uint8_t *bytes; /* WIRE_BYTES: the contents */
    size_t num_bytes;
};

struct wire_cursor {
    const uint8_t *next;
    const uint8_t *limit;
};

enum wire_status { WIRE_FIELD, WIRE_END, WIRE_BROKEN };

/* Steps to the next field. field_ret: written when WIRE_FIELD is returned.
 * Returns: WIRE_END behind the last one, WIRE_BROKEN when the bytes are no protobuf message. */
enum wire_status wire_next(struct wire_cursor *cursor, struct wire_field *field_ret);

/* Reads one varint, as in a packed field. value_ret: written when true is returned.
 * Returns: false when the bytes end or it is longer than 10 bytes. */
bool wire_varint(struct wire_cursor *cursor, uint64_t *value_ret);

#define WIRE_MAX_VARINT_BYTES 10

/* Encodes a varint. bytes: room for WIRE_MAX_VARINT_BYTES. Returns: how many were written. */
size_t wire_put_varint(uint8_t *bytes, uint64_t value);

/* Encodes a field's tag and what follows it, a varint: its value (WIRE_VARINT) or the length of its
 * contents (WIRE_BYTES). number: < 16. bytes: room for 1 + WIRE_MAX_VARINT_BYTES.
 * Returns: how many were written. */
size_t wire_put_tag(uint8_t *bytes, uint32_t number, enum wire_type type, uint64_t value);

#endif
