/* Skipping a test with a reason, which the runner shows next to its name. */
#ifndef TESTS_UNIT_SKIP_H
#define TESTS_UNIT_SKIP_H

/* Ends the test as skipped. reason: what is missing here. */
#define SKIP(reason)                              \
    do {                                          \
        print_message("# skipped: %s\n", reason); \
        skip();                                   \
    } while (0)

#endif
