/* Compiler attributes used all over the program.
 *
 * Not a place for helpers with code in them.
 * Source: GCC manual, "Common Function Attributes"; clang understands all of them.
 */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

/* The caller must look at the returned value (every `struct error *`, every status bool). */
#define MUST_CHECK __attribute__((warn_unused_result))
/* printf-like: argument number of the format, number of the first variadic argument. */
#define PRINTF_LIKE(format_arg, first_arg) __attribute__((format(printf, format_arg, first_arg)))
#define UNUSED __attribute__((unused))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

#endif
