/* device/cpu/quant_body.h - what quantised kernels of both widths share: rounding activations to 8 bits, and interleaving
 * the rows of weights. Included by kernels_avx2.c and kernels_avx512.c.
 *
 * Packed weights: QUANT_ROWS rows side by side. 32-bit lane r of a vector holds four neighbouring columns of row r, so a
 * broadcast of four activations meets as many rows at once and sums need no folding. Four blocks of 32 columns stand
 * together, their scales first: then every vector lies on its own alignment, and a thread reads one stream.
 * Measured against row-wise kernels: 0.88-0.90 of the memory's bandwidth in place of 0.3-0.77.
 */
#ifndef SPI_DEVICE_CPU_QUANT_BODY_H
#define SPI_DEVICE_CPU_QUANT_BODY_H

#include <stdbool.h>
#include <string.h>

#include "device/cpu/kernels.h"
#include "device/cpu/vector.h"
#include "dtype/blocks.h"

#define QUANT_ROWS   V_WIDTH
#define QUANT_BLOCKS 4u
#define QUANT_STEPS  8u /* of four columns, in a block */

typedef struct packed_q8_0 {
    uint16_t d[QUANT_BLOCKS][QUANT_ROWS];
    uint8_t q[QUANT_BLOCKS][QUANT_STEPS][QUANT_ROWS * 4];
} packed_q8_0;

typedef struct packed_q4_0 {
    uint16_t d[QUANT_BLOCKS][QUANT_ROWS];
    uint8_t q[QUANT_BLOCKS][QUANT_STEPS / 2][QUANT_ROWS * 4];
} packed_q4_0;

static size_t quant_quads(uint32_t cols) {
    return (cols / SPI_QUANT_BLOCK + QUANT_BLOCKS - 1) / QUANT_BLOCKS;
}

static size_t quant_groups(uint32_t rows) {
    return (rows + QUANT_ROWS - 1) / QUANT_ROWS;
}

static size_t quant_bytes_q8_0(uint32_t rows, uint32_t cols) {
    return quant_groups(rows) * quant_quads(cols) * sizeof(packed_q8_0);
}

static size_t quant_bytes_q4_0(uint32_t rows, uint32_t cols) {
    return quant_groups(rows) * quant_quads(cols) * sizeof(packed_q4_0);
}

/* Values are stored with `flip` (see the product kernels); padding has the scale 0. */
static void quant_pack_q8_0(void *packed, const void *source, uint32_t rows, uint32_t cols, uint32_t group_first,
                            uint32_t group_count, uint8_t flip) {
    size_t blocks = cols / SPI_QUANT_BLOCK, quads = quant_quads(cols);
    for (uint32_t group = group_first; group < group_first + group_count; group++) {
        packed_q8_0 *to = (packed_q8_0 *)packed + group * quads;
        for (size_t b = 0; b < quads * QUANT_BLOCKS; b++) {
            for (uint32_t r = 0; r < QUANT_ROWS; r++) {
                uint32_t row = group * QUANT_ROWS + r;
                spi_q8_0 zero = {0};
                const spi_q8_0 *from = row < rows && b < blocks ? (const spi_q8_0 *)source + row * blocks + b : &zero;
                to[b / QUANT_BLOCKS].d[b % QUANT_BLOCKS][r] = from->d;
                for (uint32_t i = 0; i < QUANT_STEPS; i++) {
                    uint32_t four;
                    memcpy(&four, from->q + i * 4, 4);
                    four ^= flip * 0x01010101u;
                    memcpy(to[b / QUANT_BLOCKS].q[b % QUANT_BLOCKS][i] + r * 4, &four, 4);
                }
            }
        }
    }
}

static void quant_pack_q4_0(void *packed, const void *source, uint32_t rows, uint32_t cols, uint32_t group_first,
                            uint32_t group_count) {
    size_t blocks = cols / SPI_QUANT_BLOCK, quads = quant_quads(cols);
    for (uint32_t group = group_first; group < group_first + group_count; group++) {
        packed_q4_0 *to = (packed_q4_0 *)packed + group * quads;
        for (size_t b = 0; b < quads * QUANT_BLOCKS; b++) {
            for (uint32_t r = 0; r < QUANT_ROWS; r++) {
                uint32_t row = group * QUANT_ROWS + r;
                spi_q4_0 zero = {0};
                const spi_q4_0 *from = row < rows && b < blocks ? (const spi_q4_0 *)source + row * blocks + b : &zero;
                to[b / QUANT_BLOCKS].d[b % QUANT_BLOCKS][r] = from->d;
                for (uint32_t i = 0; i < QUANT_STEPS / 2; i++) {
                    memcpy(to[b / QUANT_BLOCKS].q[b % QUANT_BLOCKS][i] + r * 4, from->q + i * 4, 4);
                }
            }
        }
    }
}

