/* What stands behind -e: names, aliases, modifiers, tracepoints, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/perf_event.h>

#include "sampler/event_spec.h"

static struct event_spec spec;

static void accepts(const char *text, const char *name, const char *sample_type)
{
    struct error *err = event_spec_parse(text, &spec);

    if (err)
        fail_msg("%s: %s", text, err->message);
    assert_string_equal(spec.name, name);
    assert_string_equal(spec.sample_type, sample_type);
}

static void refuses(const char *text, const char *message, const char *hint)
{
    struct error *err = event_spec_parse(text, &spec);

    if (!err)
        fail_msg("'%s' was accepted", text);
    assert_int_equal(err->kind, ERROR_USAGE);
    if (!strstr(err->message, message))
        fail_msg("'%s' instead of '%s'", err->message, message);
    if (!err->hint || !strstr(err->hint, hint))
        fail_msg("'%s' instead of '%s'", err->hint ? err->hint : "", hint);
    error_destroy(err);
}

static void knows_the_default(void **state)
{
    (void)state;
    accepts("cpu-clock", "cpu-clock", "cpu");
    assert_memory_equal(&spec, &event_spec_cpu_clock, sizeof(spec));
    assert_string_equal(event_spec_unit(&spec), "nanoseconds");
}

static void knows_names_and_aliases(void **state)
{
    (void)state;
    accepts("faults", "page-faults", "page_faults");
    assert_int_equal(spec.perf_type, PERF_TYPE_SOFTWARE);
    assert_int_equal(spec.perf_config, PERF_COUNT_SW_PAGE_FAULTS);
    assert_string_equal(event_spec_unit(&spec), "count");
    accepts("cs", "context-switches", "context_switches");
    assert_true(spec.fires_in_kernel);
    accepts("cpu-cycles", "cycles", "cycles");
    assert_int_equal(spec.class, EVENT_CLASS_HARDWARE);
    accepts("task-clock", "task-clock", "cpu");
    event_spec_sample_type_of_name(&spec);
    assert_string_equal(spec.sample_type, "task_clock");
}

static void knows_caches_and_raw_counters(void **state)
{
    (void)state;
    accepts("L1-dcache-load-misses", "L1-dcache-load-misses", "L1_dcache_load_misses");
    assert_int_equal(spec.perf_type, PERF_TYPE_HW_CACHE);
    assert_int_equal(spec.perf_config, PERF_COUNT_HW_CACHE_RESULT_MISS << 16);
    accepts("dTLB-stores", "dTLB-stores", "dTLB_stores");
    assert_int_equal(spec.perf_config,
                     PERF_COUNT_HW_CACHE_DTLB | PERF_COUNT_HW_CACHE_OP_WRITE << 8);
    accepts("r01c2", "r01c2", "r01c2");
    assert_int_equal(spec.perf_type, PERF_TYPE_RAW);
    assert_int_equal(spec.perf_config, 0x1c2);
    accepts("rffffffffffffffff", "rffffffffffffffff", "rffffffffffffffff");
    assert_true(spec.perf_config == UINT64_MAX);
    refuses("r", "no event 'r'", "-e list");
    refuses("rfffffffffffffffff", "no event", "-e");
    refuses("rxyz", "no event", "-e");
}

static void reads_modifiers(void **state)
{
    (void)state;
    accepts("cycles:u", "cycles:u", "cycles_u");
    assert_true(spec.exclude_kernel && !spec.exclude_user);
    accepts("page-faults:k", "page-faults:k", "page_faults_k");
    assert_true(spec.exclude_user && !spec.exclude_kernel);
    accepts("cycles:uk", "cycles", "cycles");
    assert_false(spec.exclude_user || spec.exclude_kernel);
    accepts("cpu-clock:u", "cpu-clock:u", "cpu");
    refuses("cycles:pp", "no modifier 'pp'", "u (user mode only)");
    refuses("cycles:", "no modifier ''", "modifiers");
    refuses("cycles:u:k", "no modifier 'u:k'", "modifiers");
    refuses("context-switches:u", "happens in kernel mode only", "leave out");
    refuses("sched:sched_switch:u", "happens in kernel mode only", "leave out");
    accepts("sched:sched_switch:k", "sched:sched_switch:k", "sched_switch_k");
}

static void reads_tracepoints(void **state)
{
    (void)state;
    accepts("tracepoint:sched:sched_switch", "sched:sched_switch", "sched_switch");
    assert_string_equal(spec.subsystem, "sched");
    assert_string_equal(spec.tracepoint, "sched_switch");
    assert_int_equal(spec.class, EVENT_CLASS_TRACEPOINT);
    accepts("syscalls:sys_enter_getppid", "syscalls:sys_enter_getppid", "sys_enter_getppid");
    accepts("a.b:c-d", "a.b:c-d", "c_d");
    event_spec_sample_type_of_name(&spec);
    assert_string_equal(spec.sample_type, "a_b_c_d");
    refuses("syscalls:*", "takes no patterns", "its own -e");
    refuses("../..:etc", "can't be a tracepoint", "type for example");
    refuses("sched:a/b", "can't be a tracepoint", "type for example");
    refuses("sched:", "can't be a tracepoint", "type for example");
    refuses("tracepoint:sched", "no event 'sched'", "SUBSYSTEM:NAME");
    refuses("tracepoint::", "can't be a tracepoint", "type for example");
}

static void proposes_what_is_near(void **state)
{
    char text[1000];

    (void)state;
    refuses("pgae-faults", "no event 'pgae-faults'", "did you mean -e page-faults?");
    refuses("context", "no event", "did you mean -e context-switches?");
    refuses("zzzzzz", "no event", "-e list");
    refuses("", "no event ''", "-e list");
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    refuses(text, "too long", "-e list");
    text[100] = ':';
    text[180] = '\0';
    refuses(text, "can't be a tracepoint", "type for example");
}

static void every_listed_event_is_accepted_by_its_name_and_alias(void **state)
{
    struct event_spec listed;
    const char *alias;
    const char *help;
    size_t num_events = 0;

    (void)state;
    for (; event_spec_at(num_events, &listed, &alias, &help); num_events++) {
        assert_null(event_spec_parse(listed.name, &spec));
        assert_memory_equal(&spec, &listed, sizeof(spec));
        if (!alias)
            continue;
        assert_null(event_spec_parse(alias, &spec));
        assert_memory_equal(&spec, &listed, sizeof(spec));
    }
    assert_int_equal(num_events, 18 + 7 * 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_the_default),
        cmocka_unit_test(knows_names_and_aliases),
        cmocka_unit_test(knows_caches_and_raw_counters),
        cmocka_unit_test(reads_modifiers),
        cmocka_unit_test(reads_tracepoints),
        cmocka_unit_test(proposes_what_is_near),
        cmocka_unit_test(every_listed_event_is_accepted_by_its_name_and_alias),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
