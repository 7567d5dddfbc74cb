// Exceptions through five frames, all day long: throwcatch [SECONDS].
#include <stdexcept>
#include <string>

#include "truth.h"

namespace weather
{
struct Storm : std::runtime_error {
    uint64_t strength;
    explicit Storm(uint64_t x) : std::runtime_error("storm"), strength(x) {}
};

struct Guard {
    uint64_t *counter;
    ~Guard() { ++*counter; }
};

static uint64_t cleaned;

APART uint64_t burn_before_throw(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 4096);
}

APART uint64_t burn_after_catch(uint64_t x, long rounds)
{
    return burn_rounds(x, rounds, 8192);
}

template <int Level> APART uint64_t climb(uint64_t x, long rounds)
{
    Guard guard{&cleaned};
    return climb<Level - 1>(x, rounds) + Level;
}

template <> APART uint64_t climb<0>(uint64_t x, long rounds)
{
    x = burn_before_throw(x, rounds);
    if (x != 1)
        throw Storm(x);
    return x;
}

APART uint64_t try_once(uint64_t x, long rounds)
{
    try {
        return climb<5>(x, rounds);
    } catch (const Storm &storm) {
        return burn_after_catch(storm.strength, rounds);
    }
}
} // namespace weather

int main(int argc, char **argv)
{
    uint64_t budget_ns = (uint64_t)(argument(argc, argv, 1, 2) * 1e9), start = thread_cpu_ns(), x = 1, rounds = 0;
    uint32_t seed = 13;
    for (; thread_cpu_ns() - start < budget_ns; rounds++)
        x = weather::try_once(x, 500 + (long)(next_random(&seed) % 2000));
    truth_begin(x);
    truth_number("throws", rounds);
    truth_number("cleaned", weather::cleaned);
    truth_end();
    return 0;
}
