/* How far it is to the next sample: the gap of a Poisson process, in integers.
 *
 * -ln(u) * rate for a uniform u of 32 bits. Compiled for the kernel, where there is no floating
 * point, and for us, so that its mean is tested. Threads: pure. Source: docs/adr/0023;
 * logarithm by repeated squaring, Knuth, The Art of Computer Programming 1.2.2 exercise 28 and
 * 4.1 (binary logarithm digit by digit).
 */
#ifndef SAMPLER_BPF_HEAP_GAP_H
#define SAMPLER_BPF_HEAP_GAP_H

#include <linux/types.h>

#define HEAP_GAP_LOG_BITS 20       /* binary digits behind the point of a logarithm */
#define HEAP_GAP_LN2 2977044472ull /* ln 2 * 2^32 */
#define HEAP_GAP_MAX_RATE_BYTES (1ull << 34)

/* Tells log2(value) * 2^HEAP_GAP_LOG_BITS, rounded down. value: 1..2^33. */
static inline __attribute__((always_inline)) __u64 heap_gap_log2(__u64 value)
{
    __u64 log = 0;
    __u64 scaled = value;

    /* The integer part: how far to the left the first binary digit lies. */
    for (int shift = 32; shift > 0; shift /= 2) {
        if (scaled >> shift) {
            scaled >>= shift;
            log += (__u64)shift;
        }
    }
    /* The value as 1.x with 31 binary digits: each squaring tells one digit of its logarithm. */
    scaled = value << (63 - log) >> 32;
    for (int i = 0; i < HEAP_GAP_LOG_BITS; i++) {
        scaled = scaled * scaled >> 31;
        log <<= 1;
        if (scaled >> 32) {
            scaled >>= 1;
            log |= 1;
        }
    }
    return log;
}

/* Tells the bytes up to the next sample: exponentially distributed, on average `rate`.
 * random: 32 random bits. rate: 0..HEAP_GAP_MAX_RATE_BYTES. */
static inline __attribute__((always_inline)) __u64 heap_gap(__u32 random, __u64 rate)
{
    /* The middle of one of 2^32 intervals, so that it is never 0: an odd number below 2^33. */
    __u64 log = heap_gap_log2((__u64)random << 1 | 1);
    __u64 minus_log = (33ull << HEAP_GAP_LOG_BITS) - log; /* of base 2, 26 bits */
    __u64 minus_ln = minus_log * HEAP_GAP_LN2 >> 32;

    return minus_ln * rate >> HEAP_GAP_LOG_BITS;
}

#endif
