/* A module of redis-server that leaks: `leak.touch` answers 1 and loses a block now and then. The
 * few declarations of the module interface are written out here. Source: the "Redis modules API"
 * manual (redis.io). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define APART __attribute__((noipa))

typedef int command_fn(void *context, void **words, int num_words);

static int (*reply_with_number)(void *context, long long number);
void *volatile lost;

APART void leak_here(size_t size)
{
    char *block = malloc(size);
    if (block)
        memset(block, 1, size);
    lost = block;
}

/* What is given back is no leak. */
APART void use_and_free(size_t size)
{
    char *block = malloc(size);
    if (block)
        memset(block, 2, size);
    lost = block;
    free(block);
}

static int touch(void *context, void **words, int num_words)
{
    (void)words, (void)num_words;
    leak_here(700);
    use_and_free(3000);
    return reply_with_number(context, 1);
}

__attribute__((visibility("default"))) int RedisModule_OnLoad(void *context, void **words,
                                                              int num_words)
{
    int (*get)(const char *, void *);
    void (*set_attributes)(void *, const char *, int, int);
    int (*create)(void *, const char *, command_fn *, const char *, int, int, int);
    (void)words, (void)num_words;
    memcpy(&get, context, sizeof(get));
    if (get("RedisModule_SetModuleAttribs", &set_attributes) != 0 ||
        get("RedisModule_CreateCommand", &create) != 0 ||
        get("RedisModule_ReplyWithLongLong", &reply_with_number) != 0)
        return 1;
    set_attributes(context, "leak", 1, 1);
    return create(context, "leak.touch", touch, "fast", 0, 0, 0);
}
