// The most that this processor's bfloat16 instructions give from registers alone, on random data: what a share is of.
#include <immintrin.h>

#ifdef TILES
#include <sys/syscall.h>
#include <unistd.h>

// Four sums of 16 x 16, two factors each of rows and columns. Returns the FLOP of a round; 0 if AMX is not to be had.
extern "C" double peak(const char* data, long rounds) {
    if (syscall(SYS_arch_prctl, 0x1023, 18)) return 0;  // ARCH_REQ_XCOMP_PERM, tile data
    alignas(64) unsigned char shape[64] = {1};
    for (int tile = 0; tile < 8; ++tile) shape[16 + 2 * tile] = 64, shape[48 + tile] = 16;
    _tile_loadconfig(shape);
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);
    _tile_loadd(4, data, 64), _tile_loadd(5, data + 1024, 64), _tile_loadd(6, data + 2048, 64), _tile_loadd(7, data + 3072, 64);
    for (long round = 0; round < rounds; ++round) {
        _tile_dpbf16ps(0, 4, 6), _tile_dpbf16ps(1, 4, 7), _tile_dpbf16ps(2, 5, 6), _tile_dpbf16ps(3, 5, 7);
    }
    alignas(64) static char out[1024];
    _tile_stored(0, out, 64);
    _tile_release();
    return 4.0 * 2 * 16 * 16 * 32;
}
#else
// 24 sums. They start unequal and the factors are hidden from the compiler, which would merge equal ones.
extern "C" double peak(const char* data, long rounds) {
    __m512 sums[24];
    __m512i factors[4];
    for (int i = 0; i < 4; ++i) factors[i] = _mm512_loadu_si512(data + 64 * i);
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
    for (long round = 0; round < rounds; ++round) {
        asm volatile("" : "+v"(factors[0]), "+v"(factors[1]), "+v"(factors[2]), "+v"(factors[3]));
#pragma GCC unroll 24
        for (int i = 0; i < 24; ++i) {
            sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)factors[i % 3], (__m512bh)factors[3]);
        }
    }
    static volatile float kept;
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i) kept = _mm512_reduce_add_ps(sums[i]);
    return 24.0 * 64;
}
#endif
