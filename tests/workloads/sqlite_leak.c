/* SQLite under load, with an SQL function that leaks at each call: sqlite-leak [SECONDS]. Prints
 * how much was lost. The declarations are those of sqlite3.h, written out: the header is in another
 * package. */
#include "truth.h"

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_context sqlite3_context;
typedef struct sqlite3_value sqlite3_value;
int sqlite3_open(const char *name, sqlite3 **db);
int sqlite3_exec(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **),
                 void *context, char **message);
int sqlite3_create_function(sqlite3 *db, const char *name, int num_arguments, int encoding,
                            void *context,
                            void (*function)(sqlite3_context *, int, sqlite3_value **),
                            void (*step)(sqlite3_context *, int, sqlite3_value **),
                            void (*last)(sqlite3_context *));
int sqlite3_value_int(sqlite3_value *value);
void sqlite3_result_int(sqlite3_context *context, int value);

#define UTF8 1

static uint64_t lost_bytes;
static void *volatile lost;

APART void leak_here(int number)
{
    size_t size = 200 + (size_t)(number % 400);
    char *block = malloc(size);
    memset(block, 1, size);
    lost = block;
    lost_bytes += size;
}

static void touch(sqlite3_context *context, int num_values, sqlite3_value **values)
{
    (void)num_values;
    int number = sqlite3_value_int(values[0]);
    leak_here(number);
    sqlite3_result_int(context, number % 7);
}

APART int do_load(sqlite3 *db)
{
    return sqlite3_exec(
        db,
        "create table t(a integer primary key, b text);"
        "with recursive c(i) as (select 0 union all select i+1 from c where i < 3000)"
        " insert into t select i, printf('%s-%d', hex(i), i) from c;"
        "select b, touch(a) from t where a % 10 = 3 order by substr(b, 3) desc;"
        "drop table t;",
        NULL, NULL, NULL);
}

int main(int argc, char **argv)
{
    uint64_t end_ns = clock_now_ns(CLOCK_MONOTONIC) + (uint64_t)(argument(argc, argv, 1, 3) * 1e9);
    sqlite3 *db;
    if (sqlite3_open(":memory:", &db) != 0 ||
        sqlite3_create_function(db, "touch", 1, UTF8, NULL, touch, NULL, NULL) != 0)
        return 3;
    while (clock_now_ns(CLOCK_MONOTONIC) < end_ns)
        if (do_load(db) != 0)
            return 4;
    truth_begin(0);
    truth_number("lost_bytes", lost_bytes);
    truth_end();
    return 0;
}
