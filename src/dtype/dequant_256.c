/* dtype/dequant_256.c - decoding blocks of 256 values with scaled sub-blocks: see dtype/blocks.h for the formats.
 *
 * A sub-block's scale is rounded to f32 before it meets the values, as in the definition. */
#include "base/half.h"
#include "dtype/blocks.h"
#include "dtype/dequant.h"

/* Two bits of value j: see spi_q2_k. */
static uint32_t two_bits(const uint8_t q[64], uint32_t j) {
    return q[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3u;
}

/* Four bits of value j, in the order of Q4_K. */
static uint32_t four_bits(const uint8_t q[128], uint32_t j) {
    return q[j / 64 * 32 + j % 32] >> (j % 64 / 32 * 4) & 15u;
}

void spi_decode_q2_k(const void *from, uint32_t block_count, float *out) {
    const spi_q2_k *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d), min = spi_f16_to_f32(blocks[b].min);
        for (uint32_t j = 0; j < SPI_SUPER_BLOCK; j++) {
            uint8_t scale = blocks[b].scales[j / 16];
            float step = d * (float)(scale & 15), offset = min * (float)(scale >> 4);
            *out++ = step * (float)two_bits(blocks[b].q, j) - offset;
        }
    }
}

void spi_decode_q3_k(const void *from, uint32_t block_count, float *out) {
    const spi_q3_k *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d);
        for (uint32_t j = 0; j < SPI_SUPER_BLOCK; j++) {
            float step = d * (float)spi_q3_k_scale(blocks[b].scales, j / 16);
            int third = blocks[b].high[j % 32] >> (j / 32) & 1;
            *out++ = step * (float)((int)two_bits(blocks[b].q, j) - (third ? 0 : 4));
        }
    }
}

void spi_decode_q4_k(const void *from, uint32_t block_count, float *out) {
    const spi_q4_k *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d), min = spi_f16_to_f32(blocks[b].min);
        for (uint32_t s = 0; s < 8; s++) {
            uint8_t scale, minimum;
            spi_q4_k_scale(blocks[b].scales, s, &scale, &minimum);
            float step = d * (float)scale, offset = min * (float)minimum;
            for (uint32_t j = s * 32; j < s * 32 + 32; j++) {
                *out++ = step * (float)four_bits(blocks[b].q, j) - offset;
            }
        }
    }
}

void spi_decode_q5_k(const void *from, uint32_t block_count, float *out) {
    const spi_q5_k *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d), min = spi_f16_to_f32(blocks[b].min);
        for (uint32_t s = 0; s < 8; s++) {
            uint8_t scale, minimum;
            spi_q4_k_scale(blocks[b].scales, s, &scale, &minimum);
            float step = d * (float)scale, offset = min * (float)minimum;
            for (uint32_t j = s * 32; j < s * 32 + 32; j++) {
                uint32_t fifth = blocks[b].high[j % 32] >> s & 1u;
                *out++ = step * (float)(four_bits(blocks[b].q, j) | fifth << 4) - offset;
            }
        }
    }
}

void spi_decode_q6_k(const void *from, uint32_t block_count, float *out) {
    const spi_q6_k *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d);
        for (uint32_t j = 0; j < SPI_SUPER_BLOCK; j++) {
            float step = d * (float)blocks[b].scales[j / 16];
            uint32_t low = blocks[b].low[j / 128 * 64 + j % 64] >> (j % 128 / 64 * 4) & 15u;
            *out++ = step * (float)((int)(low | two_bits(blocks[b].high, j) << 4) - 32);
        }
    }
}

void spi_decode_iq4_xs(const void *from, uint32_t block_count, float *out) {
    const spi_iq4_xs *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d);
        for (uint32_t s = 0; s < 8; s++) {
            float step = d * (float)spi_iq4_xs_scale(&blocks[b], s);
            const uint8_t *q = blocks[b].q + s * 16;
            for (uint32_t j = 0; j < 32; j++) {
                *out++ = step * (float)spi_iq4_values[j < 16 ? q[j] & 15 : q[j - 16] >> 4];
            }
        }
    }
}
