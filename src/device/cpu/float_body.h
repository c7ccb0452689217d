/* device/cpu/float_body.h - products with F32, F16 and BF16 weights, as the file has them: on Arm (on x86 weights are
 * turned round: turned_body.h, amx_bf16_body.h).
 *
 * Lanes run along a row. One token: a row at a time in four chains, so that each thread reads one stream, which memory
 * serves best. Several: FLOAT_ROWS rows x up to FLOAT_TOKENS tokens in registers. Tiles are small, so weights are
 * widened to f32 once for all of them, a slice of some rows at a time. Included by float_*.c.
 */
#ifndef SPI_DEVICE_CPU_FLOAT_BODY_H
#define SPI_DEVICE_CPU_FLOAT_BODY_H

#include "base/half.h"
#include "device/cpu/products.h"
#include "device/cpu/vector.h"

#define FLOAT_ROWS   4u
#define FLOAT_TOKENS 3u /* 12 sums, of the 16 registers that narrow vectors of two leave */
/* Widened weights and a tile's activations fit into the first-level cache together: with 4 rows x 1024 columns, a third
 * of the speed is gone. */
#define FLOAT_WIDE_ROWS SPI_FLOAT_ROWS
#define FLOAT_SLICE     512u
_Static_assert(sizeof(float[FLOAT_WIDE_ROWS][FLOAT_SLICE]) <= SPI_FLOAT_SCRATCH_BYTES, "see products.h");

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

