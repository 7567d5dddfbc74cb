#include <libiberty/demangle.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "symbolize/symbolize.h"

#define DEMANGLE_MAX_INPUT_BYTES 4096
#define DEMANGLE_MAX_OUTPUT_BYTES 16384
/* Nested template argument lists, packs and substitutions: libiberty's time grows with the product
 * of depth and back references, so that a few hundred bytes of hostile symbol could take minutes.
 */
#define DEMANGLE_MAX_NESTING 512

struct demangle_output {
    char *text; /* DEMANGLE_MAX_OUTPUT_BYTES */
    size_t num_bytes;
    jmp_buf overflow;
};

/* libiberty offers no way to stop: substitutions double the output, 200 bytes can print for years.
 * Neither of the two demanglers called here holds memory while it prints, so leaving by longjmp is
 * clean (libiberty cp-demangle.c, rust-demangle.c). */
static void output_append(const char *text, size_t num_bytes, void *context)
{
    struct demangle_output *output = context;

    if (num_bytes >= DEMANGLE_MAX_OUTPUT_BYTES - output->num_bytes)
        longjmp(output->overflow, 1);
    if (num_bytes > 0) /* text may be NULL then */
        memcpy(output->text + output->num_bytes, text, num_bytes);
    output->num_bytes += num_bytes;
}

/* Counts what opens a nested construct in the Itanium and Rust v0 manglings. */
static bool nests_too_deep(const char *symbol)
{
    size_t num_openers = 0;

    for (const char *at = symbol; *at; at++)
        num_openers += *at == 'I' || *at == 'N' || *at == 'J' || *at == 'X' || *at == 'B';
    return num_openers > DEMANGLE_MAX_NESTING;
}

/* Tells whether a Rust v0 symbol says of a function or trait type ("F", "D") that it binds
 * thousands of lifetimes ("G" and a number with 62 digits, then "_"): libiberty counts them one by
 * one, and where it prints none of them, as in the path of an implementation, nothing ever stops
 * it. Real types bind a handful. */
static bool binds_too_many(const char *symbol)
{
    for (const char *at = strchr(symbol, 'G'); at; at = strchr(at + 1, 'G')) {
        size_t num_digits = strspn(at + 1, "0123456789abcdefghijklmnopqrstuvwxyz"
                                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ");

        if (at != symbol && (at[-1] == 'F' || at[-1] == 'D') && num_digits > 2 &&
            at[1 + num_digits] == '_')
            return true;
    }
    return false;
}

/* Without DMGL_PARAMS both drop parameters, return type and clone suffixes and keep template
 * arguments: the form in which pprof itself shows names. */
static bool demangle_into(const char *symbol, struct demangle_output *output)
{
    if (setjmp(output->overflow))
        return false;
    if (!binds_too_many(symbol) && rust_demangle_callback(symbol, 0, output_append, output) &&
        output->num_bytes > 0)
        return true;
    output->num_bytes = 0;
    if (symbol[0] != '_' || symbol[1] != 'Z')
        return false;
    return cplus_demangle_v3_callback(symbol, 0, output_append, output) && output->num_bytes > 0;
}

/* D: no callback variant exists; its output is linear in the input (back references are bounded by
 * the length limit). Parameters follow the name in parentheses. */
static const char *demangle_d(struct arena *arena, const char *symbol)
{
    CLEANUP(free) char *text = dlang_demangle(symbol, 0);
    size_t length;

    if (!text)
        return symbol;
    length = strcspn(text, "(");
    return arena_copy(arena, text, length > 0 ? length : strlen(text));
}

/* Tells whether a symbol can be mangled at all; saves parsing plain C names. */
static bool looks_mangled(const char *symbol)
{
    if (symbol[0] != '_')
        return false;
    /* _Z C++ and Rust legacy, _R Rust v0, ___Z clang blocks, _D D. */
    return symbol[1] == 'Z' || symbol[1] == 'R' || symbol[1] == 'D' || !strncmp(symbol, "___Z", 4);
}

static bool is_one_of(const char *text, size_t length, const char *const *known, size_t num_known)
{
    for (size_t i = 0; i < num_known; i++) {
        if (strlen(known[i]) == length && !memcmp(text, known[i], length))
            return true;
    }
    return false;
}

/* Tells whether `suffix` is one that compilers add to clones of a function (gcc, LTO, llvm).
 * numbered: whether a number followed it, as in ".part.0". */
static bool is_clone_suffix(const char *suffix, size_t length, bool numbered)
{
    static const char *const alone[] = {"cold",       "hot", "warm",   "unlikely",
                                        "localalias", "cfi", "cfi_jt", "resolver"};
    static const char *const with_number[] = {"constprop", "part",  "isra",     "lto_priv",
                                              "llvm",      "clone", "simdclone"};

    if (strspn(suffix, "0123456789") >= length)
        return length > 0 && !numbered;
    return is_one_of(suffix, length, alone, ARRAY_LENGTH(alone)) ||
           (numbered && is_one_of(suffix, length, with_number, ARRAY_LENGTH(with_number)));
}

/* Length of `symbol` without ".part.0.cold"-like suffixes and "@@VERSION". */
static size_t length_without_suffixes(const char *symbol)
{
    const char *at = strchr(symbol, '@');
    size_t length = at && at != symbol ? (size_t)(at - symbol) : strlen(symbol);
    bool numbered = false;

    while (length > 0) {
        size_t dot = length;

        while (dot > 0 && symbol[dot - 1] != '.')
            dot--;
        if (dot <= 1 || !is_clone_suffix(symbol + dot, length - dot, numbered))
            break;
        numbered = symbol[dot] >= '0' && symbol[dot] <= '9';
        length = dot - 1;
    }
    return length;
}

const char *symbol_demangle(struct arena *arena, const char *symbol)
{
    char text[DEMANGLE_MAX_OUTPUT_BYTES];
    struct demangle_output output = {.text = text};
    size_t num_bytes = strnlen(symbol, DEMANGLE_MAX_INPUT_BYTES + 1);
    size_t kept;

    if (num_bytes == 0 || num_bytes > DEMANGLE_MAX_INPUT_BYTES)
        return symbol;
    if (looks_mangled(symbol) && !nests_too_deep(symbol)) {
        const char *from =
            symbol[1] == '_' ? symbol + 2 : symbol; /* a block: name of its function */

        if (symbol[1] == 'D')
            return demangle_d(arena, symbol);
        if (demangle_into(from, &output))
            return arena_copy(arena, text, output.num_bytes);
    }
    kept = length_without_suffixes(symbol);
    if (kept == num_bytes)
        return symbol;
    return arena_copy(arena, symbol, kept);
}
