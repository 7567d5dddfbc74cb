/* split_files_find() on programs built here, and dwp_index on bytes made here. */
#include <dwarf.h>
#include <elfutils/libdw.h>

#include "symbolize/dwp_index.h"
#include "symbolize/split_files.h"
#include "tests/unit/symbolize/fixture.h"

static int setup(void **state)
{
    if (fixture_setup(state) != 0)
        return -1;
    fixture_write("one.c", "int two(int);\nstatic inline int add(int a) { return a * 3; }\n"
                           "int one(int a) { return add(two(a)) + 1; }\n");
    fixture_write("two.c", "struct s { int x; };\nint two(int a) { struct s s = {a}; "
                           "return s.x + 2; }\n");
    return 0;
}

/* The skeletons of a file: what split_files_find() is asked for. */
struct skeletons {
    struct split_request requests[8];
    size_t num;
};

static void read_skeletons(Dwarf *dwarf, struct skeletons *skeletons)
{
    Dwarf_CU *cu = NULL;
    Dwarf_Die die;
    uint8_t type;

    skeletons->num = 0;
    while (skeletons->num < 8 && dwarf_get_units(dwarf, cu, &cu, NULL, &type, &die, NULL) == 0) {
        struct split_request *request = &skeletons->requests[skeletons->num];
        Dwarf_Attribute attr;

        if (type != DW_UT_skeleton)
            continue;
        assert_int_equal(dwarf_cu_info(cu, NULL, NULL, NULL, NULL, &request->dwo_id, NULL, NULL),
                         0);
        request->comp_dir = dwarf_formstring(dwarf_attr(&die, DW_AT_comp_dir, &attr));
        request->name = dwarf_formstring(dwarf_attr(&die, DW_AT_dwo_name, &attr));
        if (!request->name)
            request->name = dwarf_formstring(dwarf_attr(&die, DW_AT_GNU_dwo_name, &attr));
        skeletons->num++;
    }
}

/* Looks for all split units of `program`. Each that is found must have sections with its strings.
 * Returns: how many were found. */
static size_t count_found(const char *program, const char *debug_dir, uint64_t id_change)
{
    struct fixture fixture;
    struct debug_files *files = NULL;
    struct split_files *split = NULL;
    struct skeletons skeletons;
    struct dwarf_budget budget;
    size_t num_found = 0;
    Dwarf *dwarf;

    fixture_open(&fixture, program);
    assert_null(debug_files_open(fixture.module, debug_dir, &files));
    assert_null(debug_files_load_dwarf(files));
    assert_non_null(files->dwarf);
    dwarf = dwarf_begin_elf(files->dwarf, DWARF_C_READ, NULL);
    assert_non_null(dwarf);
    read_skeletons(dwarf, &skeletons);
    assert_int_equal(skeletons.num, 2);
    dwarf_budget_init(&budget, DEBUG_FILES_MAX_BYTES, 0);
    assert_null(split_files_create(files, &budget, &split));
    for (size_t i = 0; i < skeletons.num; i++) {
        struct split_unit unit = {0};
        bool is_found;

        skeletons.requests[i].dwo_id ^= id_change;
        assert_null(split_files_find(split, &skeletons.requests[i], &unit, &is_found));
        if (!is_found)
            continue;
        num_found++;
        assert_true(unit.unit_off < unit.sections[SPLIT_INFO].num_bytes);
        assert_true(unit.sections[SPLIT_ABBREV].num_bytes > 0);
        assert_true(unit.sections[SPLIT_STR_OFFSETS].num_bytes > 0);
        /* The producer's string is in there: reads every byte of it. */
        assert_non_null(memmem(unit.sections[SPLIT_STR].bytes, unit.sections[SPLIT_STR].num_bytes,
                               "GNU C17", 7));
    }
    split_files_destroy(split);
    dwarf_end(dwarf);
    debug_files_close(files);
    fixture_close(&fixture);
    return num_found;
}

static void build(const char *version)
{
    char command[256];

    snprintf(command, sizeof(command),
             "rm -rf *.dwo *.dwp obj moved dirs; "
             "gcc -O2 -g %s -gsplit-dwarf -fPIC -shared one.c two.c -o split.so",
             version);
    fixture_build(command);
}

static void split_files_are_found_where_they_were_made_or_moved_to(void **state)
{
    static const char *const versions[] = {"-gdwarf-4", "-gdwarf-5", "-gdwarf-5 -gz=zlib"};
    char debug_dir[160];

    (void)state;
    snprintf(debug_dir, sizeof(debug_dir), "/nonexistent:%s/dirs/", fixture_dir);
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        build(versions[i]);
        assert_int_equal(count_found("split.so", NULL, 0), 2);
        /* Another unit of the same name: not taken. */
        assert_int_equal(count_found("split.so", NULL, 1), 0);
        /* Moved beside the program. */
        fixture_build("mkdir moved && mv *.dwo split.so moved/");
        assert_int_equal(count_found("moved/split.so", NULL, 0), 2);
        /* Moved to a debug directory. */
        fixture_build("mkdir dirs && mv moved/*.dwo dirs/");
        assert_int_equal(count_found("moved/split.so", NULL, 0), 0);
        assert_int_equal(count_found("moved/split.so", debug_dir, 0), 2);
    }
}

