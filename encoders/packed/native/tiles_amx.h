// The tile registers of AMX: 8 of 16 rows by 64 bytes. tiles_model.h is the same in plain C++.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace packed::tiles {

// Asks Linux for the registers, once a process. Whether the processor has them is for the caller to know.
inline bool request() {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// All 8 registers at full size, for the calling thread.
inline void configure() {
    alignas(64) std::uint8_t config[64] = {};
    config[0] = 1;  // palette
    for (int tile = 0; tile < 8; ++tile) {
        config[16 + 2 * tile] = 64;  // bytes a row
        config[48 + tile] = 16;      // rows
    }
    asm volatile("ldtilecfg %0" ::"m"(config) : "memory");
}

inline void release() { asm volatile("tilerelease" ::: "memory"); }

template <int kTile>
inline void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

// Rows are `stride` bytes apart.
template <int kTile>
inline void load(const void* from, long stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}

// The same for what is soon read no more: it does not push the columns out of the nearest cache.
template <int kTile>
inline void stream(const void* from, long stride) {
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
inline void store(void* to, long stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
}

// sums (16 rows, 16 float32) += a (16 rows, 16 pairs) x b (16 pairs, 16 columns of pairs).
template <int kSums, int kA, int kB>
inline void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}

}  // namespace packed::tiles
