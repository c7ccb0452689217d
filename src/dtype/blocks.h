/* dtype/blocks.h - the block formats of quantised weights, as files hold them: little-endian, no padding.
 *
 * GGUF's (github.com/ggml-org/ggml, docs/gguf.md, and the types' own definitions in src/ggml-common.h there).
 * Neighbouring values of a row make a block: 32 of them, or 256 that are cut into sub-blocks with small scales of their
 * own. d and min are f16. In the comments j is the value's place in its block and w its value. May include: base.
 */
#ifndef SPI_DTYPE_BLOCKS_H
#define SPI_DTYPE_BLOCKS_H

#include <stdint.h>

#include "base/half.h"

#define SPI_QUANT_BLOCK 32u
#define SPI_SUPER_BLOCK 256u

/* Nibbles of 32 values: that of j is q[j] & 15 for j < 16, and q[j - 16] >> 4 for the others; called n below. */

/* w = d * q[j] */
typedef struct spi_q8_0 {
    uint16_t d;
    int8_t q[32];
} spi_q8_0;

/* w = d * (n - 8) */
typedef struct spi_q4_0 {
    uint16_t d;
    uint8_t q[16];
} spi_q4_0;

/* w = d * n + min */
typedef struct spi_q4_1 {
    uint16_t d, min;
    uint8_t q[16];
} spi_q4_1;

/* w = d * ((n | fifth << 4) - 16), where bit j of the 32 in `high` is the fifth bit */
typedef struct spi_q5_0 {
    uint16_t d;
    uint8_t high[4];
    uint8_t q[16];
} spi_q5_0;

/* w = d * (n | fifth << 4) + min */
typedef struct spi_q5_1 {
    uint16_t d, min;
    uint8_t high[4];
    uint8_t q[16];
} spi_q5_1;

/* w = d * spi_iq4_values[n] */
typedef struct spi_iq4_nl {
    uint16_t d;
    uint8_t q[16];
} spi_iq4_nl;

/* w = 2^(exponent - 128) * spi_mxfp4_values[n]: the OCP Microscaling Formats (MX) Specification 1.0's MXFP4, whose
 * scale is E8M0 with the bias 127, with E2M1 values doubled. Its NaN, the exponent 255, is the number 2^127 here as in
 * ggml. */
typedef struct spi_mxfp4 {
    uint8_t exponent;
    uint8_t q[16];
} spi_mxfp4;

/* Sixteen sub-blocks of 16. w = d * (scales[j / 16] & 15) * n - min * (scales[j / 16] >> 4), where n has 2 bits: of the
 * 128 values from j / 128 * 128 on, each 32 take the next higher two bits of the same 32 bytes. */
typedef struct spi_q2_k {
    uint8_t scales[16];
    uint8_t q[64];
    uint16_t d, min;
} spi_q2_k;

/* Sixteen sub-blocks of 16. w = d * (scale - 32) * (n - (third ? 0 : 4)), where n is as in Q2_K and `third` is bit j /
 * 32 of high[j % 32]. The 6-bit scale of sub-block s: its low four bits are a nibble of scales[s % 8], the high one for
 * s >= 8; its high two are at bit s / 4 * 2 of scales[8 + s % 4]. */
typedef struct spi_q3_k {
    uint8_t high[32];
    uint8_t q[64];
    uint8_t scales[12];
    uint16_t d;
} spi_q3_k;

/* Eight sub-blocks of 32. w = d * scale * n - min * minimum. Of each 64 values the first 32 are the low nibbles of 32
 * bytes and the others the high ones. The 6-bit scale and minimum of sub-block s: spi_q4_k_scale. */
typedef struct spi_q4_k {
    uint16_t d, min;
    uint8_t scales[12];
    uint8_t q[128];
} spi_q4_k;

/* As Q4_K with n of 5 bits: the fifth is bit j / 32 of high[j % 32]. */
typedef struct spi_q5_k {
    uint16_t d, min;
    uint8_t scales[12];
    uint8_t high[32];
    uint8_t q[128];
} spi_q5_k;

/* Sixteen sub-blocks of 16. w = d * scales[j / 16] * (n - 32), n of 6 bits. Of each 128 values: the low four bits of
 * the first 64 are the low nibbles of 64 bytes of `low`, those of the others the high ones; each 32 take the next
 * higher two bits of the same 32 bytes of `high`. */
typedef struct spi_q6_k {
    uint8_t low[128];
    uint8_t high[64];
    int8_t scales[16];
    uint16_t d;
} spi_q6_k;

/* Eight sub-blocks of 32, each with its nibbles in 16 bytes as IQ4_NL has them. w = d * (scale - 32) *
 * spi_iq4_values[n]. The 6-bit scale of sub-block s: low four bits from a nibble of scales_low[s / 2], high two from
 * bit 2 * s of scales_high. */
typedef struct spi_iq4_xs {
    uint16_t d;
    uint16_t scales_high;
    uint8_t scales_low[4];
    uint8_t q[128];
} spi_iq4_xs;

/* The non-linear values of IQ4_NL and IQ4_XS (kvalues_iq4nl of ggml-common.h), and E2M1 doubled. dequant_32.c */
extern const int8_t spi_iq4_values[16];
extern const int8_t spi_mxfp4_values[16];

static inline float spi_mxfp4_scale(uint8_t exponent) {
    /* 2^-128 and 2^-127 are subnormal in f32. */
    return spi_bits_to_f32(exponent < 2 ? 0x00200000u << exponent : (uint32_t)(exponent - 1) << 23);
}

/* The 6-bit scale and minimum of sub-block s of Q4_K and Q5_K. For s < 4 these are the low six bits of bytes s and s +
 * 4; the others have their low four bits in byte s + 4 (low nibble: scale) and their high two in what those left
 * over. */
static inline void spi_q4_k_scale(const uint8_t scales[12], uint32_t s, uint8_t *scale, uint8_t *minimum) {
    if (s < 4) {
        *scale = scales[s] & 63;
        *minimum = scales[s + 4] & 63;
    } else {
        *scale = (uint8_t)((scales[s + 4] & 15) | scales[s - 4] >> 6 << 4);
        *minimum = (uint8_t)(scales[s + 4] >> 4 | scales[s] >> 6 << 4);
    }
}

static inline int spi_q3_k_scale(const uint8_t scales[12], uint32_t s) {
    int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
    return (low | (scales[8 + s % 4] >> (s / 4 * 2) & 3) << 4) - 32;
}

static inline int spi_iq4_xs_scale(const spi_iq4_xs *block, uint32_t s) {
    int low = block->scales_low[s / 2] >> (s % 2 * 4) & 15;
    return (low | (block->scales_high >> (2 * s) & 3) << 4) - 32;
}

_Static_assert(sizeof(spi_q8_0) == 34 && sizeof(spi_q4_0) == 18 && sizeof(spi_q4_1) == 20 && sizeof(spi_q5_0) == 22 &&
                   sizeof(spi_q5_1) == 24 && sizeof(spi_iq4_nl) == 18 && sizeof(spi_mxfp4) == 17,
               "blocks lie in files without padding");
_Static_assert(sizeof(spi_q2_k) == 84 && sizeof(spi_q3_k) == 110 && sizeof(spi_q4_k) == 144 &&
                   sizeof(spi_q5_k) == 176 && sizeof(spi_q6_k) == 210 && sizeof(spi_iq4_xs) == 136,
               "blocks lie in files without padding");

#endif
