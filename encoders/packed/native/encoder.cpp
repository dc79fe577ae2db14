// The functions that native.py calls.
#include <atomic>
#include <system_error>
#include <thread>

#include "forward.h"
#include "multiply_amx.h"
#include "multiply_avx512.h"

namespace {

using namespace packed;

struct Call {
    const Encoder& encoder;
    Sentences sentences;
    long num_sentences;
    Pooling pooling;
    bool normalizes;
    int num_threads;
    float* out;
};

// First sentence of each micro-batch, and at last their number. A batch is full at `budget` tokens; a longer sentence
// is one by itself.
std::vector<long> cut(const Call& call, long budget) {
    std::vector<long> firsts{0};
    const std::int64_t* starts = call.sentences.starts;
    for (long sentence = 1; sentence < call.num_sentences; ++sentence) {
        if (starts[sentence + 1] - starts[firsts.back()] > budget) firsts.push_back(sentence);
    }
    firsts.push_back(call.num_sentences);
    return firsts;
}

// Threads take micro-batches until none is left. Returns false if memory ran out.
template <class Kernel>
bool run(const Call& call) {
    long longest = 1;
    for (long i = 0; i < call.num_sentences; ++i) {
        longest = std::max<long>(longest, call.sentences.starts[i + 1] - call.sentences.starts[i]);
    }
    const std::vector<long> firsts = cut(call, Kernel::kBudget);
    const long num_batches = static_cast<long>(firsts.size()) - 1;
    std::atomic<long> next{0};
    std::atomic<bool> has_failed{false};
    const auto work = [&] {
        try {
            [[maybe_unused]] const typename Kernel::Setup setup;
            Forward<Kernel> forward(call.encoder, static_cast<int>(std::max<long>(longest, Kernel::kBudget)),
                                    static_cast<int>(longest));
            for (long i = next++; i < num_batches && !has_failed; i = next++) {
                forward.run(call.sentences, firsts[i], firsts[i + 1], call.pooling, call.normalizes, call.out);
            }
        } catch (const std::bad_alloc&) {
            has_failed = true;
        }
    };
    std::vector<std::thread> others;
    try {
        for (long i = 1; i < std::min<long>(call.num_threads, num_batches); ++i) others.emplace_back(work);
    } catch (const std::system_error&) {
        // No more threads are to be had: those that there are do it.
    }
    work();
    for (std::thread& other : others) other.join();
    return !has_failed;
}

}  // namespace

#pragma GCC visibility push(default)  // all else is hidden: see native.py
extern "C" {

// Whether the operating system lets this process use the tiles of AMX; the processor must have them.
bool packed_request_tiles() { return tiles::request(); }

// Returns an encoder, or null if memory ran out. Keeps pointers to weights[0] and weights[1] only.
void* packed_new(const Shape* shape, const float* const* weights) try {
    return new Encoder(*shape, weights);
} catch (const std::bad_alloc&) {
    return nullptr;
}

void packed_delete(void* encoder) { delete static_cast<Encoder*>(encoder); }

// Writes a concept for each sentence, float32 (num_sentences, H). Returns false if memory ran out.
bool packed_encode(const void* encoder, bool uses_tiles, const std::int32_t* ids, const std::int64_t* starts,
                   std::int64_t num_sentences, Pooling pooling, bool normalizes, std::int32_t num_threads,
                   float* out) try {
    const Call call{*static_cast<const Encoder*>(encoder), {ids, starts}, num_sentences, pooling, normalizes,
                    num_threads, out};
    return uses_tiles ? run<Amx>(call) : run<Avx512>(call);
} catch (const std::bad_alloc&) {
    return false;
}
}
#pragma GCC visibility pop
