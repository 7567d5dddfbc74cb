/* Makes allocations of the test binary fail, one at a time: "every allocation fails once in turn".
 *
 *     for (unsigned long fail_at = 1;; fail_at++) {
 *         alloc_fault_arm(fail_at);
 *         err = the_work();
 *         if (!alloc_fault_disarm())
 *             break;                     the work now needs fewer allocations than that: done
 *         err must be NULL or out of memory, and nothing may leak or be half done
 *     }
 *
 * Include it in exactly one file of a binary: it defines malloc, calloc and realloc, which glibc's
 * own callers (strdup, asprintf, opendir) then use, too. Under a sanitizer, which has its own
 * malloc, it defines nothing and alloc_fault_is_possible() says so. Source: glibc manual,
 * "Replacing malloc".
 */
#ifndef TESTS_UNIT_ALLOC_FAULT_H
#define TESTS_UNIT_ALLOC_FAULT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "base/error.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ALLOC_FAULT_POSSIBLE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define ALLOC_FAULT_POSSIBLE 0
#endif
#endif
#ifndef ALLOC_FAULT_POSSIBLE
#define ALLOC_FAULT_POSSIBLE 1
#endif

static unsigned long alloc_fault_at; /* 0: none fails */
static unsigned long alloc_fault_num;
static long alloc_fault_balance; /* blocks handed out and not freed, since arm */

/* Tells whether this build can inject failures. */
static inline UNUSED bool alloc_fault_is_possible(void)
{
    return ALLOC_FAULT_POSSIBLE;
}

/* From now on the allocation number `fail_at` (1..) fails; ULONG_MAX only counts. */
static inline UNUSED void alloc_fault_arm(unsigned long fail_at)
{
    alloc_fault_num = 0;
    alloc_fault_balance = 0;
    alloc_fault_at = fail_at;
}

/* Ends it. Returns: whether an allocation was made to fail. */
static inline UNUSED bool alloc_fault_disarm(void)
{
    bool has_failed = alloc_fault_at && alloc_fault_num >= alloc_fault_at;

    alloc_fault_at = 0;
    return has_failed;
}

/* Tells how many allocations were asked for since alloc_fault_arm(). */
static inline UNUSED unsigned long alloc_fault_count(void)
{
    return alloc_fault_num;
}

/* Tells how many blocks were allocated and not freed between arm and disarm. */
static inline UNUSED long alloc_fault_leaks(void)
{
    return alloc_fault_balance;
}

/* Runs `work` with each of its allocations failing in turn, until it needs fewer: then it must
 * succeed. Where one fails it may end with any error; work that is there already may make it do
 * without. Returns: how often it ended with an error. */
static inline UNUSED unsigned long alloc_fault_each(struct error *(*work)(void *context),
                                                    void *context)
{
    unsigned long num = 0;

    for (unsigned long fail_at = 1; fail_at < 10000; fail_at++) {
        struct error *err;

        alloc_fault_arm(fail_at);
        err = work(context);
        if (!alloc_fault_disarm()) {
            assert_null(err);
            return num;
        }
        num += err != NULL;
        if (err)
            assert_true(err == &error_no_memory || err->kind != ERROR_NO_MEMORY);
        error_destroy(err);
    }
    fail_msg("after %lu failures the work is not done", num);
    return num;
}

#if ALLOC_FAULT_POSSIBLE
void *__libc_malloc(size_t num_bytes);
void *__libc_calloc(size_t num_items, size_t item_bytes);
void *__libc_realloc(void *memory, size_t num_bytes);
void __libc_free(void *memory);

static bool alloc_fault_hits(void)
{
    if (!alloc_fault_at || ++alloc_fault_num != alloc_fault_at)
        return false;
    errno = ENOMEM;
    return true;
}

static void *alloc_fault_counted(void *memory)
{
    if (memory && alloc_fault_at)
        alloc_fault_balance++;
    return memory;
}

void *malloc(size_t num_bytes)
{
    return alloc_fault_hits() ? NULL : alloc_fault_counted(__libc_malloc(num_bytes));
}

void *calloc(size_t num_items, size_t item_bytes)
{
    return alloc_fault_hits() ? NULL : alloc_fault_counted(__libc_calloc(num_items, item_bytes));
}

void *realloc(void *memory, size_t num_bytes)
{
    if (alloc_fault_hits())
        return NULL;
    void *moved = __libc_realloc(memory, num_bytes);
    return memory ? moved : alloc_fault_counted(moved);
}

void free(void *memory)
{
    if (memory && alloc_fault_at)
        alloc_fault_balance--;
    __libc_free(memory);
}
#endif

#endif
