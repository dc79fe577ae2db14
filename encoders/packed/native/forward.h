// An encoder's forward pass over a micro-batch: a few whole sentences, whose activations stay in the cache of a core.
#pragma once

#include "attention.h"
#include "encoder.h"

namespace packed {

// Sentences of a call: tokens behind one another, and where each sentence begins.
struct Sentences {
    const std::int32_t* ids;
    const std::int64_t* starts;  // one more than there are sentences
};

enum class Pooling : std::int32_t { kMean, kFirst, kLast };

// What a thread needs to carry micro-batches of at most `capacity` tokens through all layers. Kernel multiplies: see
// multiply_avx512.h. Matrices that it reads lie in blocks of its rows, 32 columns of them after the other.
template <class Kernel>
class Forward {
  public:
    Forward(const Encoder& encoder, int capacity, int longest)
        : encoder_(encoder),
          hidden_(encoder.shape.hidden),
          rows_((capacity + Kernel::kRows - 1) / Kernel::kRows * Kernel::kRows),
          panel_((rows_ + kLanes) * long(kChunk)),  // attention reads up to 16 rows more
          stride_(hidden_ + kLanes),                // else rows of 1024 would share one set of the cache
          sums_(rows_ * stride_),
          x_(std::size_t(rows_) * hidden_),
          context_(std::size_t(rows_) * hidden_),
          wide_(std::max(3 * hidden_ / kChunk * panel_, long(rows_) * encoder.shape.inner)),
          scratch_(longest, encoder.head_dim()) {}

    // Encodes sentences first to last - 1 into rows of `out`.
    void run(const Sentences& sentences, long first, long last, Pooling pooling, bool normalizes, float* out) {
        const int num_tokens = static_cast<int>(sentences.starts[last] - sentences.starts[first]);
        embed(sentences, first, last);
        for (const Layer& layer : encoder_.layers) {
            project(layer.qkv, num_tokens);
            attend_all(sentences, first, last);
            add_linear(context_.get(), layer.out, num_tokens);
            normalise(layer.out, layer.attention_norm, num_tokens);
            expand(layer.up, num_tokens);
            add_linear(wide_.get(), layer.down, num_tokens);
            normalise(layer.down, layer.output_norm, num_tokens);
        }
        for (long sentence = first; sentence < last; ++sentence) {
            const long begin = sentences.starts[sentence] - sentences.starts[first];
            const long end = sentences.starts[sentence + 1] - sentences.starts[first];
            const long from = pooling == Pooling::kLast ? end - 1 : begin;
            const long num_rows = pooling == Pooling::kMean ? end - begin : std::min(end - begin, 1L);
            pool(sums_.get() + from * stride_, stride_, num_rows, hidden_, normalizes, out + sentence * hidden_);
        }
    }

  private:
    static constexpr int kRows = Kernel::kRows;
    static constexpr int kInputs = 384;  // multiplied at once: a panel of them, 24 KB, stays in the nearest cache

    const Encoder& encoder_;
    const int hidden_, rows_;
    const long panel_, stride_;
    const Gelu gelu_;
    Array<float> sums_;        // (rows, stride): the hidden states, and what is added to them
    Array<bfloat16> x_;        // the hidden states as factors, in blocks
    Array<bfloat16> context_;  // what attention gives, in blocks
    Array<bfloat16> wide_;     // queries, keys, values as [chunk][row][32]; or the inside of the feed-forward network
    AttentionScratch scratch_;

    // Where 32 columns of a row begin in a matrix of `columns` that lies in blocks.
    static bfloat16* chunk_of(Array<bfloat16>& matrix, int columns, int row, int chunk) {
        return matrix.get() + std::size_t(row / kRows) * kRows * columns + (chunk * kRows + row % kRows) * kChunk;
    }

    void embed(const Sentences& sentences, long first, long last) {
        int row = 0;
        for (long sentence = first; sentence < last; ++sentence) {
            const std::int64_t begin = sentences.starts[sentence], end = sentences.starts[sentence + 1];
            for (std::int64_t token = begin; token < end; ++token, ++row) {
                float* to = sums_.get() + row * stride_;
                std::memcpy(to, encoder_.word + std::size_t(sentences.ids[token]) * hidden_, hidden_ * sizeof(float));
                normalise_row(row, encoder_.position + (token - begin) * hidden_, encoder_.embedding_norm);
            }
        }
    }

    void normalise_row(int row, const float* addend, const Norm& norm) {
        add_norm(sums_.get() + row * stride_, addend, norm, encoder_.shape.eps, hidden_,
                 [&](int chunk, __m512i values) { store(chunk_of(x_, hidden_, row, chunk), values); });
    }

