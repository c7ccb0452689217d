/* device/cpu/quant_tile_body.h - products with packed weights, around an instruction set's own block_q8_0 and block_q4_0.
 *
 * One group of rows with one tile of tokens at a time: the group's weights stay in the first-level cache for all tiles.
 * Included by kernels_avx2.c and kernels_avx512.c, behind their block functions and QUANT_TOKENS, the largest tile.
 */
#ifndef SPI_DEVICE_CPU_QUANT_TILE_BODY_H
#define SPI_DEVICE_CPU_QUANT_TILE_BODY_H

#include "device/cpu/quant_body.h"

SPI_INLINE size_t quant_quad_bytes(sp_dtype type) {
    return type == SP_Q8_0 ? sizeof(packed_q8_0) : sizeof(packed_q4_0);
}

/* Block `b` of the four that stand together at `quad`. */
SPI_INLINE void quant_block(sp_dtype type, const uint8_t *quad, uint32_t b, const uint8_t *act, const uint32_t tokens,
                            const bool ahead, vf sums[QUANT_TOKENS]) {
    if (type == SP_Q8_0) {
        block_q8_0((const packed_q8_0 *)(const void *)quad, b, act, tokens, ahead, sums);
    } else {
        block_q4_0((const packed_q4_0 *)(const void *)quad, b, act, tokens, ahead, sums);
    }
}

SPI_INLINE void quant_tile(sp_dtype type, const uint8_t *quads, uint32_t blocks, const uint8_t *act,
                           const uint32_t tokens, const bool ahead, float *out, size_t out_stride) {
    const size_t quad_bytes = quant_quad_bytes(type), act_bytes = (size_t)SPI_I8_TOKEN_BYTES * tokens;
    vf sums[QUANT_TOKENS];
#pragma GCC unroll 8
    for (uint32_t t = 0; t < QUANT_TOKENS; t++) {
        sums[t] = v_zero();
    }
    uint32_t b = 0;
    for (; b + QUANT_BLOCKS <= blocks; b += QUANT_BLOCKS, quads += quad_bytes) {
        for (uint32_t at = 0; ahead && at < QUANT_BLOCKS * QUANT_ROWS * sizeof(uint16_t); at += 64) {
            v_ahead(quads + at); /* the scales; blocks ask for their own */
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < QUANT_BLOCKS; i++) {
            quant_block(type, quads, i, act + i * act_bytes, tokens, ahead, sums);
        }
        act += QUANT_BLOCKS * act_bytes;
    }
    for (; b < blocks; b++, act += act_bytes) {
        quant_block(type, quads, b % QUANT_BLOCKS, act, tokens, ahead, sums);
    }
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++) {
        v_store(out + t * out_stride, sums[t]);
    }
}

SPI_INLINE void quant_product(sp_dtype type, const spi_cpu_product *args) {
    uint32_t blocks = args->cols / SPI_QUANT_BLOCK;
    size_t group_bytes = quant_quads(args->cols) * quant_quad_bytes(type);
    for (uint32_t r = 0; r < args->row_count; r += QUANT_ROWS) {
        const uint8_t *group = (const uint8_t *)args->weights + (args->row_first + r) / QUANT_ROWS * group_bytes;
        const uint8_t *act = args->acts;
        float *out = args->out + r;
        if (args->token_count == 1 && args->ahead) {
            quant_tile(type, group, blocks, act, 1, true, out, args->out_stride);
            continue;
        }
        for (uint32_t t = 0, tile; t < args->token_count; t += tile) {
            tile = spi_i8_tile_tokens(args->token_count - t, QUANT_TOKENS);
            switch (tile) {
#if QUANT_TOKENS > 4
            case 8: quant_tile(type, group, blocks, act, 8, false, out, args->out_stride); break;
#endif
            case 4: quant_tile(type, group, blocks, act, 4, false, out, args->out_stride); break;
            case 2: quant_tile(type, group, blocks, act, 2, false, out, args->out_stride); break;
            default: quant_tile(type, group, blocks, act, 1, false, out, args->out_stride); break;
            }
            act += (size_t)SPI_I8_TOKEN_BYTES * tile * blocks;
            out += tile * args->out_stride;
        }
    }
}

static void quant_product_q8_0(const spi_cpu_product *args) {
    quant_product(SP_Q8_0, args);
}

static void quant_product_q4_0(const spi_cpu_product *args) {
    quant_product(SP_Q4_0, args);
}

#endif
