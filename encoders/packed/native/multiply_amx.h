// Products of bfloat16 matrices by AMX, 2 x 2 tiles of sums: 32 rows by 32 columns.
#pragma once

#include "vectors.h"
#ifdef PACKED_TILE_MODEL
#include "tiles_model.h"
#else
#include "tiles_amx.h"
#endif

namespace packed {

struct Amx {
    static constexpr int kRows = 32;
    static constexpr int kBudget = 256;
    static constexpr int kAhead = 256;

    // What a thread needs before it multiplies.
    struct Setup {
        Setup() { tiles::configure(); }
        ~Setup() { tiles::release(); }
    };

    // As Avx512::multiply, but for blocks of 32 rows. All 32 rows of `sums` (or the first 16, if `rows` is no more) are
    // written, whatever the surplus ones of the block hold. Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 columns.
    // A part of the other work is done every 32 inputs: tiles keep no other unit of the processor busy.
    template <bool kAdds, class Between>
    static void multiply(const bfloat16* block, const bfloat16* panel, int rows, int inputs, float* sums, long stride,
                         const bfloat16* ahead, const Between& between) {
        if (rows > 16) {
            multiply_tiles<true, kAdds>(block, panel, inputs, sums, stride, ahead, between);
        } else {
            multiply_tiles<false, kAdds>(block, panel, inputs, sums, stride, ahead, between);
        }
    }

  private:
    template <bool kBoth, bool kAdds, class Between>
    static void multiply_tiles(const bfloat16* block, const bfloat16* panel, int inputs, float* sums, long stride,
                               const bfloat16* ahead, const Between& between) {
        constexpr long kBlockStride = kChunk * sizeof(bfloat16), kPanelStride = 2 * kBlockStride;
        const long sums_stride = stride * sizeof(float);
        float* lower = sums + 16 * stride;
        if (kAdds) {
            tiles::load<0>(sums, sums_stride), tiles::load<1>(sums + kLanes, sums_stride);
            if (kBoth) tiles::load<2>(lower, sums_stride), tiles::load<3>(lower + kLanes, sums_stride);
        } else {
            tiles::zero<0>(), tiles::zero<1>();
            if (kBoth) tiles::zero<2>(), tiles::zero<3>();
        }
        for (int part = 0; part < inputs / kChunk; ++part) {
            tiles::load<6>(panel, kPanelStride);
            tiles::stream<4>(block, kBlockStride);
            tiles::load<7>(panel + kChunk, kPanelStride);
            tiles::multiply<0, 4, 6>();
            tiles::multiply<1, 4, 7>();
            if (kBoth) {
                tiles::stream<5>(block + 16 * kChunk, kBlockStride);
                tiles::multiply<2, 5, 6>();
                tiles::multiply<3, 5, 7>();
            }
            fetch<kAhead>(ahead + part * (kAhead / sizeof(bfloat16)));
            between(part, inputs / kChunk);
            block += kRows * kChunk;
            panel += kChunk * kChunk;
        }
        tiles::store<0>(sums, sums_stride), tiles::store<1>(sums + kLanes, sums_stride);
        if (kBoth) tiles::store<2>(lower, sums_stride), tiles::store<3>(lower + kLanes, sums_stride);
    }
};

}  // namespace packed
