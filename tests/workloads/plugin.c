/* A shared object that is loaded while the program runs (see pluginhost.c). */
#include "truth.h"

APART uint64_t burn_in_plugin(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 65536);
}

__attribute__((visibility("default"))) APART uint64_t plugin_entry(uint64_t x, long rounds)
{
    return burn_in_plugin(x, rounds) + 1;
}