    void normalise(const Linear& linear, const Norm& norm, int num_tokens) {
        for (int row = 0; row < num_tokens; ++row) normalise_row(row, linear.bias.get(), norm);
    }

    // Gives put(row, panel, 32 sums plus bias) for x times a linear layer. What is put is the block before the one that
    // is multiplied: a kernel can do both at once.
    template <class Put>
    void multiply_x(const Linear& linear, int num_tokens, const Put& put) {
        alignas(64) float sums[2][kRows * kChunk];
        struct {
            int panel, first, num_rows;
        } done = {0, 0, 0};
        bool turn = false;
        const auto put_part = [&](int part, int parts) {
            const float* bias = linear.bias.get() + done.panel * kChunk;
            for (int row = done.num_rows * part / parts; row < done.num_rows * (part + 1) / parts; ++row) {
                const float* from = sums[!turn] + row * kChunk;
                put(done.first + row, done.panel, _mm512_add_ps(_mm512_load_ps(from), _mm512_load_ps(bias)),
                    _mm512_add_ps(_mm512_load_ps(from + kLanes), _mm512_load_ps(bias + kLanes)));
            }
        };
        for (int panel = 0; panel < linear.num_panels(); ++panel) {
            for (int first = 0; first < num_tokens; first += kRows, turn = !turn) {
                const int num_rows = std::min(kRows, num_tokens - first);
                const bfloat16* ahead = ahead_of(linear, panel, 0, hidden_, first);
                Kernel::template multiply<false>(chunk_of(x_, hidden_, first, 0), linear.panel(panel), num_rows,
                                                 hidden_, sums[turn], kChunk, ahead, put_part);
                done = {panel, first, num_rows};
            }
        }
        put_part(0, 1);
    }

    // Where the weights lie that the block of rows from `first` on fetches for later: those behind the inputs that it
    // multiplies, a share of them each.
    static const bfloat16* ahead_of(const Linear& linear, int panel, int input, int num_inputs, int first) {
        const long shares = first / kRows * (num_inputs / kChunk) * long(Kernel::kAhead) / long(sizeof(bfloat16));
        return linear.panel(panel) + std::size_t(input + num_inputs) * kChunk + shares;
    }

    void project(const Linear& linear, int num_tokens) {
        multiply_x(linear, num_tokens, [&](int row, int panel, __m512 low, __m512 high) {
            store(wide_.get() + panel * panel_ + row * kChunk, to_bfloat16(low, high));
        });
    }

    void expand(const Linear& linear, int num_tokens) {
        multiply_x(linear, num_tokens, [&](int row, int panel, __m512 low, __m512 high) {
            store(chunk_of(wide_, linear.outputs, row, panel), to_bfloat16(gelu_(low), gelu_(high)));
        });
    }

    // sums += matrix times a linear layer, without its bias: that comes with the norm.
    void add_linear(const bfloat16* matrix, const Linear& linear, int num_tokens) {
        for (int panel = 0; panel < linear.num_panels(); ++panel) {
            for (int input = 0; input < linear.inputs; input += kInputs) {
                const int num_inputs = std::min(kInputs, linear.inputs - input);
                const bfloat16* weights = linear.panel(panel) + std::size_t(input) * kChunk;
                for (int first = 0; first < num_tokens; first += kRows) {
                    const bfloat16* block = matrix + std::size_t(first) * linear.inputs + std::size_t(input) * kRows;
                    Kernel::template multiply<true>(block, weights, std::min(kRows, num_tokens - first), num_inputs,
                                                    sums_.get() + first * stride_ + panel * kChunk, stride_,
                                                    ahead_of(linear, panel, input, num_inputs, first), [](int, int) {});
                }
            }
        }
    }

    void attend_all(const Sentences& sentences, long first, long last) {
        for (long sentence = first; sentence < last; ++sentence) {
            const int row = static_cast<int>(sentences.starts[sentence] - sentences.starts[first]);
            const int length = static_cast<int>(sentences.starts[sentence + 1] - sentences.starts[sentence]);
            for (int head = 0; head < encoder_.shape.heads; ++head) {
                if (encoder_.head_dim() == kChunk) {
                    attend_head<1>(head, row, length);
                } else {
                    attend_head<2>(head, row, length);
                }
            }
        }
    }

    template <int kChunks>
    void attend_head(int head, int row, int length) {
        const long part = hidden_ / kChunk * panel_;  // from queries to keys, and from keys to values
        const bfloat16* query = wide_.get() + head * kChunks * panel_ + row * long(kChunk);
        const Head pointers{query, query + part, query + 2 * part, panel_, encoder_.bias_of(head)};
        attend<kChunks>(pointers, length, scratch_, [&](int token, int chunk, __m512i values) {
            store(chunk_of(context_, hidden_, row + token, head * kChunks + chunk), values);
        });
    }
};

}  // namespace packed
