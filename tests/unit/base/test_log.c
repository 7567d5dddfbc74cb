/* Notes reach the sink up to its level, one line each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"

static char last_line[4096];
static int num_lines;

static void sink(enum log_level level, const char *line)
{
    (void)level;
    num_lines++;
    size_t length = strlen(line);
    assert_true(length < sizeof(last_line));
    memcpy(last_line, line, length + 1);
}

static void nothing_happens_without_a_sink(void **state)
{
    (void)state;
    log_set_sink(NULL, LOG_DEBUG);
    log_warning("%s", "into the void");
}

static void level_decides(void **state)
{
    (void)state;
    num_lines = 0;
    log_set_sink(sink, LOG_INFO);
    log_debug("no");
    assert_int_equal(num_lines, 0);
    log_info("n %d", 1);
    log_warning("w");
    assert_int_equal(num_lines, 2);
    log_set_sink(NULL, LOG_WARNING);
}

static void a_note_is_one_line_of_at_most_a_kilobyte(void **state)
{
    char text[3000];

    (void)state;
    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_set_sink(sink, LOG_DEBUG);
    log_debug("a\nb\033%s", text);
    assert_int_equal(strlen(last_line), 1023);
    assert_memory_equal(last_line, "a?b?yyy", 7);
    log_set_sink(NULL, LOG_WARNING);
}

int main(void)
{
    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_happens_without_a_sink),
        cmocka_unit_test(level_decides),
        cmocka_unit_test(a_note_is_one_line_of_at_most_a_kilobyte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
