/* device/kv.c - see kv.h. */
#include "device/kv.h"

#include <string.h>

#include "base/half.h"
#include "dtype/blocks.h"
#include "dtype/quant.h"

_Static_assert(SPI_KV_SCALE_COLUMNS == sizeof((spi_q8_0){0}.q), "a scale is for what a block of Q8_0 has");

uint64_t spi_kv_block_bytes(sp_kv_type type, uint32_t layers, uint32_t kv_heads, uint32_t head_dim) {
    spi_kv_shape shape = {.type = type, .layers = layers, .kv_heads = kv_heads, .head_dim = head_dim};
    uint64_t bytes = (uint64_t)layers * 2 * kv_heads * spi_kv_head_bytes(&shape);
    return (bytes + SPI_KV_BLOCK_PAD_BYTES - 1) / SPI_KV_BLOCK_PAD_BYTES * SPI_KV_BLOCK_PAD_BYTES;
}

void spi_kv_encode_q8(const float *row, uint32_t count, int8_t *codes, uint16_t *scales) {
    for (uint32_t i = 0; i < count / SPI_KV_SCALE_COLUMNS; i++) {
        spi_q8_0 block;
        spi_encode_q8_0(row + (size_t)i * SPI_KV_SCALE_COLUMNS, &block);
        memcpy(codes + (size_t)i * SPI_KV_SCALE_COLUMNS, block.q, sizeof block.q);
        scales[i] = block.d;
    }
}

static uint16_t half_at(const uint8_t *bytes) {
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return half;
}

float spi_kv_value(const spi_kv_shape *shape, const uint8_t *blocks, uint32_t layer, uint32_t which, uint32_t head,
                   uint32_t position, uint32_t column) {
    const uint8_t *row = blocks + spi_kv_row_offset(shape, layer, which, head, position);
    if (!spi_kv_is_q8(shape)) {
        return spi_f16_to_f32(half_at(row + (size_t)column * 2));
    }
    const uint8_t *scales = blocks + spi_kv_scale_offset(shape, layer, which, head, position);
    float scale = spi_f16_to_f32(half_at(scales + (size_t)(column / SPI_KV_SCALE_COLUMNS) * 2));
    return scale * (float)(int8_t)row[column];
}
