// A model of AMX's tile registers in plain C++, which tests compile in place of tiles_amx.h where there are none.
#pragma once

#include <cstdint>
#include <cstring>

namespace packed::tiles {

struct Tile {
    alignas(64) unsigned char rows[16][64];
};

inline thread_local Tile registers[8];
inline thread_local bool is_configured = false;

inline bool request() { return true; }
inline void configure() { is_configured = true; }
inline void release() { is_configured = false; }

inline Tile& at(int tile) {
    if (!is_configured) __builtin_trap();  // the processor would refuse as well
    return registers[tile];
}

inline float widen(std::uint16_t value) {
    const std::uint32_t bits = std::uint32_t(value) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

template <int kTile>
inline void zero() {
    at(kTile) = {};
}

template <int kTile>
inline void load(const void* from, long stride) {
    const char* bytes = static_cast<const char*>(from);
    for (int row = 0; row < 16; ++row) std::memcpy(at(kTile).rows[row], bytes + row * stride, 64);
}

template <int kTile>
inline void stream(const void* from, long stride) {
    load<kTile>(from, stride);
}

template <int kTile>
inline void store(void* to, long stride) {
    char* bytes = static_cast<char*>(to);
    for (int row = 0; row < 16; ++row) std::memcpy(bytes + row * stride, at(kTile).rows[row], 64);
}

// TDPBF16PS in Intel's Software Developer's Manual: even and odd inputs are summed apart, then added to the sum.
template <int kSums, int kA, int kB>
inline void multiply() {
    for (int row = 0; row < 16; ++row) {
        std::uint16_t a[32];
        float sums[16], even[16] = {}, odd[16] = {};
        std::memcpy(a, at(kA).rows[row], sizeof a);
        std::memcpy(sums, at(kSums).rows[row], sizeof sums);
        for (int pair = 0; pair < 16; ++pair) {
            std::uint16_t b[32];
            std::memcpy(b, at(kB).rows[pair], sizeof b);
            for (int column = 0; column < 16; ++column) {
                even[column] += widen(a[2 * pair]) * widen(b[2 * column]);
                odd[column] += widen(a[2 * pair + 1]) * widen(b[2 * column + 1]);
            }
        }
        for (int column = 0; column < 16; ++column) sums[column] += even[column] + odd[column];
        std::memcpy(at(kSums).rows[row], sums, sizeof sums);
    }
}

}  // namespace packed::tiles
