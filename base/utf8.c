#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/string_table.h"

/* U+FFFD in UTF-8. */
static const char replacement[] = "\xef\xbf\xbd";
#define REPLACEMENT_BYTES (sizeof(replacement) - 1)

static bool is_between(unsigned char byte, unsigned char low, unsigned char high)
{
    return byte >= low && byte <= high;
}

/* Tells the length of the well-formed character at `s`, 0 when there is none. Reads no byte behind
 * a NUL: each test fails on it. Unicode 15 table 3-7. */
static size_t utf8_char_bytes(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    if (is_between(s[0], 0xc2, 0xdf))
        return is_between(s[1], 0x80, 0xbf) ? 2 : 0;
    if (is_between(s[0], 0xe0, 0xef)) {
        unsigned char low = s[0] == 0xe0 ? 0xa0 : 0x80;  /* no overlong forms */
        unsigned char high = s[0] == 0xed ? 0x9f : 0xbf; /* no surrogates */
        return is_between(s[1], low, high) && is_between(s[2], 0x80, 0xbf) ? 3 : 0;
    }
    if (is_between(s[0], 0xf0, 0xf4)) {
        unsigned char low = s[0] == 0xf0 ? 0x90 : 0x80;  /* no overlong forms */
        unsigned char high = s[0] == 0xf4 ? 0x8f : 0xbf; /* nothing above U+10FFFF */
        return is_between(s[1], low, high) && is_between(s[2], 0x80, 0xbf) &&
                       is_between(s[3], 0x80, 0xbf)
                   ? 4
                   : 0;
    }
    return 0;
}

/* C0, DEL and C1 (U+0080..U+009F: terminals act on them, too). */
static bool utf8_is_control(const unsigned char *s, size_t num_bytes)
{
    if (num_bytes == 1)
        return s[0] < 0x20 || s[0] == 0x7f;
    return num_bytes == 2 && s[0] == 0xc2 && s[1] < 0xa0;
}

struct error *utf8_sanitize(const char *string, char **copy_ret)
{
    size_t length = string ? strlen(string) : 0;
    if (length > PTRDIFF_MAX / REPLACEMENT_BYTES - 1)
        return &error_no_memory;
    char *copy = malloc(length * REPLACEMENT_BYTES + 1);
    if (!copy)
        return &error_no_memory;

    char *out = copy;
    const unsigned char *next = (const unsigned char *)string;
    const unsigned char *limit = next + length;
    while (next < limit) {
        size_t num_bytes = utf8_char_bytes(next);
        if (num_bytes && !utf8_is_control(next, num_bytes)) {
            memcpy(out, next, num_bytes);
            out += num_bytes;
            next += num_bytes;
        } else {
            memcpy(out, replacement, REPLACEMENT_BYTES);
            out += REPLACEMENT_BYTES;
            next += num_bytes ? num_bytes : 1;
        }
    }
    *out = '\0';
    *copy_ret = copy;
    return NULL;
}
