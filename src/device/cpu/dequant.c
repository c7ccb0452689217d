/* device/cpu/dequant.c - values of weights in f32, in plain C: for EMBED, for the reference and for odd vectors. */
#include <assert.h>
#include <string.h>

#include "base/half.h"
#include "device/cpu/blocks.h"
#include "device/cpu/kernels.h"

static void from_f16(const uint16_t *src, uint32_t count, float *out) {
    for (uint32_t i = 0; i < count; i++) {
        out[i] = spi_f16_to_f32(src[i]);
    }
}

static void from_bf16(const uint16_t *src, uint32_t count, float *out) {
    for (uint32_t i = 0; i < count; i++) {
        out[i] = spi_bf16_to_f32(src[i]);
    }
}

static void from_q8_0(const spi_q8_0 *blocks, uint32_t block_count, float *out) {
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d);
        for (uint32_t j = 0; j < SPI_QUANT_BLOCK; j++) {
            out[b * SPI_QUANT_BLOCK + j] = d * (float)blocks[b].q[j];
        }
    }
}

static void from_q4_0(const spi_q4_0 *blocks, uint32_t block_count, float *out) {
    for (uint32_t b = 0; b < block_count; b++) {
        float d = spi_f16_to_f32(blocks[b].d), *values = out + b * SPI_QUANT_BLOCK;
        for (uint32_t j = 0; j < SPI_QUANT_BLOCK / 2; j++) {
            values[j] = d * (float)((blocks[b].q[j] & 15) - 8);
            values[j + SPI_QUANT_BLOCK / 2] = d * (float)((blocks[b].q[j] >> 4) - 8);
        }
    }
}

void spi_cpu_dequantise(sp_dtype type, const void *row, uint32_t first, uint32_t count, float *out) {
    uint32_t block = sp_dtype_block_elements(type);
    assert(block && first % block == 0 && count % block == 0);
    const uint8_t *from = (const uint8_t *)row + (size_t)(first / block) * sp_dtype_block_bytes(type);
    switch (type) {
    case SP_F32: memcpy(out, from, (size_t)count * sizeof *out); break;
    case SP_F16: from_f16((const uint16_t *)(const void *)from, count, out); break;
    case SP_BF16: from_bf16((const uint16_t *)(const void *)from, count, out); break;
    case SP_Q8_0: from_q8_0((const spi_q8_0 *)(const void *)from, count / block, out); break;
    case SP_Q4_0: from_q4_0((const spi_q4_0 *)(const void *)from, count / block, out); break;
    }
}
