/* A program that knows what it has allocated and what is in use, by function:
 * heap-NAME [ROUNDS [UNIT]].
 *
 * It obeys one command a line on stdin and answers with one line of JSON.
 *
 * go: does the work ROUNDS times, each below a function of its own (round_00, ...).
 *
 * free: frees all that it kept.
 *
 * fork: goes on in a child, which counts from zero; the parent waits for its end.
 *
 * end, or the end of stdin: ends without freeing anything.
 *
 * Sizes are fractions and multiples of UNIT bytes. Nothing here uses stdio, or allocates but for
 * what is counted. Threads: account_*() from any; the rest from the main thread.
 */
#ifndef WORKLOADS_HEAP_TRUTH_H
#define WORKLOADS_HEAP_TRUTH_H

#include <stdarg.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "truth.h"

#define MAX_FUNCTIONS 32
#define MAX_ROUNDS 20
#define MAX_KEPT 200000

/* What one function has allocated. */
struct account {
    const char *function;
    uint64_t num_allocs, alloc_bytes, num_live, live_bytes;
};

struct kept {
    struct account *account;
    void *block;
    uint64_t bytes;
    void (*release)(void *);
};

static struct account accounts[MAX_FUNCTIONS];
static struct kept kept[MAX_KEPT];
static uint64_t num_kept, round_bytes[MAX_ROUNDS], unit_bytes = 2048;
static uint32_t size_seed = 20;
static int num_accounts, round_now;
static __thread int is_main; /* what other threads allocate is not below the function of a round */
static char answer[16384];
static size_t answer_length;

/* The account of a function, made when it is new. Any thread may ask. */
static struct account *account_open(const char *function)
{
    static volatile char is_busy;
    int i = 0;
    while (__atomic_test_and_set(&is_busy, __ATOMIC_ACQUIRE))
        ;
    while (i < num_accounts && strcmp(accounts[i].function, function) != 0)
        i++;
    if (i == MAX_FUNCTIONS)
        _exit(10);
    accounts[i].function = function;
    num_accounts = i < num_accounts ? num_accounts : i + 1;
    __atomic_clear(&is_busy, __ATOMIC_RELEASE);
    return &accounts[i];
}

