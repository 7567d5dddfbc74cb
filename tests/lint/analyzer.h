/* What the clang 14 analyser can't know: a made error is never NULL (base/error.h says so).
 *
 * Included before each file that tests/lint/test_tools.py gives to clang-tidy, never by the
 * program.
 */
#ifndef TESTS_LINT_ANALYZER_H
#define TESTS_LINT_ANALYZER_H

#include "base/error.h"

#define never_null(made)                    \
    ({                                      \
        struct error *never_null_ = (made); \
        if (!never_null_)                   \
            __builtin_unreachable();        \
        never_null_;                        \
    })
#define error_create(...) never_null(error_create(__VA_ARGS__))
#define error_from_errno(...) never_null(error_from_errno(__VA_ARGS__))

#endif
