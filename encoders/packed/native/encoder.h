// The weights of an encoder that normalises behind each block, as the kernel reads them.
#pragma once

#include <vector>

#include "norm.h"

namespace packed {

// Sizes of an encoder; native.py has the same record. All widths are multiples of 32, that of a head is 32 or 64.
struct Shape {
    std::int32_t hidden;
    std::int32_t inner;  // of the feed-forward networks
    std::int32_t heads;
    std::int32_t layers;
    std::int32_t positions;
    float eps;
};

struct Layer {
    Linear qkv, out, up, down;
    Norm attention_norm, output_norm;
};

constexpr float kLog2E = 1.44269504f;  // softmax is done in powers of two

struct Encoder {
    Shape shape;
    const float* word;      // (V, H), the caller's
    const float* position;  // (P, H), the caller's
    Norm embedding_norm;
    Array<float> bias;  // (heads, bias_stride), by place of the query minus place of the key
    long bias_stride = 0;
    std::vector<Layer> layers;

    // Weights in the order of native.py; all are copied but for the embeddings.
    Encoder(const Shape& sizes, const float* const* weights)
        : shape(sizes), word(weights[0]), position(weights[1]), embedding_norm(weights[2], weights[3], sizes.hidden) {
        if (weights[4]) set_bias(weights[4]);
        const float scale = kLog2E / std::sqrt(float(head_dim()));
        const int hidden = shape.hidden, inner = shape.inner;
        const float* const* from = weights + 5;
        for (int i = 0; i < shape.layers; ++i, from += 12) {
            Layer& layer = layers.emplace_back();
            layer.qkv = Linear(from[0], from[1], hidden, 3 * hidden, hidden, scale);
            layer.out = Linear(from[2], from[3], hidden, hidden, 0, 1);
            layer.attention_norm = Norm(from[4], from[5], hidden);
            layer.up = Linear(from[6], from[7], hidden, inner, 0, 1);
            layer.down = Linear(from[8], from[9], inner, hidden, 0, 1);
            layer.output_norm = Norm(from[10], from[11], hidden);
        }
    }

    int head_dim() const { return shape.hidden / shape.heads; }

    // Where a head's bias for query i and key j stands at [i - j]; null without a bias.
    const float* bias_of(int head) const {
        return bias_stride ? bias.get() + head * bias_stride + kLanes + shape.positions - 1 : nullptr;
    }

  private:
    // Turned around, so that 16 queries lie behind one another, and with room for 16 lanes at both ends.
    void set_bias(const float* from) {
        const int width = 2 * shape.positions - 1;
        bias_stride = width + 2 * kLanes;
        bias = Array<float>(shape.heads * bias_stride);
        for (int head = 0; head < shape.heads; ++head) {
            float* to = bias.get() + head * bias_stride + kLanes;
            for (int i = 0; i < width; ++i) to[i] = from[std::size_t(head) * width + width - 1 - i] * kLog2E;
        }
    }
};

}  // namespace packed
