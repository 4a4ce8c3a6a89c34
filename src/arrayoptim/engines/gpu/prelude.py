"""The prelude of every kernel: conversions between memory and registers, and the rules' functions.

The source uses nothing that only one compiler has, but for the macros of the first lines. So a host
compiler takes it too, with definitions of its own, and produces the same bits. A kernel is a
sequence of phases; in each, every thread of a block does its part. A host compiler turns a phase
into a loop over threads, so no value passes from one phase to the next in a register.
"""

from __future__ import annotations

from ...numerics.sums import BLOCK, LANES, RUN

__all__ = ["CHUNK", "PRELUDE", "THREADS"]

THREADS = BLOCK // RUN * LANES
"""Threads per block: one for each lane of each run in a sum."""

CHUNK = 8192
"""Elements per block of a sweep."""

PRELUDE = (
    f"""
#ifndef FUNCTION
#define FUNCTION __device__ __forceinline__
#define KERNEL extern "C" __global__ void __launch_bounds__({THREADS})
#define EACH_THREAD(t) for (int t = threadIdx.x, once = 1; once; once = 0)
#endif
#define THREADS {THREADS}
#define CHUNK {CHUNK}
#define BLOCK {BLOCK}
#define RUN {RUN}
#define LANES {LANES}
"""
    + r"""
typedef long long whole;

struct half_bits { unsigned short bits; };
struct bfloat_bits { unsigned short bits; };
struct plain_code { unsigned char bits; };
struct signed_code { unsigned char bits; };

template <typename T, int V> struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Pack {
    T x[V];
};

FUNCTION float widened(half_bits x) {
    const unsigned magnitude = (x.bits & 0x7FFFu) << 13;
    // 2^112 moves the exponent, of subnormal numbers too.
    const float scaled = __uint_as_float(magnitude) * __uint_as_float(0x77800000u);
    const unsigned bits = magnitude >= 0x0F800000u ? magnitude | 0x7F800000u
                                                   : __float_as_uint(scaled);
    return __uint_as_float(bits | (x.bits & 0x8000u) << 16);
}
FUNCTION float widened(bfloat_bits x) { return __uint_as_float((unsigned)x.bits << 16); }
FUNCTION float widened(float x) { return x; }
FUNCTION double widened(double x) { return x; }

// To the nearest, ties to even; NaN stays NaN.
FUNCTION void narrow(float x, half_bits &y) {
    const unsigned sign = __float_as_uint(x) & 0x80000000u, bits = __float_as_uint(x) ^ sign;
    unsigned half;
    if (bits >= 0x47800000u) {
        half = bits > 0x7F800000u ? 0x7E00u | (bits >> 13 & 0x3FFu) : 0x7C00u;
    } else if (bits < 0x38800000u) {
        // Adding 0.5 leaves the digits of a subnormal half in the lowest bits.
        half = __float_as_uint(__uint_as_float(bits) + 0.5f) - 0x3F000000u;
    } else {
        half = (bits + 0xC8000FFFu + (bits >> 13 & 1u)) >> 13;
    }
    y.bits = (unsigned short)(half | sign >> 16);
}
FUNCTION void narrow(float x, bfloat_bits &y) {
    const unsigned bits = __float_as_uint(x);
    const unsigned rounded = x != x ? bits | 0x7FC00000u : bits + 0x7FFFu + (bits >> 16 & 1u);
    y.bits = (unsigned short)(rounded >> 16);
}
FUNCTION void narrow(float x, float &y) { y = x; }
FUNCTION void narrow(double x, double &y) { y = x; }
FUNCTION void narrow(double x, float &y) { y = (float)x; }
FUNCTION void narrow(double x, bfloat_bits &y) { narrow((float)x, y); }

// Codes of 8 bits count from a base that a group shares; see the module that specifies them.
FUNCTION float decoded(plain_code x, int base) {
    return __uint_as_float(((unsigned)x.bits + (unsigned)base) << 20);
}
FUNCTION float decoded(signed_code x, int base) {
    const float top = __uint_as_float(((x.bits & 0x7Fu) + (unsigned)base) << 20);
    const float size = top - __uint_as_float((unsigned)base << 20);
    return __uint_as_float(__float_as_uint(size) | (x.bits & 0x80u) << 24);
}
FUNCTION unsigned magnitude(float x) {
    const unsigned bits = __float_as_uint(x) & 0x7FFFFFFFu;
    return bits < 0x7F800000u ? bits : 0x7F800000u;
}
FUNCTION int base_of(unsigned largest, int code) {
    const int base = (int)(largest >> 20) - code;
    return base > 0 ? base : 0;
}
FUNCTION void encode(float x, int base, unsigned chance, plain_code &y) {
    const int code = (int)((magnitude(x) + (chance << 4)) >> 20) - base;
    y.bits = (unsigned char)(code > 0 ? code : 0);
}
FUNCTION void encode(float x, int base, unsigned chance, signed_code &y) {
    const float size = __uint_as_float(magnitude(x)) + __uint_as_float((unsigned)base << 20);
    const unsigned code = ((__float_as_uint(size) + (chance << 4)) >> 20) - (unsigned)base;
    y.bits = (unsigned char)(code | (__float_as_uint(x) & 0x80000000u) >> 24);
}

FUNCTION float xp_abs(float x) { return fabsf(x); }
FUNCTION double xp_abs(double x) { return fabs(x); }
FUNCTION float xp_sqrt(float x) { return sqrtf(x); }
FUNCTION double xp_sqrt(double x) { return sqrt(x); }
FUNCTION float xp_copysign(float x, float y) { return copysignf(x, y); }
FUNCTION double xp_copysign(double x, double y) { return copysign(x, y); }
template <typename T> FUNCTION T xp_square(T x) { return x * x; }
template <typename T> FUNCTION T xp_sign(T x) {
    return x != x ? x : x == (T)0 ? (T)0 : xp_copysign((T)1, x);
}
// NaN propagates; for +0 and -0 the second operand is returned.
template <typename T> FUNCTION T xp_maximum(T x, T y) {
    return x != x ? x : x > y ? x : y;
}
template <typename T> FUNCTION T xp_minimum(T x, T y) {
    return x != x ? x : x < y ? x : y;
}
template <typename T> FUNCTION T xp_where(bool condition, T x, T y) {
    return condition ? x : y;
}

FUNCTION double clip_factor(double norm, double bound) {
    return bound > 0.0 && norm >= bound ? bound / norm : 1.0;
}
FUNCTION double clipped_alone(double scale, double norm, double bound) {
    return scale * clip_factor(norm * scale, bound);
}
"""
)
