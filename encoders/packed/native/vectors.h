// Vectors of 16 float32 and of 32 bfloat16: conversion, transposition, 2^x and GELU.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace packed {

using bfloat16 = std::uint16_t;

constexpr int kLanes = 16;  // float32 in a vector
constexpr int kChunk = 32;  // bfloat16 in a vector: columns that are stored together

inline __m512i load(const void* from) { return _mm512_loadu_si512(from); }
inline void store(void* to, __m512i value) { _mm512_storeu_si512(to, value); }

// 32 bfloat16 out of two vectors of float32, `low` first; rounds to the nearest.
inline __m512i to_bfloat16(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// total + a product of pairs: lane i gains a[2i] b[2i] + a[2i + 1] b[2i + 1].
inline __m512 add_pairs(__m512 total, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(total, (__m512bh)a, (__m512bh)b);
}

// Brings bytes that are wanted later into the second cache; they may lie anywhere.
template <int kBytes>
inline void fetch(const bfloat16* from) {
    for (int byte = 0; byte < kBytes; byte += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(from) + byte, _MM_HINT_T1);
    }
}

// The pair of bfloat16 at an address, in every lane.
inline __m512i broadcast_pair(const bfloat16* pair) {
    return _mm512_set1_epi32(*reinterpret_cast<const int __attribute__((may_alias, aligned(2)))*>(pair));
}

// Words of two vectors side by side: (a[0], b[0], a[1], b[1], ...), the first 16 pairs or the last.
inline __m512i pair_up(__m512i a, __m512i b, bool last) {
    alignas(64) static constexpr struct Places {
        bfloat16 of[2][kChunk];
        constexpr Places() : of() {
            for (int i = 0; i < kChunk; ++i) {
                of[0][i] = static_cast<bfloat16>(i / 2 + i % 2 * kChunk);
                of[1][i] = static_cast<bfloat16>(kLanes + i / 2 + i % 2 * kChunk);
            }
        }
    } kPlaces;
    return _mm512_permutex2var_epi16(a, load(kPlaces.of[last]), b);
}

// Pairs of bfloat16 (a[i], b[i]) out of two vectors of float32.
inline __m512i to_pairs(__m512 a, __m512 b) {
    const __m512i both = to_bfloat16(a, b);
    return pair_up(both, _mm512_castsi256_si512(_mm512_extracti64x4_epi64(both, 1)), false);
}

// Transposes a square of 16 x 16 values of 32 bit.
inline void transpose(__m512i rows[kLanes]) {
    __m512i other[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes; i += 2) {
        other[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        other[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kLanes; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(other[i], other[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(other[i], other[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(other[i + 1], other[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(other[i + 1], other[i + 3]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < kLanes; i += 8) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            other[i + j] = _mm512_shuffle_i32x4(rows[i + j], rows[i + j + 4], 0x88);
            other[i + j + 4] = _mm512_shuffle_i32x4(rows[i + j], rows[i + j + 4], 0xdd);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
        rows[j] = _mm512_shuffle_i32x4(other[j], other[j + 8], 0x88);
        rows[j + 8] = _mm512_shuffle_i32x4(other[j], other[j + 8], 0xdd);
    }
}

// 2^x for x <= 0, to 3e-6 of it: what it makes is rounded to bfloat16. The polynomial is a fit on [-1/2, 1/2].
inline __m512 power_of_two(__m512 x) {
    const __m512 fraction = _mm512_reduce_ps(x, 0);  // x less the nearest whole number
    __m512 value = _mm512_set1_ps(0.00958274491f);
    value = _mm512_fmadd_ps(value, fraction, _mm512_set1_ps(0.0559061430f));
    value = _mm512_fmadd_ps(value, fraction, _mm512_set1_ps(0.240240991f));
    value = _mm512_fmadd_ps(value, fraction, _mm512_set1_ps(0.693124235f));
    value = _mm512_fmadd_ps(value, fraction, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(value, _mm512_sub_ps(x, fraction));
}

// GELU by the error function, to 7e-6: max(x, 0) - g(|x|), where g(t) = t (1 - Phi(t)) is a table of 16 cubics.
class Gelu {
  public:
    Gelu() {
        for (int piece = 0; piece < kLanes; ++piece) {
            double value[4];
            for (int i = 0; i < 4; ++i) value[i] = tail((piece + kNodes[i]) / kPerUnit);
            fit(value, piece);
        }
    }

    __m512 operator()(__m512 x) const {
        const __m512 scaled = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(kPerUnit));
        const __m512 place = _mm512_min_ps(scaled, _mm512_set1_ps(15.99999f));
        const __m512i piece = _mm512_cvttps_epi32(place);
        const __m512 u = _mm512_sub_ps(place, _mm512_cvtepi32_ps(piece));
        __m512 g = look_up(piece, 3);
        for (int power = 2; power >= 0; --power) g = _mm512_fmadd_ps(g, u, look_up(piece, power));
        return _mm512_sub_ps(_mm512_max_ps(_mm512_setzero_ps(), x), g);  // in this order a NaN stays one
    }

  private:
    static constexpr float kPerUnit = 3.0f;                                      // pieces: up to |x| = 16 / 3
    static constexpr double kNodes[4] = {0.03806, 0.30866, 0.69134, 0.96194};    // of Chebyshev, on [0, 1]
    alignas(64) float coefficients_[4][kLanes];

    static double tail(double t) { return 0.5 * t * std::erfc(t * std::sqrt(0.5)); }

    __m512 look_up(__m512i piece, int power) const {
        return _mm512_permutexvar_ps(piece, _mm512_load_ps(coefficients_[power]));
    }

    // The cubic through four values, by Lagrange's formula.
    void fit(const double value[4], int piece) {
        double total[4] = {};
        for (int i = 0; i < 4; ++i) {
            double product[4] = {value[i], 0, 0, 0};  // value[i] times the factors (u - node) / (node_i - node)
            for (int j = 0; j < 4; ++j) {
                if (j == i) continue;
                const double scale = 1 / (kNodes[i] - kNodes[j]);
                for (int power = 3; power >= 0; --power) {
                    product[power] = scale * ((power ? product[power - 1] : 0) - kNodes[j] * product[power]);
                }
            }
            for (int power = 0; power < 4; ++power) total[power] += product[power];
        }
        for (int power = 0; power < 4; ++power) coefficients_[power][piece] = static_cast<float>(total[power]);
    }
};

}  // namespace packed