SPI_INLINE float float_dot(sp_dtype type, const void *row, const float *x, uint32_t cols) {
    vf sums[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    uint32_t k = 0;
    for (; k + 4 * V_WIDTH <= cols; k += 4 * V_WIDTH) {
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
    const uint8_t *rows; /* their first column of this slice */
    size_t row_bytes;
    const float *x;
    size_t x_stride;
    float *out;
    size_t out_stride;
    uint32_t cols;
    bool first; /* out is set, not added to */
} float_tile;

/* `rows` is FLOAT_ROWS, or 1. */
SPI_INLINE void float_tile_sums(sp_dtype type, const float_tile *tile, const uint32_t rows, const uint32_t tokens) {
    vf sums[(FLOAT_TOKENS + 1) * FLOAT_ROWS];
#pragma GCC unroll 12
    for (uint32_t i = 0; i < FLOAT_TOKENS * FLOAT_ROWS; i++) {
        sums[i] = v_zero();
    }
    uint32_t k = 0;
    for (; k + V_WIDTH <= tile->cols; k += V_WIDTH) {
        vf x[FLOAT_TOKENS];
#pragma GCC unroll 3
        for (uint32_t t = 0; t < tokens; t++) {
            x[t] = v_load(tile->x + t * tile->x_stride + k);
        }
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) {
            vf w = float_weights(type, tile->rows + r * tile->row_bytes, k);
#pragma GCC unroll 3
            for (uint32_t t = 0; t < tokens; t++) {
                sums[t * FLOAT_ROWS + r] = v_fma(w, x[t], sums[t * FLOAT_ROWS + r]);
            }
        }
    }
    float results[(FLOAT_TOKENS + 1) * FLOAT_ROWS];
    for (uint32_t r = 0; r < FLOAT_ROWS && tokens % 2; r++) {
        sums[tokens * FLOAT_ROWS + r] = sums[r]; /* for an even number of tokens */
    }
#pragma GCC unroll 3
    for (uint32_t t = 0; t < tokens; t += 2) {
        v_store_eight(results + (size_t)t * FLOAT_ROWS, v_sums(sums + (size_t)t * FLOAT_ROWS));
    }
    for (uint32_t t = 0; t < tokens; t++) {
        float *out = tile->out + t * tile->out_stride;
        for (uint32_t r = 0; r < rows; r++) {
            const float *x = tile->x + t * tile->x_stride;
            float sum =
                results[t * FLOAT_ROWS + r] + float_rest(type, tile->rows + r * tile->row_bytes, x, k, tile->cols);
            out[r] = tile->first ? sum : out[r] + sum;
        }
    }
}

SPI_INLINE void float_tile_tokens(sp_dtype type, const float_tile *tile, const uint32_t rows, uint32_t tokens) {
    switch (tokens) {
    case 3: float_tile_sums(type, tile, rows, 3); break;
    case 2: float_tile_sums(type, tile, rows, 2); break;
    default: float_tile_sums(type, tile, rows, 1); break;
    }
}

/* The instance that prefill is made of stands alone: around it, compilers have other uses for its registers. */
static __attribute__((noinline, unused)) void float_wide_tile(const float_tile *tile) {
    float_tile_sums(SP_F32, tile, FLOAT_ROWS, FLOAT_TOKENS);
}

/* FLOAT_ROWS rows, or a few at the matrix's end, which are taken one by one. */
SPI_INLINE void float_tile_any(sp_dtype type, const float_tile *tile, uint32_t rows, uint32_t tokens) {
    if (rows == FLOAT_ROWS) {
        float_tile_tokens(type, tile, FLOAT_ROWS, tokens);
        return;
    }
    float_tile one = *tile;
    for (uint32_t r = 0; r < rows; r++, one.rows += tile->row_bytes, one.out++) {
        float_tile_tokens(type, &one, 1, tokens);
    }
}

SPI_INLINE void float_widen(sp_dtype type, const uint8_t *row, uint32_t count, float *out) {
    uint32_t k = 0;
    for (; k + V_WIDTH <= count; k += V_WIDTH) {
        v_store(out + k, float_weights(type, row, k));
    }
    for (; k < count; k++) {
        out[k] = float_weight(type, row, k);
    }
}

typedef struct float_slice {
    uint32_t row, rows; /* of the product's */
    uint32_t col, cols;
    const uint8_t *next; /* the next slice, or NULL; rows are row_bytes apart */
    size_t row_bytes, bytes;
} float_slice;

/* Asks for a part of the next slice, so that memory works while sums are made. */
SPI_INLINE void float_ask(const float_slice *slice, size_t part, size_t parts) {
    size_t lines = FLOAT_WIDE_ROWS * slice->bytes / 64, end = lines * (part + 1) / parts;
    for (size_t line = lines * part / parts; line < end && slice->next; line++) {
        size_t at = line * 64 / slice->bytes * slice->row_bytes + line * 64 % slice->bytes;
        v_fetch((const char *)slice->next + at);
    }
}

/* A widened slice with all tokens. */
static void float_wide_tiles(const spi_cpu_product *args, const float_slice *slice) {
    const uint32_t tiles = (args->token_count - 1) / FLOAT_TOKENS + 1;
    for (uint32_t i = 0; i < tiles; i++) {
        uint32_t t = i * FLOAT_TOKENS;
        uint32_t tokens = args->token_count - t < FLOAT_TOKENS ? args->token_count - t : FLOAT_TOKENS;
        float_tile tile = {.rows = args->scratch,
                           .row_bytes = FLOAT_SLICE * sizeof(float),
                           .x = (const float *)args->acts + t * args->act_stride + slice->col,
                           .x_stride = args->act_stride,
                           .out = args->out + t * args->out_stride + slice->row,
                           .out_stride = args->out_stride,
                           .cols = slice->cols,
                           .first = slice->col == 0};
        float_ask(slice, i, tiles);
        for (uint32_t r = 0; r < slice->rows; r += FLOAT_ROWS) {
            uint32_t rows = slice->rows - r < FLOAT_ROWS ? slice->rows - r : FLOAT_ROWS;
            if (rows == FLOAT_ROWS && tokens == FLOAT_TOKENS) {
                float_wide_tile(&tile);
            } else {
                float_tile_any(SP_F32, &tile, rows, tokens);
            }
            tile.rows += FLOAT_ROWS * tile.row_bytes;
            tile.out += FLOAT_ROWS;
        }
    }
}

SPI_INLINE void float_wide_product(sp_dtype type, const spi_cpu_product *args) {
    const size_t bytes = type == SP_F32 ? 4 : 2, row_bytes = args->cols * bytes;
    const uint8_t *from = (const uint8_t *)args->weights + args->row_first * row_bytes;
    float_slice slice = {.row_bytes = row_bytes, .bytes = FLOAT_SLICE * bytes};
    for (uint32_t row = 0; row < args->row_count; row += FLOAT_WIDE_ROWS, from += FLOAT_WIDE_ROWS * row_bytes) {
        uint32_t rows_left = args->row_count - row;
        slice.row = row;
        slice.rows = rows_left < FLOAT_WIDE_ROWS ? rows_left : FLOAT_WIDE_ROWS;
        for (uint32_t k = 0; k < args->cols; k += FLOAT_SLICE) {
            slice.col = k;
            slice.cols = args->cols - k < FLOAT_SLICE ? args->cols - k : FLOAT_SLICE;
            for (uint32_t r = 0; r < slice.rows; r++) {
                float_widen(type, from + r * row_bytes + k * bytes, slice.cols,
                            (float *)args->scratch + (size_t)r * FLOAT_SLICE);
            }
            bool last = k + FLOAT_SLICE >= args->cols;
            bool full = rows_left >= (last ? 2 : 1) * FLOAT_WIDE_ROWS && args->cols % FLOAT_SLICE == 0;
            slice.next = !full ? NULL : last ? from + FLOAT_WIDE_ROWS * row_bytes : from + (k + FLOAT_SLICE) * bytes;
            float_wide_tiles(args, &slice);
        }
    }
}

/* Of few tokens weights are widened each time; slice by slice where many are, so that sums are added up in one
 * order. */
SPI_INLINE void float_few_tokens(sp_dtype type, const spi_cpu_product *args, uint32_t row, uint32_t token) {
    const size_t bytes = type == SP_F32 ? 4 : 2, row_bytes = args->cols * bytes;
    const uint32_t rows = args->row_count - row, tokens = args->token_count - token;
    for (uint32_t k = 0; k < args->cols; k += FLOAT_SLICE) {
        float_tile tile = {.rows = (const uint8_t *)args->weights + (args->row_first + row) * row_bytes + k * bytes,
                           .row_bytes = row_bytes,
                           .x = (const float *)args->acts + token * args->act_stride + k,
                           .x_stride = args->act_stride,
                           .out = args->out + token * args->out_stride + row,
                           .out_stride = args->out_stride,
                           .cols = args->cols - k < FLOAT_SLICE ? args->cols - k : FLOAT_SLICE,
                           .first = k == 0};
        float_tile_any(type, &tile, rows < FLOAT_ROWS ? rows : FLOAT_ROWS,
                       tokens < FLOAT_TOKENS ? tokens : FLOAT_TOKENS);
    }
}

SPI_INLINE void float_few_product(sp_dtype type, const spi_cpu_product *args) {
    for (uint32_t row = 0; row < args->row_count; row += FLOAT_ROWS) {
        for (uint32_t token = 0; token < args->token_count; token += FLOAT_TOKENS) {
            float_few_tokens(type, args, row, token);
        }
    }
}

SPI_INLINE void float_product(sp_dtype type, const spi_cpu_product *args) {
    size_t row_bytes = (size_t)args->cols * (type == SP_F32 ? 4 : 2);
    const uint8_t *rows = (const uint8_t *)args->weights + args->row_first * row_bytes;
    if (args->token_count == 1) {
        for (uint32_t r = 0; r < args->row_count; r++) {
            args->out[r] = float_dot(type, rows + r * row_bytes, args->acts, args->cols);
        }
        return;
    }
    if (args->token_count > FLOAT_TOKENS) {
        float_wide_product(type, args);
        return;
    }
    float_few_product(type, args);
}

#endif
