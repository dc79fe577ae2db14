// Weights in the order in which matrix products read them.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "vectors.h"

namespace packed {

// Memory of its own, aligned to huge pages where it is large; zero.
template <class T>
class Array {
  public:
    Array() = default;
    explicit Array(std::size_t size) {
        constexpr std::size_t kHugePage = 1 << 21;
        const std::size_t alignment = size * sizeof(T) < kHugePage ? 64 : kHugePage;
        const std::size_t bytes = (size * sizeof(T) + alignment - 1) / alignment * alignment;
        values_.reset(static_cast<T*>(std::aligned_alloc(alignment, bytes)));
        if (!values_) throw std::bad_alloc();
        if (alignment == kHugePage) madvise(values_.get(), bytes, MADV_HUGEPAGE);  // fewer misses of the TLB
        std::memset(values_.get(), 0, bytes);
    }
    T* get() { return values_.get(); }
    const T* get() const { return values_.get(); }

  private:
    struct Free {
        void operator()(T* values) const { std::free(values); }
    };
    std::unique_ptr<T[], Free> values_;
};

// A linear layer. Panel p holds columns 32 p ... 32 p + 31 of the product: for each pair of inputs, 32 pairs of
// weights, as both vdpbf16ps and tdpbf16ps read them.
struct Linear {
    int inputs = 0;
    int outputs = 0;
    Array<bfloat16> panels;
    Array<float> bias;

    Linear() = default;

    // weight (outputs, inputs) and bias (outputs), float32; the first `num_scaled` outputs are multiplied by `scale`.
    Linear(const float* weight, const float* from_bias, int num_inputs, int num_outputs, int num_scaled, float scale)
        : inputs(num_inputs), outputs(num_outputs), panels(std::size_t(num_inputs) * num_outputs), bias(num_outputs) {
        for (int output = 0; output < outputs; ++output) {
            const float factor = output < num_scaled ? scale : 1.0f;
            bias.get()[output] = from_bias[output] * factor;
            const __m512 factors = _mm512_set1_ps(factor);
            bfloat16* to = panels.get() + std::size_t(output / kChunk) * inputs * kChunk + output % kChunk * 2;
            for (int input = 0; input < inputs; input += kChunk) {
                const float* from = weight + std::size_t(output) * inputs + input;
                alignas(64) bfloat16 row[kChunk];
                store(row, to_bfloat16(_mm512_mul_ps(_mm512_loadu_ps(from), factors),
                                       _mm512_mul_ps(_mm512_loadu_ps(from + kLanes), factors)));
                for (int i = 0; i < kChunk; i += 2) {
                    bfloat16* pair = to + std::size_t(input + i) * kChunk;
                    pair[0] = row[i];
                    pair[1] = row[i + 1];
                }
            }
        }
    }

    const bfloat16* panel(int index) const { return panels.get() + std::size_t(index) * inputs * kChunk; }
    int num_panels() const { return outputs / kChunk; }
};

}  // namespace packed
