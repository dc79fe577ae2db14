// Products of bfloat16 matrices by vdpbf16ps, 12 rows by 32 columns in registers.
#pragma once

#include "vectors.h"

namespace packed {

struct Avx512 {
    static constexpr int kRows = 12;  // 24 of the 32 registers are sums; 16 rows would leave none for the factors
    static constexpr int kBudget = 256;  // tokens of a micro-batch
    static constexpr int kAhead = 128;   // bytes of later weights that a product of 32 inputs fetches: of 2 KB in all

    struct Setup {};  // what a thread needs before it multiplies: nothing

    // sums (rows, 32) = or += block (rows, inputs) x panel (inputs, 32). The block holds 12 rows by 32 inputs, then the
    // next 32 inputs; `rows` is at most 12. A row's sum runs over the inputs in their order, however many rows there
    // are.
    // Other work is done by between(part, parts), once for each part, wherever the kernel has time for it. `ahead` is
    // where the weights lie that are wanted later.
    template <bool kAdds, class Between>
    static void multiply(const bfloat16* block, const bfloat16* panel, int rows, int inputs, float* sums, long stride,
                         const bfloat16* ahead, const Between& between) {
        between(0, 1);
        switch (rows) {
            case 1: return multiply_rows<1, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 2: return multiply_rows<2, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 3: return multiply_rows<3, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 4: return multiply_rows<4, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 5: return multiply_rows<5, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 6: return multiply_rows<6, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 7: return multiply_rows<7, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 8: return multiply_rows<8, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 9: return multiply_rows<9, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 10: return multiply_rows<10, kAdds>(block, panel, inputs, sums, stride, ahead);
            case 11: return multiply_rows<11, kAdds>(block, panel, inputs, sums, stride, ahead);
            default: return multiply_rows<12, kAdds>(block, panel, inputs, sums, stride, ahead);
        }
    }

  private:
    template <int kNum, bool kAdds>
    static void multiply_rows(const bfloat16* block, const bfloat16* panel, int inputs, float* sums, long stride,
                              const bfloat16* ahead) {
        __m512 low[kNum], high[kNum];
#pragma GCC unroll 12
        for (int row = 0; row < kNum; ++row) {
            low[row] = kAdds ? _mm512_loadu_ps(sums + row * stride) : _mm512_setzero_ps();
            high[row] = kAdds ? _mm512_loadu_ps(sums + row * stride + kLanes) : _mm512_setzero_ps();
        }
        for (int chunk = 0; chunk < inputs; chunk += kChunk) {
            fetch<kAhead>(ahead);
            ahead += kAhead / sizeof(bfloat16);
#pragma GCC unroll 2
            for (int input = 0; input < kChunk; input += 2) {
                const __m512i first = load(panel), second = load(panel + kChunk);
                panel += 2 * kChunk;
#pragma GCC unroll 12
                for (int row = 0; row < kNum; ++row) {
                    const __m512i pair = broadcast_pair(block + row * kChunk + input);
                    low[row] = add_pairs(low[row], pair, first);
                    high[row] = add_pairs(high[row], pair, second);
                }
            }
            block += kRows * kChunk;
        }
#pragma GCC unroll 12
        for (int row = 0; row < kNum; ++row) {
            _mm512_storeu_ps(sums + row * stride, low[row]);
            _mm512_storeu_ps(sums + row * stride + kLanes, high[row]);
        }
    }
};

}  // namespace packed
