// Attention within a sentence, 16 queries at a time, one in each lane: maxima and sums over keys need no lane to meet
// another, so a query's result cannot depend on its neighbours.
#pragma once

#include <algorithm>
#include <limits>

#include "panels.h"

namespace packed {

constexpr int kKeys = 8;  // whose scores are formed at once: more than the latency of an addition

// What attention writes on its way, for sentences of up to `longest` tokens.
struct AttentionScratch {
    Array<float> scores;      // [key][query]
    Array<bfloat16> weights;  // [pair of keys][query][2]
    Array<bfloat16> values;   // [pair of keys][dimension][2]

    AttentionScratch(int longest, int head_dim)
        : scores((std::size_t(longest) + kKeys) * kLanes),
          weights((std::size_t(longest) + 1) * kLanes),
          values((std::size_t(longest) + 1) * head_dim) {}
};

// A head of a sentence: first rows of its queries, keys and values. Each row is a chunk of 32; the head's next 32
// dimensions begin `panel` further on. Readable to 16 rows behind the last one.
struct Head {
    const bfloat16* query;  // times log2(e) / sqrt(head_dim)
    const bfloat16* key;
    const bfloat16* value;
    long panel;
    const float* bias;  // of key j for query i at bias[i - j], times log2(e); or null
};

// The scores of 16 queries, transposed before, for all keys; returns the largest of each query.
template <int kChunks>
inline __m512 score(const Head& head, const __m512i (&queries)[kChunks][kLanes], int first, int length, float* scores) {
    __m512 largest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    for (int key = 0; key < length; key += kKeys) {
        __m512 sums[kKeys];
#pragma GCC unroll 8
        for (int i = 0; i < kKeys; ++i) {
            sums[i] = head.bias ? _mm512_loadu_ps(head.bias + first - key - i) : _mm512_setzero_ps();
        }
        for (int chunk = 0; chunk < kChunks; ++chunk) {
            const bfloat16* keys = head.key + chunk * head.panel + key * kChunk;
#pragma GCC unroll 16
            for (int pair = 0; pair < kLanes; ++pair) {
#pragma GCC unroll 8
                for (int i = 0; i < kKeys; ++i) {
                    sums[i] = add_pairs(sums[i], queries[chunk][pair], broadcast_pair(keys + i * kChunk + 2 * pair));
                }
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < kKeys; ++i) {
            if (key + i < length) largest = _mm512_max_ps(largest, sums[i]);
            _mm512_store_ps(scores + (key + i) * kLanes, sums[i]);
        }
    }
    return largest;
}

// Scores to 2^(score - largest), in pairs of keys; returns the sum of each query, of what was rounded to bfloat16.
inline __m512 exponentiate(const float* scores, __m512 largest, int length, bfloat16* weights) {
    const __m512i ones = _mm512_set1_epi32(0x3f803f80);
    __m512 sum = _mm512_setzero_ps();
    for (int key = 0; key < length; key += 2) {
        const __m512 even = power_of_two(_mm512_sub_ps(_mm512_load_ps(scores + key * kLanes), largest));
        const __m512 odd = key + 1 == length
                               ? _mm512_setzero_ps()
                               : power_of_two(_mm512_sub_ps(_mm512_load_ps(scores + (key + 1) * kLanes), largest));
        const __m512i pairs = to_pairs(even, odd);
        sum = add_pairs(sum, pairs, ones);
        store(weights + key * kLanes, pairs);
    }
    return sum;
}

// The weighted values of 16 queries: 32 dimensions as bfloat16, out[i] for query i.
inline void mix(const bfloat16* weights, const bfloat16* values, long stride, int length, __m512 scale, __m512i* out) {
    for (int half = 0; half < 2; ++half) {
        __m512 sums[kLanes];
#pragma GCC unroll 16
        for (__m512& sum : sums) sum = _mm512_setzero_ps();
        for (int pair = 0; pair < (length + 1) / 2; ++pair) {
            const __m512i weight = load(weights + pair * kChunk);
            const bfloat16* value = values + pair * stride + half * kChunk;
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; ++i) sums[i] = add_pairs(sums[i], weight, broadcast_pair(value + 2 * i));
        }
#pragma GCC unroll 8
        for (int i = 0; i < kLanes / 2; ++i) {
            out[half * kLanes / 2 + i] =
                to_pairs(_mm512_mul_ps(sums[2 * i], scale), _mm512_mul_ps(sums[2 * i + 1], scale));
        }
    }
    transpose(out);
}

// Gives put(token, chunk, 32 bfloat16) for every token of a sentence and every 32 dimensions of a head.
template <int kChunks, class Put>
inline void attend(const Head& head, int length, AttentionScratch& scratch, const Put& put) {
    constexpr long kStride = 2L * kChunks * kChunk;  // of a pair of values
    for (int token = 0; token < length; token += 2) {
        for (int chunk = 0; chunk < kChunks; ++chunk) {
            const bfloat16* from = head.value + chunk * head.panel + token * kChunk;
            const __m512i even = load(from), odd = token + 1 < length ? load(from + kChunk) : _mm512_setzero_si512();
            bfloat16* to = scratch.values.get() + token / 2 * kStride + chunk * 2 * kChunk;
            store(to, pair_up(even, odd, false));
            store(to + kChunk, pair_up(even, odd, true));
        }
    }
    for (int first = 0; first < length; first += kLanes) {
        __m512i queries[kChunks][kLanes];
        for (int chunk = 0; chunk < kChunks; ++chunk) {
            const bfloat16* from = head.query + chunk * head.panel + first * kChunk;
            for (int i = 0; i < kLanes; ++i) queries[chunk][i] = load(from + i * kChunk);
            transpose(queries[chunk]);
        }
        const __m512 largest = score<kChunks>(head, queries, first, length, scratch.scores.get());
        const __m512 sum = exponentiate(scratch.scores.get(), largest, length, scratch.weights.get());
        const __m512 scale = _mm512_div_ps(_mm512_set1_ps(1.0f), sum);
        for (int chunk = 0; chunk < kChunks; ++chunk) {
            __m512i out[kLanes];
            mix(scratch.weights.get(), scratch.values.get() + chunk * 2 * kChunk, kStride, length, scale, out);
            for (int i = 0; i < std::min(kLanes, length - first); ++i) put(first + i, chunk, out[i]);
        }
    }
}

}  // namespace packed
