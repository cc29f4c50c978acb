/* Vectors of W floats, and the few functions on them that a GRU needs; W is set by the target processor.
 *
 * Arithmetic is written with the compiler's vector extensions (GCC and Clang), so one source gives AVX-512, AVX2,
 * SSE2 and NEON code. Only what the extensions cannot say (loads and stores of a part of a vector, a fast
 * reciprocal) has a version per instruction set.
 */
#ifndef GATELAB_VECTOR_H
#define GATELAB_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define W 16
#if defined(__AVX512BF16__)
#define ISA_NAME "avx512_bf16"
#else
#define ISA_NAME "avx512"
#endif
#elif defined(__AVX2__)
#include <immintrin.h>
#define W 8
#define ISA_NAME "avx2"
#else
#ifndef W /* the tests give 16: then the paths of AVX-512 run on any processor, in the compiler's own vectors */
#define W 4
#endif
#define ISA_NAME "portable"
#endif

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

typedef int64_t idx;
typedef float vec __attribute__((vector_size(4 * W)));
typedef int32_t ivec __attribute__((vector_size(4 * W)));
typedef float loose_vec __attribute__((vector_size(4 * W), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const loose_vec *)p; }
INLINE void store(float *p, vec v) { *(loose_vec *)p = v; }
INLINE vec all(float a) { return a - (vec){0}; }
INLINE idx min_idx(idx a, idx b) { return a < b ? a : b; }

/* How many of a vector's lanes lie inside a row of `left` more floats, in the form loads and stores want it. */
#if defined(__AVX512F__)
typedef __mmask16 lanes;
INLINE lanes lanes_of(idx left) { return left >= W ? (lanes)0xFFFF : (lanes)((1u << (left < 0 ? 0 : left)) - 1); }
INLINE vec load_part(const float *p, lanes n) { return (vec)_mm512_maskz_loadu_ps(n, p); }
INLINE void store_part(float *p, lanes n, vec v) { _mm512_mask_storeu_ps(p, n, (__m512)v); }
#else
typedef idx lanes;
INLINE lanes lanes_of(idx left) { return left >= W ? W : (left < 0 ? 0 : left); }
#if defined(__AVX2__)
INLINE __m256i mask_of(lanes n) {
    const __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), at);
}
INLINE vec load_part(const float *p, lanes n) { return n == W ? load(p) : (vec)_mm256_maskload_ps(p, mask_of(n)); }
INLINE void store_part(float *p, lanes n, vec v) {
    if (n == W)
        store(p, v);
    else
        _mm256_maskstore_ps(p, mask_of(n), (__m256)v);
}
#else
INLINE vec load_part(const float *p, lanes n) {
    vec v = {0};
    if (n == W)
        return load(p);
    for (idx i = 0; i < n; i++)
        v[i] = p[i];
    return v;
}
INLINE void store_part(float *p, lanes n, vec v) {
    if (n == W)
        store(p, v);
    else
        for (idx i = 0; i < n; i++)
            p[i] = v[i];
}
#endif
#endif

/* BF16 is the upper half of a float. A pair is two of them in a lane, the first in the lower half. */
typedef uint32_t uvec __attribute__((vector_size(4 * W)));
typedef int32_t loose_int __attribute__((may_alias));

/* The nearest BF16 of each float; a NaN stays one. */
INLINE uvec bf16_of(vec a) {
#if defined(__AVX512BF16__)
    return (uvec)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)a)), 16);
#else
    uvec bits = (uvec)a, nan = (uvec)(a != a), rounded = bits + 0x7FFF + (bits >> 16 & 1);
    return ((nan & (bits | 0x400000)) | (~nan & rounded)) & 0xFFFF0000;
#endif
}

INLINE vec pair_of(vec first, vec second) { return (vec)(bf16_of(first) >> 16 | bf16_of(second)); }

/* `count` floats to pairs of neighbours; of an odd number the last one's second is 0. */
INLINE void to_pairs(const float *from, idx count, float *to) {
    for (idx i = 0; i < count; i += 2 * W) {
        vec a = load_part(from + i, lanes_of(count - i)), b = load_part(from + i + W, lanes_of(count - i - W));
#if defined(__AVX512BF16__)
        vec pairs = (vec)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
#else
        vec pairs;
        for (int j = 0; j < W / 2; j++) {
            pairs[j] = pair_of(all(a[2 * j]), all(a[2 * j + 1]))[0];
            pairs[j + W / 2] = pair_of(all(b[2 * j]), all(b[2 * j + 1]))[0];
        }
#endif
        store_part(to + i / 2, lanes_of((count - i + 1) / 2), pairs);
    }
}

/* The pair at p in every lane. */
INLINE vec all_pairs(const float *p) { return (vec)(*(const loose_int *)p - (ivec){0}); }

/* sum + a's first halves times b's + a's second halves times b's */
INLINE vec add_pairs(vec sum, vec a, vec b) {
#if defined(__AVX512BF16__)
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    vec first = (vec)((uvec)a << 16) * (vec)((uvec)b << 16);
    return sum + first + (vec)((uvec)a & 0xFFFF0000) * (vec)((uvec)b & 0xFFFF0000);
#endif
}

/* 1/a for a >= 1: never infinite here, so Newton's step is safe. */
INLINE vec reciprocal(vec a) {
#if defined(__AVX512F__)
    vec guess = (vec)_mm512_rcp14_ps((__m512)a); /* 14 bits; one step doubles them */
    return guess + guess * (1.0f - a * guess);
#else
    return 1.0f / a;
#endif
}

/* a limited to [-limit, limit]; a NaN stays one, because it compares false. */
INLINE vec clamp(vec a, float limit) {
    ivec high = a > all(limit), low = a < all(-limit);
    ivec inside = (ivec)a & ~(high | low);
    return (vec)(inside | (high & (ivec)all(limit)) | (low & (ivec)all(-limit)));
}

/* exp(a) = scale * (1 + rest) with scale a power of two, for |a| <= 87. A NaN gives a NaN `rest`. */
typedef struct {
    vec scale, rest;
} split_exp;

INLINE split_exp exp_parts(vec a) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low bits */
    vec shifted = a * 1.44269504f + magic;
    vec whole = shifted - magic;
    vec f = a - whole * 0.693359375f; /* ln 2 in two parts: the first has few bits, so the product is exact */
    f = f - whole * -2.12194440e-4f;
    /* (exp(f) - 1 - f) / f^2 on |f| <= ln(2)/2, relative error of exp(f) 3e-9 (fitted by reweighted least squares) */
    vec p = f * 0.0013814596f + 0.0083687175f;
    p = p * f + 0.04166839f;
    p = p * f + 0.16666521f;
    p = p * f + 0.49999994f;
    ivec power = ((ivec)shifted + (127 - 0x4B400000)) << 23;
    return (split_exp){(vec)power, p * (f * f) + f};
}

/* Zero from -87 on, not exp(-87): what is infinite times a closed gate is NaN, as in PyTorch. */
INLINE vec sigmoid(vec a) {
    split_exp e = exp_parts(clamp(-a, 87.0f));
    ivec closed = a < all(-87.0f);
    return (vec)(~closed & (ivec)reciprocal(e.scale * e.rest + (e.scale + 1.0f)));
}

/* tanh(a) = m / (m + 2), m = exp(2a) - 1: relatively accurate around 0 as well. */
INLINE vec tanh_of(vec a) {
    split_exp e = exp_parts(clamp(a, 10.0f) * 2.0f);
    vec m = e.scale * e.rest + (e.scale - 1.0f);
    return m * reciprocal(m + 2.0f);
}

#endif
