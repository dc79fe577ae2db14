// Layer normalisation and pooling, in float32; sums run over a row in one fixed order.
#pragma once

#include <algorithm>
#include <cmath>

#include "panels.h"

namespace packed {

struct Norm {
    Array<float> weight;
    Array<float> bias;

    Norm() = default;
    Norm(const float* from_weight, const float* from_bias, int width) : weight(width), bias(width) {
        std::memcpy(weight.get(), from_weight, width * sizeof(float));
        std::memcpy(bias.get(), from_bias, width * sizeof(float));
    }
};

// row <- norm(row + addend), and gives put(chunk, 32 bfloat16) for every 32 columns of it.
template <class Put>
inline void add_norm(float* row, const float* addend, const Norm& norm, float eps, int width, const Put& put) {
    __m512 low = _mm512_setzero_ps(), high = low;
    for (int column = 0; column < width; column += kChunk) {
        const __m512 a = _mm512_add_ps(_mm512_loadu_ps(row + column), _mm512_loadu_ps(addend + column));
        const __m512 b =
            _mm512_add_ps(_mm512_loadu_ps(row + column + kLanes), _mm512_loadu_ps(addend + column + kLanes));
        low = _mm512_add_ps(low, a), high = _mm512_add_ps(high, b);
        _mm512_storeu_ps(row + column, a), _mm512_storeu_ps(row + column + kLanes, b);
    }
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(_mm512_add_ps(low, high)) / width);
    low = high = _mm512_setzero_ps();
    for (int column = 0; column < width; column += kChunk) {
        const __m512 a = _mm512_sub_ps(_mm512_loadu_ps(row + column), mean);
        const __m512 b = _mm512_sub_ps(_mm512_loadu_ps(row + column + kLanes), mean);
        low = _mm512_fmadd_ps(a, a, low), high = _mm512_fmadd_ps(b, b, high);
    }
    const float variance = _mm512_reduce_add_ps(_mm512_add_ps(low, high)) / width;
    const __m512 scale = _mm512_set1_ps(1 / std::sqrt(variance + eps));
    for (int column = 0; column < width; column += kChunk) {
        __m512 result[2];
        for (int half = 0; half < 2; ++half) {
            float* from = row + column + half * kLanes;
            const long offset = column + half * kLanes;
            const __m512 centred = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(from), mean), scale);
            result[half] = _mm512_fmadd_ps(centred, _mm512_load_ps(norm.weight.get() + offset),
                                           _mm512_load_ps(norm.bias.get() + offset));
            _mm512_storeu_ps(from, result[half]);
        }
        put(column / kChunk, to_bfloat16(result[0], result[1]));
    }
}

// out <- mean of rows, by choice scaled to length 1; zeros without a row.
inline void pool(const float* rows, long stride, long num_rows, int width, bool normalizes, float* out) {
    __m512 squares = _mm512_setzero_ps();
    const __m512 share = _mm512_set1_ps(1.0f / std::max(num_rows, 1L));
    for (int column = 0; column < width; column += kLanes) {
        __m512 sum = _mm512_setzero_ps();
        for (long row = 0; row < num_rows; ++row) {
            sum = _mm512_add_ps(sum, _mm512_loadu_ps(rows + row * stride + column));
        }
        sum = _mm512_mul_ps(sum, share);
        squares = _mm512_fmadd_ps(sum, sum, squares);
        _mm512_storeu_ps(out + column, sum);
    }
    if (!normalizes) return;
    const __m512 scale = _mm512_set1_ps(1 / std::max(std::sqrt(_mm512_reduce_add_ps(squares)), 1e-12f));
    for (int column = 0; column < width; column += kLanes) {
        _mm512_storeu_ps(out + column, _mm512_mul_ps(_mm512_loadu_ps(out + column), scale));
    }
}

}  // namespace packed
