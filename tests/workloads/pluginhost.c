/* Loads plugin.so (beside itself) again and again and burns in it: pluginhost [SECONDS [LOADS]]. */
#include <dlfcn.h>
#include <libgen.h>
#include <unistd.h>

#include "truth.h"

APART uint64_t call_plugin(uint64_t (*entry)(uint64_t, long), uint64_t x, uint64_t budget_ns)
{
    uint32_t seed = 19;
    uint64_t start = thread_cpu_ns();
    while (thread_cpu_ns() - start < budget_ns)
        x = entry(x, 20000 + (long)(next_random(&seed) % 40000));
    return x;
}

int main(int argc, char **argv)
{
    char path[4096] = "";
    if (readlink("/proc/self/exe", path, sizeof(path) - 20) < 0)
        return 3;
    strcat(dirname(path), "/plugin.so");
    long loads = (long)argument(argc, argv, 2, 3);
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9 / (double)loads), x = 1;
    for (long i = 0; i < loads; i++) {
        void *plugin = dlopen(path, RTLD_NOW);
        uint64_t (*entry)(uint64_t, long) =
            plugin ? (uint64_t(*)(uint64_t, long))dlsym(plugin, "plugin_entry") : NULL;
        if (!entry)
            return 4;
        x = call_plugin(entry, x, budget_ns);
        dlclose(plugin);
    }
    truth_begin(x);
    truth_end();
    return 0;
}
