/* device/cpu/bandwidth_avx2.c - see bandwidth_kernel.h. */
#include "device/cpu/bandwidth_kernel.h"

#include <immintrin.h>

/* How far ahead lines are asked for: measured, a page is best or no worse than nothing. */
#define AHEAD_BYTES 4096

uint64_t spi_bandwidth_read_avx2(const uint8_t *from, size_t bytes) {
    __m256i sums[4] = {0};
    for (size_t i = 0; i < bytes; i += 256) {
        const __m256i *at = (const __m256i *)(const void *)(from + i);
        for (int u = 0; u < 4; u++) {
            _mm_prefetch((const char *)from + i + AHEAD_BYTES + 64 * u, _MM_HINT_T0);
            __m256i two = _mm256_add_epi64(_mm256_load_si256(at + 2 * u), _mm256_load_si256(at + 2 * u + 1));
            sums[u] = _mm256_add_epi64(sums[u], two);
        }
    }
    __m256i sum = _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
    __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    return (uint64_t)_mm_cvtsi128_si64(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
}