/* -8 times sums of the 32 values, so that kernels can take nibbles and bytes as unsigned. AVX2 sums in 16 bits: the low
 * half is that of columns 0, 1 of each four, the high half that of columns 2, 3. */
SPI_INLINE int32_t quant_bias(__m256i q) {
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    __m128i sum = _mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    sum = _mm_add_epi16(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi16(sum, _mm_shuffle_epi32(sum, 0xb1));
#if defined(__AVX512F__)
    sum = _mm_madd_epi16(sum, _mm_set1_epi16(-8));
#else
    sum = _mm_mullo_epi16(sum, _mm_set1_epi16(-8));
#endif
    return _mm_cvtsi128_si32(sum);
}

SPI_INLINE __m256 quant_abs(__m256 x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

/* The scale that fits best to x, now that it is rounded to q: <x, q> / <q, q>. It takes the part of the rounding error
 * that lies along q away, 1.5 % of all on average, for a tenth of a product's cost with the smallest of matrices. */
SPI_INLINE float quant_fit(const __m256 x[4], const __m256i q[4]) {
    __m256 xq = _mm256_setzero_ps(), qq = _mm256_setzero_ps();
    for (uint32_t i = 0; i < 4; i++) {
        __m256 value = _mm256_cvtepi32_ps(q[i]);
        xq = _mm256_fmadd_ps(x[i], value, xq);
        qq = _mm256_fmadd_ps(value, value, qq);
    }
    __m256 both = _mm256_hadd_ps(xq, qq);
    both = _mm256_hadd_ps(both, both);
    __m128 sums = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    return _mm_cvtss_f32(_mm_div_ss(sums, _mm_movehdup_ps(sums)));
}

/* Rounds to nearest with the scale max / 127, so nothing can leave int8, and then fits the scale anew. */
static void quantise(uint8_t *tile, uint32_t tile_tokens, uint32_t token, const float *src, uint32_t block_count) {
    for (uint32_t b = 0; b < block_count; b++, src += SPI_I8_COLUMNS, tile += SPI_I8_TOKEN_BYTES * tile_tokens) {
        const __m256 x[4] = {_mm256_loadu_ps(src), _mm256_loadu_ps(src + 8), _mm256_loadu_ps(src + 16),
                             _mm256_loadu_ps(src + 24)};
        __m256 most = _mm256_max_ps(_mm256_max_ps(quant_abs(x[0]), quant_abs(x[1])),
                                    _mm256_max_ps(quant_abs(x[2]), quant_abs(x[3])));
        __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
        four = _mm_max_ps(four, _mm_movehl_ps(four, four));
        float largest = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
        /* A block of numbers so small that the inverse overflows is a block of zeros. */
        bool zero = !(largest > 0x1p-120f);
        __m256 inverse = _mm256_set1_ps(zero ? 0 : 127 / largest);
        __m256i i[4];
        for (uint32_t k = 0; k < 4; k++) {
            i[k] = _mm256_cvtps_epi32(_mm256_mul_ps(x[k], inverse));
        }
        float scale = zero ? 0 : quant_fit(x, i);
        __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3]));
        q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        int32_t bias = quant_bias(q);
        if (tile_tokens == 1) {
            _mm256_storeu_si256((__m256i *)(void *)tile, q);
        } else {
            uint8_t bytes[SPI_I8_COLUMNS];
            _mm256_storeu_si256((__m256i *)(void *)bytes, q);
            for (uint32_t step = 0; step < QUANT_STEPS; step++) {
                memcpy(tile + (step * tile_tokens + token) * 4, bytes + step * 4, 4);
            }
        }
        memcpy(tile + SPI_I8_COLUMNS * tile_tokens + 4 * token, &scale, 4);
        memcpy(tile + (SPI_I8_COLUMNS + 4) * tile_tokens + 4 * token, &bias, 4);
    }
}

/* Where the parts of a block of a tile lie. */
SPI_INLINE const uint8_t *quant_act(const uint8_t *block, uint32_t tokens, uint32_t step, uint32_t token) {
    return block + (step * tokens + token) * 4;
}
SPI_INLINE float quant_scale(const uint8_t *block, uint32_t tokens, uint32_t token) {
    float scale;
    memcpy(&scale, block + SPI_I8_COLUMNS * tokens + 4 * token, 4);
    return scale;
}
SPI_INLINE int32_t quant_load(const uint8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return four;
}
SPI_INLINE int32_t quant_bias_of(const uint8_t *block, uint32_t tokens, uint32_t token) {
    return quant_load(block + (SPI_I8_COLUMNS + 4) * tokens + 4 * token);
}

#endif
