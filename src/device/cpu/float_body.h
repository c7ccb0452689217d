/* device/cpu/float_body.h - products with F32, F16 and BF16 weights, used where the file has them.
 *
 * Lanes run along a row. One token: a row at a time in four chains, so that each thread reads one stream, which memory
 * serves best. Several: FLOAT_ROWS rows x up to FLOAT_TOKENS tokens in registers, each weight widened once for them.
 * Included by float_avx2.c and float_avx512.c.
 */
#ifndef SPI_DEVICE_CPU_FLOAT_BODY_H
#define SPI_DEVICE_CPU_FLOAT_BODY_H

#include "base/half.h"
#include "device/cpu/products.h"
#include "device/cpu/vector.h"

#define FLOAT_ROWS SPI_FLOAT_ROWS
#if defined(__AVX512F__)
#define FLOAT_TOKENS 6u /* 24 sums of 32 registers */
#else
#define FLOAT_TOKENS 3u /* 12 sums of 16 registers */
#endif

/* V_WIDTH weights from element `at` on. */
SPI_INLINE vf float_weights(sp_dtype type, const void *row, size_t at) {
    return type == SP_F32   ? v_load((const float *)row + at)
           : type == SP_F16 ? v_load_f16((const uint16_t *)row + at)
                            : v_load_bf16((const uint16_t *)row + at);
}

SPI_INLINE float float_weight(sp_dtype type, const void *row, size_t at) {
    return type == SP_F32   ? ((const float *)row)[at]
           : type == SP_F16 ? spi_f16_to_f32(((const uint16_t *)row)[at])
                            : spi_bf16_to_f32(((const uint16_t *)row)[at]);
}

/* What is left of a row when whole vectors are done. */
SPI_INLINE float float_rest(sp_dtype type, const void *row, const float *x, uint32_t first, uint32_t cols) {
    float sum = 0;
    for (uint32_t k = first; k < cols; k++) {
        sum += float_weight(type, row, k) * x[k];
    }
    return sum;
}

SPI_INLINE float float_dot(sp_dtype type, const void *row, const float *x, uint32_t cols, const bool ahead) {
    vf sums[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    uint32_t k = 0;
    for (; k + 4 * V_WIDTH <= cols; k += 4 * V_WIDTH) {
        const uint8_t *at = (const uint8_t *)row + (size_t)k * (type == SP_F32 ? 4 : 2);
        for (uint32_t line = 0; ahead && line < 4 * V_WIDTH * (type == SP_F32 ? 4 : 2) / 64; line++) {
            v_ahead(at + line * 64);
        }
#pragma GCC unroll 4
        for (uint32_t u = 0; u < 4; u++) {
            sums[u] = v_fma(float_weights(type, row, k + u * V_WIDTH), v_load(x + k + u * V_WIDTH), sums[u]);
        }
    }
    for (; k + V_WIDTH <= cols; k += V_WIDTH) {
        sums[0] = v_fma(float_weights(type, row, k), v_load(x + k), sums[0]);
    }
    return v_sum(v_add(v_add(sums[0], sums[1]), v_add(sums[2], sums[3]))) + float_rest(type, row, x, k, cols);
}

typedef struct float_tile {
    const uint8_t *rows; /* first row of the tile */
    size_t row_bytes;
    const float *x;
    size_t x_stride;
    float *out;
    size_t out_stride;
    uint32_t cols;
} float_tile;

SPI_INLINE void float_tile_sums(sp_dtype type, const float_tile *tile, const uint32_t rows, const uint32_t tokens) {
    vf sums[FLOAT_ROWS][FLOAT_TOKENS];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r++) {
#pragma GCC unroll 6
        for (uint32_t t = 0; t < tokens; t++) {
            sums[r][t] = v_zero();
        }
    }
    uint32_t k = 0;
    for (; k + V_WIDTH <= tile->cols; k += V_WIDTH) {
        vf x[FLOAT_TOKENS];
#pragma GCC unroll 6
        for (uint32_t t = 0; t < tokens; t++) {
            x[t] = v_load(tile->x + t * tile->x_stride + k);
        }
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) {
            vf w = float_weights(type, tile->rows + r * tile->row_bytes, k);
#pragma GCC unroll 6
            for (uint32_t t = 0; t < tokens; t++) {
                sums[r][t] = v_fma(w, x[t], sums[r][t]);
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r++) {
#pragma GCC unroll 6
        for (uint32_t t = 0; t < tokens; t++) {
            const void *row = tile->rows + r * tile->row_bytes;
            float rest = float_rest(type, row, tile->x + t * tile->x_stride, k, tile->cols);
            tile->out[t * tile->out_stride + r] = v_sum(sums[r][t]) + rest;
        }
    }
}

SPI_INLINE void float_tile_any(sp_dtype type, const float_tile *tile, uint32_t rows, uint32_t tokens) {
    if (rows < FLOAT_ROWS) {
        for (uint32_t r = 0; r < rows; r++) {
            float_tile one = *tile;
            one.rows += r * tile->row_bytes;
            one.out += r;
            for (uint32_t t = 0; t < tokens; t++, one.x += tile->x_stride, one.out += tile->out_stride) {
                float_tile_sums(type, &one, 1, 1);
            }
        }
        return;
    }
    switch (tokens) {
#if FLOAT_TOKENS > 3
    case 6: float_tile_sums(type, tile, FLOAT_ROWS, 6); break;
    case 5: float_tile_sums(type, tile, FLOAT_ROWS, 5); break;
    case 4: float_tile_sums(type, tile, FLOAT_ROWS, 4); break;
#endif
    case 3: float_tile_sums(type, tile, FLOAT_ROWS, 3); break;
    case 2: float_tile_sums(type, tile, FLOAT_ROWS, 2); break;
    default: float_tile_sums(type, tile, FLOAT_ROWS, 1); break;
    }
}

SPI_INLINE void float_product(sp_dtype type, const spi_cpu_product *args) {
    size_t row_bytes = (size_t)args->cols * (type == SP_F32 ? 4 : 2);
    const uint8_t *rows = (const uint8_t *)args->weights + args->row_first * row_bytes;
    if (args->token_count == 1) {
        for (uint32_t r = 0; r < args->row_count; r++) {
            const uint8_t *row = rows + r * row_bytes;
            args->out[r] = args->ahead ? float_dot(type, row, args->acts, args->cols, true)
                                       : float_dot(type, row, args->acts, args->cols, false);
        }
        return;
    }
    for (uint32_t r = 0; r < args->row_count; r += FLOAT_ROWS) {
        uint32_t row_count = args->row_count - r < FLOAT_ROWS ? args->row_count - r : FLOAT_ROWS;
        for (uint32_t t = 0; t < args->token_count; t += FLOAT_TOKENS) {
            uint32_t tokens = args->token_count - t < FLOAT_TOKENS ? args->token_count - t : FLOAT_TOKENS;
            float_tile tile = {.rows = rows + r * row_bytes,
                               .row_bytes = row_bytes,
                               .x = (const float *)args->acts + t * args->act_stride,
                               .x_stride = args->act_stride,
                               .out = args->out + t * args->out_stride + r,
                               .out_stride = args->out_stride,
                               .cols = args->cols};
            float_tile_any(type, &tile, row_count, tokens);
        }
    }
}

#endif
