/* device/cpu/kernels_avx512.c - the table for AVX-512 with VNNI. Reached only after a check at run time.
 *
 * vpdpbusd multiplies unsigned weights with signed activations and adds four products to 32 bits, without saturation.
 * 8-bit weights are packed with their sign bit flipped, that is with 128 added; nibbles carry an offset of 8. The sums
 * start from minus the offset times the activations' sum: that is the bias, -8 times the sum, or 16 times as much.
 * May include: device, os, base.
 */
#include "device/cpu/kernels.h"
#include "device/cpu/quant_body.h"

#define QUANT_TOKENS 8u

/* The sums stay in registers from one step to the next: see kernels_avx2.c. */
#define KEEP(s)                                                                                                        \
    __asm__ volatile(""                                                                                                \
                     : "+v"((s)[0]), "+v"((s)[1]), "+v"((s)[2]), "+v"((s)[3]), "+v"((s)[4]), "+v"((s)[5]),             \
                       "+v"((s)[6]), "+v"((s)[7])                                                                      \
                     :                                                                                                 \
                     : "memory")

SPI_INLINE __m512i load_q(const uint8_t *q) {
    return _mm512_load_si512(q);
}

SPI_INLINE __m512 load_d(const uint16_t *d) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)d));
}

SPI_INLINE void finish_block(const __m512i s[QUANT_TOKENS], __m512 d, const uint8_t *act, const uint32_t tokens,
                             __m512 sums[QUANT_TOKENS]) {
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++) {
        __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(quant_scale(act, tokens, t)));
        sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[t]), scale, sums[t]);
    }
}

SPI_INLINE void block_q8_0(const packed_q8_0 *quad, uint32_t b, const uint8_t *act, const uint32_t tokens,
                           const bool ahead, __m512 sums[QUANT_TOKENS]) {
    __m512i s[QUANT_TOKENS] = {0};
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++) {
        s[t] = _mm512_slli_epi32(_mm512_set1_epi32(quant_bias_of(act, tokens, t)), 4);
    }
#pragma GCC unroll 8
    for (uint32_t i = 0; i < QUANT_STEPS; i++) {
        __m512i w = load_q(quad->q[b][i]);
        if (ahead) {
            v_ahead(quad->q[b][i]);
        }
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++) {
            s[t] = _mm512_dpbusd_epi32(s[t], w, _mm512_set1_epi32(quant_load(quant_act(act, tokens, i, t))));
        }
        if (tokens > 1) {
            KEEP(s);
        }
    }
    finish_block(s, load_d(quad->d[b]), act, tokens, sums);
}

SPI_INLINE void block_q4_0(const packed_q4_0 *quad, uint32_t b, const uint8_t *act, const uint32_t tokens,
                           const bool ahead, __m512 sums[QUANT_TOKENS]) {
    const __m512i low = _mm512_set1_epi8(15);
    __m512i s[QUANT_TOKENS] = {0};
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++) {
        s[t] = _mm512_set1_epi32(quant_bias_of(act, tokens, t));
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < QUANT_STEPS / 2; i++) {
        __m512i w = load_q(quad->q[b][i]);
        if (ahead) {
            v_ahead(quad->q[b][i]);
        }
        __m512i w0 = _mm512_and_si512(w, low), w1 = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++) {
            s[t] = _mm512_dpbusd_epi32(s[t], w0, _mm512_set1_epi32(quant_load(quant_act(act, tokens, i, t))));
            s[t] = _mm512_dpbusd_epi32(s[t], w1,
                                       _mm512_set1_epi32(quant_load(quant_act(act, tokens, i + QUANT_STEPS / 2, t))));
        }
        if (tokens > 1) {
            KEEP(s);
        }
    }
    finish_block(s, load_d(quad->d[b]), act, tokens, sums);
}

#include "device/cpu/quant_tile_body.h"

static void pack_q8_0(void *packed, const void *source, uint32_t rows, uint32_t cols, uint32_t group_first,
                      uint32_t group_count) {
    quant_pack_q8_0(packed, source, rows, cols, group_first, group_count, 0x80);
}

#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
    return features->avx512_vnni;
}

const spi_cpu_kernels spi_cpu_kernels_avx512 = {.name = "avx512", .available = available, KERNELS_OF_THIS_WIDTH};