#define ACCOUNT(function)                    \
    (__extension__({                         \
        static struct account *volatile own; \
        if (!own)                            \
            own = account_open(#function);   \
        own;                                 \
    }))

/* An allocation, or a realloc that gave this block. */
static void account_alloc(struct account *account, uint64_t bytes)
{
    __atomic_fetch_add(&account->num_allocs, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&account->alloc_bytes, bytes, __ATOMIC_RELAXED);
}

/* A block that stays until `free`. */
static void account_keep(struct account *account, void *block, uint64_t bytes,
                         void (*release)(void *))
{
    uint64_t place = __atomic_fetch_add(&num_kept, 1, __ATOMIC_RELAXED);
    if (!block || place >= MAX_KEPT)
        _exit(11);
    kept[place].account = account;
    kept[place].block = block;
    kept[place].bytes = bytes;
    kept[place].release = release;
    __atomic_fetch_add(&account->num_live, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&account->live_bytes, bytes, __ATOMIC_RELAXED);
    if (is_main)
        round_bytes[round_now] += bytes;
}

/* A size of so many sixteenths of UNIT, at least 1. Any thread may ask. */
static uint64_t size_between(uint64_t low, uint64_t high)
{
    uint32_t seed = __atomic_add_fetch(&size_seed, 0x9e3779b9u, __ATOMIC_RELAXED);
    uint64_t range = (high - low) * unit_bytes / 16 + 1;
    uint64_t bytes = low * unit_bytes / 16 + burn_rounds(seed, 3, 5) % range;
    return bytes ? bytes : 1;
}

/* Lets whoever reads the samples keep up, and others run. */
static void breathe(void)
{
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
}

static void answer_add(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void answer_add(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    answer_length +=
        (size_t)vsnprintf(answer + answer_length, sizeof(answer) - answer_length, format, values);
    va_end(values);
}

static void answer_sums(int num_rounds)
{
    answer_length = 0;
    answer_add("{\"pid\": %d, \"rounds\": {", (int)getpid());
    for (int i = 0; i < num_rounds; i++)
        answer_add("%s\"round_%02d\": %llu", i ? ", " : "", i, (unsigned long long)round_bytes[i]);
    answer_add("}, \"functions\": {");
    for (int i = 0; i < num_accounts; i++)
        answer_add("%s\"%s\": {\"num_allocs\": %llu, \"alloc_bytes\": %llu, \"num_live\": %llu, "
                   "\"live_bytes\": %llu}",
                   i ? ", " : "", accounts[i].function, (unsigned long long)accounts[i].num_allocs,
                   (unsigned long long)accounts[i].alloc_bytes,
                   (unsigned long long)accounts[i].num_live,
                   (unsigned long long)accounts[i].live_bytes);
    answer_add("}}\n");
    if (write(1, answer, answer_length) != (ssize_t)answer_length)
        _exit(12);
}

static void free_all(void)
{
    for (uint64_t i = 0; i < num_kept; i++) {
        kept[i].release(kept[i].block);
        kept[i].account->num_live--;
        kept[i].account->live_bytes -= kept[i].bytes;
    }
    num_kept = 0;
    memset(round_bytes, 0, sizeof(round_bytes));
}

/* The child counts from zero; what it inherited stays as it is. */
static void go_on_in_child(void)
{
    pid_t child = fork();
    if (child < 0)
        _exit(13);
    if (child > 0) {
        int status = -1;
        while (waitpid(child, &status, 0) < 0)
            ;
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 14);
    }
    num_kept = 0;
    memset(round_bytes, 0, sizeof(round_bytes));
    for (int i = 0; i < num_accounts; i++) {
        const char *function = accounts[i].function;
        memset(&accounts[i], 0, sizeof(accounts[i]));
        accounts[i].function = function;
    }
}

/* Gives a line of stdin without its end; false at the end of stdin. */
static int next_command(char *line, size_t size)
{
    for (size_t length = 0; length < size - 1; length++) {
        if (read(0, line + length, 1) != 1)
            return 0;
        if (line[length] == '\n') {
            line[length] = '\0';
            return 1;
        }
    }
    return 0;
}

static void do_round(void); /* the program's own work, once */

#define ROUND(number)               \
    APART void round_##number(void) \
    {                               \
        do_round();                 \
    }                               \
    void round_##number(void)
ROUND(00);
ROUND(01);
ROUND(02);
ROUND(03);
ROUND(04);
ROUND(05);
ROUND(06);
ROUND(07);
ROUND(08);
ROUND(09);
ROUND(10);
ROUND(11);
ROUND(12);
ROUND(13);
ROUND(14);
ROUND(15);
ROUND(16);
ROUND(17);
ROUND(18);
ROUND(19);

static void (*const rounds[MAX_ROUNDS])(void) = {
    round_00, round_01, round_02, round_03, round_04, round_05, round_06,
    round_07, round_08, round_09, round_10, round_11, round_12, round_13,
    round_14, round_15, round_16, round_17, round_18, round_19,
};

/* The main function of each of these programs. */
static int obey(int argc, char **argv)
{
    int num_rounds = (int)argument(argc, argv, 1, MAX_ROUNDS);
    char line[32];
    is_main = 1;
    unit_bytes = (uint64_t)argument(argc, argv, 2, 2048);
    if (num_rounds < 1 || num_rounds > MAX_ROUNDS)
        return 2;
    if (write(1, "ready\n", 6) != 6)
        return 12;
    while (next_command(line, sizeof(line)) && strcmp(line, "end") != 0) {
        if (strcmp(line, "go") == 0)
            for (round_now = 0; round_now < num_rounds; round_now++)
                rounds[round_now]();
        else if (strcmp(line, "free") == 0)
            free_all();
        else if (strcmp(line, "fork") == 0)
            go_on_in_child();
        else
            return 15;
        answer_sums(num_rounds);
    }
    _exit(0);
}

#endif
