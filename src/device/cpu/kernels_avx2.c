/* device/cpu/kernels_avx2.c - the table for AVX2 with FMA and F16C (x86-64-v3). Reached only after a check at run time.
 *
 * The 8-bit product: |w| is unsigned and x takes w's sign, which vpmaddubsw then multiplies and adds in pairs: at most
 * 2 * 128 * 127, which fits 16 bits, even for the weight -128. The 4-bit product: nibbles are unsigned as they are; their
 * offset of 8 is in the activations' bias, from which the 16-bit sums start, and eight steps of them cannot leave
 * 16 bits (the bias included: at most 8 * 16 * 127). May include: device, os, base.
 */
#include "device/cpu/kernels.h"
#include "device/cpu/quant_body.h"

#define QUANT_TOKENS 4u

/* The sums stay in registers from one step to the next: without being told so, compilers reorder all loads of a block
 * before its sums and spill (measured: 150 in place of 360 GOP/s). */
#define KEEP(s) __asm__ volatile("" : "+x"((s)[0]), "+x"((s)[1]), "+x"((s)[2]), "+x"((s)[3]) : : "memory")

SPI_INLINE __m256i load_q(const uint8_t *q) {
    return _mm256_load_si256((const __m256i *)(const void *)q);
}

SPI_INLINE __m256 load_d(const uint16_t *d) {
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)d));
}

SPI_INLINE void finish_block(const __m256i s[QUANT_TOKENS], __m256 d, const uint8_t *act, const uint32_t tokens,
                             __m256 sums[QUANT_TOKENS]) {
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
        __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(quant_scale(act, tokens, t)));
        sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[t]), scale, sums[t]);
    }
}

SPI_INLINE void block_q8_0(const packed_q8_0 *quad, uint32_t b, const uint8_t *act, const uint32_t tokens,
                           const bool ahead, __m256 sums[QUANT_TOKENS]) {
    const __m256i one = _mm256_set1_epi16(1);
    __m256i s[QUANT_TOKENS] = {0};
#pragma GCC unroll 8
    for (uint32_t i = 0; i < QUANT_STEPS; i++) {
        __m256i w = load_q(quad->q[b][i]), positive = _mm256_abs_epi8(w);
        if (ahead && i % 2 == 0) {
            v_ahead(quad->q[b][i]);
        }
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++) {
            __m256i x = _mm256_set1_epi32(quant_load(quant_act(act, tokens, i, t)));
            __m256i pairs = _mm256_maddubs_epi16(positive, _mm256_sign_epi8(x, w));
            s[t] = _mm256_add_epi32(s[t], _mm256_madd_epi16(pairs, one));
        }
        if (tokens > 1) {
            KEEP(s);
        }
    }
    finish_block(s, load_d(quad->d[b]), act, tokens, sums);
}

SPI_INLINE void block_q4_0(const packed_q4_0 *quad, uint32_t b, const uint8_t *act, const uint32_t tokens,
                           const bool ahead, __m256 sums[QUANT_TOKENS]) {
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
    __m256i s[QUANT_TOKENS] = {0};
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
        s[t] = _mm256_set1_epi32(quant_bias_of(act, tokens, t));
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < QUANT_STEPS / 2; i++) {
        __m256i w = load_q(quad->q[b][i]);
        if (ahead && i % 2 == 0) {
            v_ahead(quad->q[b][i]);
        }
        __m256i w0 = _mm256_and_si256(w, low), w1 = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++) {
            __m256i x0 = _mm256_set1_epi32(quant_load(quant_act(act, tokens, i, t)));
            __m256i x1 = _mm256_set1_epi32(quant_load(quant_act(act, tokens, i + QUANT_STEPS / 2, t)));
            s[t] = _mm256_add_epi16(s[t], _mm256_maddubs_epi16(w0, x0));
            s[t] = _mm256_add_epi16(s[t], _mm256_maddubs_epi16(w1, x1));
        }
        if (tokens > 1) {
            KEEP(s);
        }
    }
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
        s[t] = _mm256_madd_epi16(s[t], one);
    }
    finish_block(s, load_d(quad->d[b]), act, tokens, sums);
}

#include "device/cpu/quant_tile_body.h"

static void pack_q8_0(void *packed, const void *source, uint32_t rows, uint32_t cols, uint32_t group_first,
                      uint32_t group_count) {
    quant_pack_q8_0(packed, source, rows, cols, group_first, group_count, 0);
}

#include "device/cpu/table_body.h"

static bool available(const spi_cpu_features *features) {
    return features->avx2_fma_f16c;
}

const spi_cpu_kernels spi_cpu_kernels_avx2 = {.name = "avx2", .available = available, KERNELS_OF_THIS_WIDTH};
