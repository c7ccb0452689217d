/* dtype/dequant_32.c - decoding blocks of 32 values: see dtype/blocks.h for the formats. */
#include "base/half.h"
#include "dtype/blocks.h"
#include "dtype/dequant.h"

const int8_t spi_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t spi_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static uint32_t nibble(const uint8_t q[16], uint32_t j) {
    return j < 16 ? q[j] & 15u : (uint32_t)q[j - 16] >> 4;
}

/* With the fifth bit on top. */
static uint32_t five_bits(const uint8_t q[16], const uint8_t high[4], uint32_t j) {
    return nibble(q, j) | (high[j / 8] >> j % 8 & 1u) << 4;
}

void spi_decode_q8_0(const void *from, uint32_t block_count, float *out) {
    const spi_q8_0 *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d);
        for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
            *out++ = d * (float)blocks[b].q[j];
        }
    }
}

void spi_decode_q4_0(const void *from, uint32_t block_count, float *out) {
    const spi_q4_0 *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d);
        for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
            *out++ = d * (float)((int)nibble(blocks[b].q, j) - 8);
        }
    }
}

void spi_decode_q4_1(const void *from, uint32_t block_count, float *out) {
    const spi_q4_1 *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d), min = spi_f16_to_f32(blocks[b].min);
        for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
            *out++ = d * (float)nibble(blocks[b].q, j) + min;
        }
    }
}

void spi_decode_q5_0(const void *from, uint32_t block_count, float *out) {
    const spi_q5_0 *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d);
        for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
            *out++ = d * (float)((int)five_bits(blocks[b].q, blocks[b].high, j) - 16);
        }
    }
}

void spi_decode_q5_1(const void *from, uint32_t block_count, float *out) {
    const spi_q5_1 *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d), min = spi_f16_to_f32(blocks[b].min);
        for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
            *out++ = d * (float)five_bits(blocks[b].q, blocks[b].high, j) + min;
        }
    }
}

void spi_decode_iq4_nl(const void *from, uint32_t block_count, float *out) {
    const spi_iq4_nl *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d);
        for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
            *out++ = d * (float)spi_iq4_values[nibble(blocks[b].q, j)];
        }
    }
}

void spi_decode_mxfp4(const void *from, uint32_t block_count, float *out) {
    const spi_mxfp4 *blocks = from;
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_mxfp4_scale(blocks[b].exponent);
        for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
            *out++ = d * (float)spi_mxfp4_values[nibble(blocks[b].q, j)];
        }
    }
}
