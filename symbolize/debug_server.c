#include "symbolize/debug_server.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define LIBRARY "libdebuginfod.so.1"
#define URLS "DEBUGINFOD_URLS"

/* debuginfod_client of elfutils/debuginfod.h: the package with that header is not needed to build,
 * nor the library to run. */
struct client;

typedef int find_fn(struct client *client, const unsigned char *build_id, int build_id_bytes,
                    char **path_ret);

struct debug_server {
    void *library;
    struct client *(*begin)(void);
    find_fn *find_debuginfo;
    find_fn *find_executable;
    void (*set_progressfn)(struct client *client, int (*progress)(struct client *, long, long));
    void (*end)(struct client *client);
    struct client *client;
    symbolize_fetch_fn *progress;
    void *context;
    const char *name; /* of what is being fetched */
    uint64_t deadline_ns;
    struct symbolize_fetches counts;
    bool is_stopped; /* by progress, or the time is up */
};

static struct error *load_library(void **library_ret)
{
    const char *urls = getenv(URLS);
    void *library;

    if (!urls || !urls[strspn(urls, " ")])
        return error_create(ERROR_USAGE,
                            "name a server: export " URLS "=https://debuginfod.debian.net",
                            "--debuginfod: no server is set (" URLS ")");
    library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return error_create(ERROR_UNSUPPORTED, "apt-get install libdebuginfod1",
                            "--debuginfod needs " LIBRARY ", which is not installed");
    *library_ret = library;
    return NULL;
}

struct error *debug_server_check(void)
{
    void *library;

    RETURN_IF_ERROR(load_library(&library));
    /* Not closed: curl's libraries do not all survive that (debuginfod_begin(3), NOTES). */
    return NULL;
}

/* POSIX wants function pointers copied out of dlsym's result (dlsym(3)). */
static bool find_function(struct debug_server *server, const char *name, void *function_ret)
{
    void *symbol = dlsym(server->library, name);

    memcpy(function_ret, &symbol, sizeof(symbol));
    return symbol != NULL;
}

static bool find_functions(struct debug_server *server)
{
    return find_function(server, "debuginfod_begin", &server->begin) &&
           find_function(server, "debuginfod_find_debuginfo", &server->find_debuginfo) &&
           find_function(server, "debuginfod_find_executable", &server->find_executable) &&
           find_function(server, "debuginfod_set_progressfn", &server->set_progressfn) &&
           find_function(server, "debuginfod_end", &server->end);
}

/* The callback is not told for whom it is called. Set while a fetch runs; there is one thread. */
static struct debug_server *fetching;

/* Called about once a second while connecting, more often while bytes come. Returns: 0 to go on. */
static int on_progress(struct client *client UNUSED, long num_bytes, long total_bytes)
{
    struct debug_server *server = fetching;

    server->is_stopped = server->deadline_ns && clock_monotonic_ns() >= server->deadline_ns;
    if (!server->is_stopped && server->progress &&
        !server->progress(server->context, server->name, num_bytes > 0 ? (uint64_t)num_bytes : 0,
                          total_bytes > 0 ? (uint64_t)total_bytes : 0))
        server->is_stopped = true;
    return server->is_stopped;
}

struct error *debug_server_open(symbolize_fetch_fn *progress, void *context, uint64_t deadline_ns,
                                struct debug_server **server_ret)
{
    CLEANUP(debug_server_close) struct debug_server *server = calloc(1, sizeof(*server));

    if (!server)
        return &error_no_memory;
    server->progress = progress;
    server->context = context;
    server->deadline_ns = deadline_ns;
    RETURN_IF_ERROR(load_library(&server->library));
    if (!find_functions(server))
        return error_create(ERROR_UNSUPPORTED, "apt-get install libdebuginfod1",
                            "--debuginfod: " LIBRARY " is not what it says");
    server->client = server->begin();
    if (!server->client)
        return &error_no_memory;
    server->set_progressfn(server->client, on_progress);
    *server_ret = take_ptr(server);
    return NULL;
}

void debug_server_close(struct debug_server *server)
{
    if (!server)
        return;
    if (server->client)
        server->end(server->client);
    free(server);
}

int debug_server_fetch(struct debug_server *server, enum debug_server_kind kind,
                       const uint8_t *build_id, size_t build_id_bytes, const char *name)
{
    bool is_executable = kind == DEBUG_SERVER_EXECUTABLE;
    find_fn *find = is_executable ? server->find_executable : server->find_debuginfo;
    struct stat status;
    char *path = NULL;
    int fd;

    if (build_id_bytes == 0 || build_id_bytes > INT32_MAX || server->is_stopped)
        return -1;
    if (server->deadline_ns && clock_monotonic_ns() >= server->deadline_ns)
        return -1;
    server->name = name;
    fetching = server;
    fd = find(server->client, build_id, (int)build_id_bytes, &path);
    fetching = NULL;
    free(path);
    if (fd < 0) {
        log_info("%s: no server gave its %s: %s", name, is_executable ? "executable" : "debug file",
                 server->is_stopped ? "stopped" : strerror(-fd));
        server->counts.num_missing += !is_executable; /* once for each build-id */
        return -1;
    }
    server->counts.num_files++;
    server->counts.num_missing -= is_executable;
    if (fstat(fd, &status) == 0)
        server->counts.num_bytes += (uint64_t)status.st_size;
    return fd;
}

void debug_server_counts(const struct debug_server *server, struct symbolize_fetches *counts_ret)
{
    *counts_ret = server->counts;
    counts_ret->is_stopped = server->is_stopped;
}