static void packages_are_read(void **state)
{
    static const struct {
        const char *version, *tool;
    } kinds[] = {{"-gdwarf-4", "dwp"}, {"-gdwarf-5", "llvm-dwp-14"}};
    char debug_dir[160];
    char command[256];

    (void)state;
    snprintf(debug_dir, sizeof(debug_dir), "%s/dirs", fixture_dir);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        build(kinds[i].version);
        snprintf(command, sizeof(command), "%s -e split.so -o split.so.dwp && rm *.dwo",
                 kinds[i].tool);
        fixture_build(command);
        assert_int_equal(count_found("split.so", NULL, 0), 2);
        assert_int_equal(count_found("split.so", NULL, 0xff0000), 0);
        fixture_build("cp split.so split.so.debug"); /* the package is that of split.so */
        assert_int_equal(count_found("split.so.debug", NULL, 0), 2);
        fixture_build("mkdir dirs && mv split.so.dwp dirs/");
        assert_int_equal(count_found("split.so", NULL, 0), 0);
        assert_int_equal(count_found("split.so", debug_dir, 0), 2);
        /* Cut off: the parts that are left out are not read. */
        fixture_build("truncate -s 300 dirs/split.so.dwp");
        assert_int_equal(count_found("split.so", debug_dir, 0), 0);
    }
}

/* What is no regular file is not opened: a FIFO would block, a device may do things. */
static void other_kinds_of_files_are_left_alone(void **state)
{
    (void)state;
    build("-gdwarf-5");
    fixture_build("for f in *.dwo; do mv $f kept.$f; mkfifo $f; done");
    assert_int_equal(count_found("split.so", NULL, 0), 0);
    fixture_build("for f in kept.*; do rm ${f#kept.}; ln -s $f ${f#kept.}; done");
    assert_int_equal(count_found("split.so", NULL, 0), 2);
}

/* A table of 2 slots, 1 unit and the columns info and abbrev. */
struct small_index {
    uint32_t version, num_columns, num_units, num_slots;
    uint64_t ids[2];
    uint32_t rows[2];
    uint32_t columns[2];
    uint32_t offsets[2];
    uint32_t sizes[2];
};

static const struct small_index sample = {
    .version = 2,
    .num_columns = 2,
    .num_units = 1,
    .num_slots = 2,
    .ids = {0, 0x1234567800000001},
    .rows = {0, 1},
    .columns = {1, 3},
    .offsets = {16, 32},
    .sizes = {100, 200},
};

static bool find(const struct small_index *bytes, size_t num_bytes, uint64_t id,
                 struct dwp_range *ranges)
{
    struct dwp_index index;

    return dwp_index_parse((const uint8_t *)bytes, num_bytes, &index) &&
           dwp_index_find(&index, id, ranges);
}

static void index_tells_ranges_by_id(void **state)
{
    struct dwp_range ranges[SPLIT_NUM_SECTIONS];
    struct small_index index = sample;

    (void)state;
    assert_true(find(&index, sizeof(index), 0x1234567800000001, ranges));
    assert_int_equal(ranges[SPLIT_INFO].off, 16);
    assert_int_equal(ranges[SPLIT_INFO].num_bytes, 100);
    assert_int_equal(ranges[SPLIT_ABBREV].off, 32);
    assert_int_equal(ranges[SPLIT_ABBREV].num_bytes, 200);
    assert_int_equal(ranges[SPLIT_RNGLISTS].num_bytes, 0);
    assert_false(find(&index, sizeof(index), 0x1234567800000003, ranges));
}

static void damaged_index_is_refused(void **state)
{
    struct dwp_range ranges[SPLIT_NUM_SECTIONS];
    uint64_t id = sample.ids[1];
    struct small_index index = sample;

    (void)state;
    for (size_t num_bytes = 0; num_bytes < sizeof(index); num_bytes++)
        assert_false(find(&index, num_bytes, id, ranges));
    index.version = 3;
    assert_false(find(&index, sizeof(index), id, ranges));
    index = sample;
    index.num_slots = 0;
    assert_false(find(&index, sizeof(index), id, ranges));
    index = sample;
    index.num_slots = 0x80000000;
    assert_false(find(&index, sizeof(index), id, ranges));
    index = sample;
    index.rows[1] = 2; /* no such row */
    assert_false(find(&index, sizeof(index), id, ranges));
    index = sample; /* no free slot to stop at */
    index.rows[0] = 1;
    assert_false(find(&index, sizeof(index), id + 2, ranges));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_files_are_found_where_they_were_made_or_moved_to),
        cmocka_unit_test(packages_are_read),
        cmocka_unit_test(other_kinds_of_files_are_left_alone),
        cmocka_unit_test(index_tells_ranges_by_id),
        cmocka_unit_test(damaged_index_is_refused),
    };

    if (getenv("TAP"))
        cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
